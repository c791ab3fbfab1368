"""Measures candidates, and the probes of a calibration, on a phone."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TimingError
from phonesearch.onnx_export.recipe import Parts, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.phone.adb import Adb
from phonesearch.phone.clock import Clock
from phonesearch.phone.conditions import Tried
from phonesearch.phone.device import PhoneReport
from phonesearch.phone.judge import Limits
from phonesearch.phone.link import PATIENCE_S
from phonesearch.phone.lock import phone_held
from phonesearch.phone.protocol import Bench, Reference, host_graph
from phonesearch.phone.pushed import PhoneModel
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.say import Say, say_nothing
from phonesearch.phone.session import Session
from phonesearch.phone.sweep import best_choice
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.exchange import WorkerResult
from phonesearch.timing.probes import DecoderProbe, Probe
from phonesearch.timing.turn import check_settings, inspect_graph, turn_stretches
from phonesearch.units import KIB, MIB

LAST_CACHE_BYTES: Final = 8 * MIB
"""Of a phone that does not tell, as most do not tell the shell user. An assumption in the middle of
what recent ones have (L3 of 4 to 12 MiB); a calibration looks for the share that fits its times, an
eighth to twice of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneSettings:
    """How a phone is measured."""

    cpus: tuple[int, ...] | None = None
    """Cores to run on; by default the prime and the big ones."""
    num_threads: int | None = None
    """By default as many as cores."""
    check: Literal["each", "once"] = "each"
    """Whose logits are compared with this computer's before anything is timed: those of `each`
    candidate, or those of the reference `once` a session. Each costs this computer an export and a
    short run (PhoneLM-1.5B: 6 s and 1.1 GB of memory on two cores), and the phone two short runs;
    it shows that the phone runs the very model, whatever its shape. Of others it is known that the
    weights have the right size and all numbers are finite."""
    check_largest_bytes: int = 2048 * MIB
    """Weights of candidates above this, about 4B parameters, are not checked themselves even so:
    this computer needs as much memory for it."""
    patience_s: float = PATIENCE_S
    """For which a phone whose cable was pulled is waited for."""
    max_seconds: int = 600
    """Of one run on the phone, loading included."""
    reference: Reference = field(default_factory=Reference)
    limits: Limits = field(default_factory=Limits)


