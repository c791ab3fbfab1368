"""Measures candidates on a phone, and refuses to believe a number that it cannot stand behind.

Around each candidate: wait until the phone is cool; hold its logits against this computer's;
time a small reference model; time the candidate; time the reference again. If the reference moved,
or the phone grew hot or slower meanwhile, the candidate's times are thrown away and taken anew.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from phonesearch.candidate.config import Candidate
from phonesearch.errors import (
    CableLostError,
    PhoneNotReadyError,
    RunnerError,
    UnsteadyError,
)
from phonesearch.onnx_export.recipe import Parts, RecipeModel, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.device import PhoneReport, survey
from phonesearch.phone.hazards import hazards
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.session import Ran, Session
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.exchange import Stretch

REFERENCE: Final = Candidate(
    vocab_size=8192,
    hidden_size=512,
    intermediate_size=1536,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=64,
    max_position_embeddings=512,
)
"""About 33M parameters: a fraction of a second, on weights that no phone's caches hold."""
_CHECK: Final = (
    Stretch(new_tokens=8, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=8, steps=2),
)
_EXACT_GRAPH: Final = "exact.onnx"
_CABLE_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is asked of a phone and of times taken on it."""

    reference: Candidate = REFERENCE
    reference_tokens: int = 64
    """Of its prompt; its decode steps follow that."""
    tries: int = 3
    """How often times are taken before they are given up."""
    reference_drift: float = 0.05
    """That its decode step may differ by, before and after."""
    step_drift: float = 0.1
    """That the last quarter of decode steps may be slower than the first."""
    warming_c: float = 3.0
    """That the battery may be above the session's start."""
    cooling_polls: int = 30
    cooling_poll_s: float = 10.0
    logits_distance: float = 1e-3
    """Largest difference from this computer's logits in float32, over their spread; 1e-6 of two
    layers was seen, and more layers add to it."""
    kernel_distance: float = 0.3
    """Root mean square of the same as it is timed, with activations in 8 bits: 2 to 3 % of two
    layers were seen, and wrong weights give 140 %."""
    max_seconds: int = 900
    """Of one run of the runner."""


PROTOCOL: Final = Protocol()
"""What is asked unless a test asks something else."""