class PhoneBackend:
    """One phone on which things are timed; a context manager.

    As a `timing.probe_run.Timer` it brings small decoders to the phone as recipes and operators
    as whole graphs.
    """

    def __init__(
        self,
        adb: Adb,
        library: RuntimeLibrary,
        settings: PhoneSettings | None = None,
        *,
        cache: Path | None = None,
        clock: Clock | None = None,
        say: Say | None = None,
    ) -> None:
        """Nothing is asked of the phone before the `with` block.

        Args:
            adb: With a phone chosen.
            library: ONNX Runtime that is to run there.
            settings: How to measure.
            cache: Folder of the user's caches that is ours. There other sessions of this account
                see that this phone is in use, and a sweep may have kept its best cores, which are
                used where `settings` names none. None for neither: then it is the caller's to see
                that nobody else uses the phone.
            clock: How waiting is done.
            say: Told in one line what is waited for, done anew, or takes long. None: nobody is.
        """
        self._cache = cache
        self.settings = settings or PhoneSettings()
        self._adb = adb
        self._library = library
        self._clock = clock
        self._say = say or say_nothing
        self._stack = ExitStack()
        self._bench: Bench | None = None
        self._folder = Path()
        self._parts: Parts | None = None

    def __enter__(self) -> Self:
        """Make the phone ready.

        Raises:
            PhoneInUseError: If another session works with it.
            PhoneNotFitError: If it is of a kind, or in a state, that is not measured.
            PhoneError: If it cannot be reached or made ready.
        """
        with ExitStack() as stack:
            if self._cache is not None and self._adb.serial is not None:
                stack.enter_context(phone_held(self._adb.serial, cache=self._cache))
            self._folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="phonesearch-"))
            )
            self._parts = Parts(self._folder / "parts")
            session = stack.enter_context(
                Session(
                    self._adb,
                    self._library,
                    patience_s=self.settings.patience_s,
                    clock=self._clock,
                    say=self._say,
                )
            )
            self._bench = stack.enter_context(
                Bench(
                    session,
                    parts=self._parts,
                    folder=self._folder / "reference",
                    cpus=self.settings.cpus,
                    num_threads=self.settings.num_threads,
                    reference=self.settings.reference,
                    limits=self.settings.limits,
                    max_seconds=self.settings.max_seconds,
                    clock=self._clock,
                    say=self._say,
                )
            )
            self._stack = stack.pop_all()
        if self.settings.cpus is None and self._cache is not None:
            best = best_choice(self.report.identity, cache=self._cache)
            if best is not None:
                self.bench.choose(best.cpus, self.settings.num_threads or best.num_threads)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take all models from the phone."""
        self._stack.close()

    def stop(self) -> None:
        """Begin nothing more on the phone, as when the user breaks off; from any thread."""
        if self._bench is not None:
            self._bench.session.link.stop()

    @property
    def bench(self) -> Bench:
        """What measures; only within the `with` block."""
        assert self._bench is not None, "only within the `with` block"
        return self._bench

    @property
    def report(self) -> PhoneReport:
        """The phone when this began."""
        return self.bench.start

    @property
    def num_threads(self) -> int:
        """Threads inside an operator."""
        return self.bench.num_threads

    @property
    def fingerprint(self) -> str:
        """The phone in words, with its build and the cores that are used."""
        identity = self.report.identity
        name = " ".join(filter(None, (identity.maker, identity.model))) or "a phone"
        cores = ",".join(str(cpu) for cpu in self.bench.cpus)
        android = f"Android {identity.android}" if identity.android else None
        told = (name, identity.soc, android, identity.fingerprint, f"cores {cores}")
        return ", ".join(filter(None, told))

    def last_cache_bytes(self) -> int:
        """Size of the last cache of the fastest core that is used, as far as the phone tells.

        Raises:
            PhoneError: If it cannot be asked.
        """
        link = self.bench.session.link
        command = f"cat /sys/devices/system/cpu/cpu{max(self.bench.cpus)}/cache/index*/size"
        told = link.held(lambda: link.ask(f"{command} 2>/dev/null", doing="asking for caches"))
        sizes = [int(size) * KIB for size in re.findall(r"^(\d+)K$", told.stdout, re.MULTILINE)]
        return max(sizes, default=LAST_CACHE_BYTES)

    def time(self, candidate: Candidate, settings: TimingSettings, *, seed: int = 0) -> Measurement:
        """Time a candidate with random weights.

        Args:
            candidate: Architecture.
            settings: Lengths, threads and repetitions.
            seed: Of the weights, which do not change the time. With the same for all candidates
                the pools that weights are cut from go over the cable once.

        Raises:
            TimingError: If a setting is out of range, or the phone gives no number that can be
                believed; by kind, see `PhoneError`.
            ExportError: If there is no room for the graph on this computer.
        """
        check_settings(settings)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            recipe = write_recipe(
                candidate, Path(name), GraphSettings(), parts=self._known_parts, seed=seed
            )
            weight_width = inspect_graph(recipe.path, settings)
            is_checked = (
                self.settings.check == "each"
                and recipe.data_bytes <= self.settings.check_largest_bytes
            )
            measured = self.bench.measure(
                PhoneModel.of_recipe(recipe),
                self.bench.request(
                    turn_stretches(settings),
                    warmup_rounds=settings.warmup_runs,
                    rounds=settings.repetitions,
                    num_threads=settings.num_threads,
                ),
                host_graph=host_graph(candidate, seed) if is_checked else None,
            )
        report = measured.report
        return Measurement(
            prompt_tokens=settings.prompt_tokens,
            generate_tokens=settings.generate_tokens,
            prefill_samples_s=report.all_samples_s(0),
            decode_samples_s=report.all_samples_s(1),
            warmup_runs=settings.warmup_runs,
            num_threads=report.num_threads,
            device=self.fingerprint,
            engine=f"onnxruntime {report.onnxruntime_version} {weight_width}",
            peak_memory_bytes=report.peak_memory_bytes,
            conditions=measured.conditions,
        )

    def sample_probe(
        self, probe: Probe, *, num_threads: int, warmup_rounds: int, rounds: int
    ) -> WorkerResult:
        """Time the stretches of a probe, the phone cool and not slowing down.

        Without logits and reference: a calibration times each probe in several rounds, takes the
        middle one, and is checked on candidates that it has not seen.

        Raises:
            TimingError: If the phone gives no number that can be believed.
            ExportError: If there is no room for the probe on this computer.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            model = self._written(probe, Path(name))
            request = self.bench.request(
                probe.stretches,
                warmup_rounds=warmup_rounds,
                rounds=rounds,
                num_threads=num_threads,
            )
            session = self.bench.session
            with session.placed(model, capacity=request.capacity) as folder:
                report, _ = self.bench.steady(folder, request, Tried())
        return WorkerResult(
            samples_s=[report.all_samples_s(place) for place in range(len(probe.stretches))],
            peak_memory_bytes=report.peak_memory_bytes,
            onnxruntime_version=report.onnxruntime_version,
            outputs_finite=report.is_finite,
        )

    def _written(self, probe: Probe, folder: Path) -> PhoneModel:
        if isinstance(probe, DecoderProbe):
            return PhoneModel.of_recipe(
                write_recipe(probe.candidate, folder, GraphSettings(), parts=self._known_parts)
            )
        return PhoneModel(graph=probe.write(folder))

    @property
    def _known_parts(self) -> Parts:
        if self._parts is None:
            raise TimingError("A PhoneBackend is used within a `with` block.")
        return self._parts