@dataclass(kw_only=True)
class PhoneBackend:
    """Times candidates on one phone, one after the other."""

    session: Session
    parts: Parts
    """Where this computer keeps what recipes refer to; good for any phone and run."""
    cores: tuple[int, ...]
    """That runs are pinned to."""
    num_threads: int
    protocol: Protocol = PROTOCOL
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda _: None
    """Told why something is waited for or done again."""
    survey: Callable[[], PhoneReport] | None = None
    _reference_s: float | None = field(default=None, init=False)
    """Of the reference, taken after the candidate before."""

    @property
    def fingerprint(self) -> str:
        """The phone in words."""
        return self.session.fingerprint

    def time(self, candidate: Candidate, settings: TimingSettings, *, seed: int = 0) -> Measurement:
        """Time a candidate's turn on random weights.

        Args:
            candidate: Architecture.
            settings: Lengths and repetitions; threads are the backend's own.
            seed: Of the weights.

        Raises:
            UnsteadyError: If the phone changed in every try.
            PhoneNotReadyError: If it did not cool down, or has no room.
            PhoneError: If it cannot be reached, or the runner fails.
            ExportError: If there is no room on this computer.
        """
        for cable_try in range(_CABLE_TRIES):
            try:
                with self.session.waiting_for_cable():
                    return self._steady(candidate, settings, seed=seed, cable_losses=cable_try)
            except CableLostError:
                self._reference_s = None
                if cable_try == _CABLE_TRIES - 1:
                    raise
                self.say("The cable was lost; the phone is back, and the model is timed anew")
        raise AssertionError("unreachable")

    def _steady(
        self, candidate: Candidate, settings: TimingSettings, *, seed: int, cable_losses: int
    ) -> Measurement:
        troubles: list[str] = []
        with tempfile.TemporaryDirectory(prefix=".phone-") as folder:
            model = write_recipe(
                candidate, Path(folder), GraphSettings(), parts=self.parts, seed=seed
            )
            checked: dict[str, float] | None = None
            for _ in range(self.protocol.tries):
                before = self._cool()
                if self._reference_s is None:
                    self._reference_s = self._time_reference()
                earlier_s = self._reference_s
                with self.session.model(model):
                    if checked is None:
                        checked = self._check(candidate, seed=seed)
                    ran = self._run(_turn(settings), settings)
                self._reference_s = later_s = self._time_reference()
                after = self._survey()
                trouble = self._trouble(ran, earlier_s, later_s, before, after)
                if trouble is None:
                    return self._measurement(
                        ran,
                        settings,
                        {
                            **self._conditions(ran, model, before, after),
                            "reference_decode_s": [earlier_s, later_s],
                            "thrown_away": troubles,
                            "cable_losses": cable_losses,
                            **checked,
                        },
                    )
                troubles.append(trouble)
                self.say(f"Times thrown away: {trouble}")
        raise UnsteadyError(
            f"The phone was not steady in {len(troubles)} tries ({'; '.join(troubles)}). Let it "
            "rest, out of its case, and look at `phonesearch phone doctor`."
        )

    def _run(self, stretches: Sequence[Stretch], settings: TimingSettings, **more: Any) -> Ran:
        return self.session.run(
            stretches,
            num_threads=self.num_threads,
            cores=self.cores,
            warmup_rounds=settings.warmup_runs,
            rounds=settings.repetitions,
            max_seconds=self.protocol.max_seconds,
            **more,
        )

    def _time_reference(self) -> float:
        """Median decode step of the reference model."""
        settings = TimingSettings(
            prompt_tokens=self.protocol.reference_tokens, warmup_runs=1, repetitions=3
        )
        with tempfile.TemporaryDirectory(prefix=".phone-") as folder:
            model = write_recipe(
                self.protocol.reference, Path(folder), GraphSettings(), parts=self.parts
            )
            with self.session.model(model):
                return statistics.median(self._run(_turn(settings), settings).samples_s[1])

    def _check(self, candidate: Candidate, *, seed: int) -> dict[str, float]:
        """Hold the logits of the model on the phone against those of the same model here.

        Twice. With activations left in float32 both must be equal but for rounding, whatever the
        depth: the phone has the right weights and computes the right function. As it is timed,
        with activations rounded to 8 bits, they may differ as far as that goes, which on different
        kernels is by other amounts, and where a value lies on an edge by a whole step.
        """
        once = TimingSettings(warmup_runs=0, repetitions=1)
        exact = GraphSettings(accuracy_level=0)
        with tempfile.TemporaryDirectory(prefix=".phone-") as name:
            folder = Path(name)
            graph = write_recipe(candidate, folder, exact, parts=self.parts, seed=seed).path
            self.session.add_graph(graph, _EXACT_GRAPH)
            alike = self._run(
                _CHECK, once, graph=_EXACT_GRAPH, plain_kernels=True, keep_logits=True
            ).logits
            own = self._run(_CHECK, once, keep_logits=True).logits
            assert alike is not None
            assert own is not None
            model = export(candidate, folder, exact, seed=seed)
            wanted = expected_output(
                model.path, _CHECK, capacity=max(stretch.longest for stretch in _CHECK)
            )
        if alike.shape != wanted.shape or own.shape != wanted.shape:
            raise RunnerError("The phone gave another number of logits than this computer.")
        spread = float(np.sqrt(np.square(wanted).mean()))
        distance = float(np.abs(alike - wanted).max()) / spread
        relative = float(np.sqrt(np.square(own - wanted).mean())) / spread
        if not distance <= self.protocol.logits_distance or not (
            relative <= self.protocol.kernel_distance
        ):
            raise RunnerError(
                f"The phone computes other logits than this computer: {distance:.2g} of their "
                f"spread apart in float32 ({self.protocol.logits_distance:.0e} may be), "
                f"{relative:.1%} with 8-bit activations ({self.protocol.kernel_distance:.0%} may "
                "be). Set up another ONNX Runtime library with `phonesearch phone setup`."
            )
        return {"logits_distance": distance, "kernel_distance": relative}

    def _survey(self) -> PhoneReport:
        return self.survey() if self.survey is not None else survey(self.session.adb)

    def _cool(self) -> PhoneReport:
        """Wait until the phone is as cool as it was; its state then.

        Raises:
            PhoneNotReadyError: If it does not become so, or anything else forbids measuring.
        """
        for poll in range(self.protocol.cooling_polls + 1):
            report = self._survey()
            refused = [
                hazard
                for hazard in hazards(report, push_bytes=0)
                if hazard.severity == "refuse" and hazard.name != "hot"
            ]
            if refused:
                raise PhoneNotReadyError([str(hazard) for hazard in refused])
            if not report.heat.status and not self._is_warmer(report):
                return report
            if poll == 0:
                self.say("Waiting for the phone to cool")
            self.sleep(self.protocol.cooling_poll_s)
        minutes = self.protocol.cooling_polls * self.protocol.cooling_poll_s / 60
        raise PhoneNotReadyError(
            [
                f"It did not cool down in {minutes:.0f} minutes. Take it out of its case and out "
                "of the sun, and go on later."
            ]
        )

    def _is_warmer(self, report: PhoneReport) -> bool:
        first, now = self.session.report.battery.temperature_c, report.battery.temperature_c
        return first is not None and now is not None and now - first > self.protocol.warming_c

    def _trouble(
        self,
        ran: Ran,
        earlier_s: float,
        later_s: float,
        before: PhoneReport,
        after: PhoneReport,
    ) -> str | None:
        """Why the times cannot be believed; None when nothing speaks against them."""
        if abs(later_s / earlier_s - 1) > self.protocol.reference_drift:
            return f"the reference model moved by {later_s / earlier_s - 1:+.0%}"
        if after.heat.status:
            return f"the phone grew hot (thermal status {after.heat.status})"
        first, last = before.battery.temperature_c, after.battery.temperature_c
        if first is not None and last is not None and last - first > self.protocol.warming_c:
            return f"the battery warmed by {last - first:.0f} C"
        steps = ran.samples_s[1]
        quarter = max(len(steps) // 4, 1)
        slower = statistics.median(steps[-quarter:]) / statistics.median(steps[:quarter]) - 1
        if slower > self.protocol.step_drift:
            return f"decode steps grew slower by {slower:.0%}"
        return None

    def _conditions(
        self, ran: Ran, model: RecipeModel, before: PhoneReport, after: PhoneReport
    ) -> dict[str, Any]:
        """All that one has to know to doubt the number."""
        library = self.session.library
        return {
            "runtime_library": {
                "sha256": library.sha256,
                "source": library.source,
                "is_checked": library.is_checked,
            },
            "runner_sha256": self.session.runner_sha256,
            "graph_sha256": model.sha256,
            "cores": list(self.cores),
            "hwcap": ran.start.get("hwcap"),
            "kv_bytes": ran.start.get("kv_bytes"),
            "before": _state(before),
            "after": _state(after),
            "warnings": [
                hazard.name for hazard in hazards(after, push_bytes=0) if hazard.severity != "note"
            ],
        }

    def _measurement(
        self, ran: Ran, settings: TimingSettings, conditions: Mapping[str, Any]
    ) -> Measurement:
        peak_kb = ran.end.get("peak_kb")
        return Measurement(
            prompt_tokens=settings.prompt_tokens,
            generate_tokens=settings.generate_tokens,
            prefill_samples_s=ran.samples_s[0],
            decode_samples_s=ran.samples_s[1],
            warmup_runs=settings.warmup_runs,
            num_threads=self.num_threads,
            device=self.fingerprint,
            engine=f"onnxruntime {ran.start.get('onnxruntime')} int4",
            peak_memory_bytes=peak_kb * 1024 if isinstance(peak_kb, int) else None,
            conditions=conditions,
        )


def _turn(settings: TimingSettings) -> tuple[Stretch, Stretch]:
    middle = settings.prompt_tokens + settings.generate_tokens // 2
    return (
        Stretch(new_tokens=settings.prompt_tokens, past_tokens=0),
        Stretch(
            new_tokens=1,
            past_tokens=max(middle - settings.decode_steps // 2, 1),
            steps=settings.decode_steps,
            settling_steps=settings.settling_steps,
        ),
    )


def _state(report: PhoneReport) -> dict[str, Any]:
    return {
        "heat": asdict(report.heat),
        "battery": asdict(report.battery),
        "wakefulness": report.wakefulness,
        "busy_share": report.busy.share,
        "available_memory_bytes": report.memory.available_bytes,
        "clock_hz": [core.clock_hz for core in report.cores],
        "allowed_clock_hz": [core.allowed_clock_hz for core in report.cores],
        "governor": [core.governor for core in report.cores],
        "is_networked": report.is_networked,
    }
