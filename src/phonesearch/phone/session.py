"""One phone in use: files that lie there by their hash, and the runner started among them.

A model is pushed as its graph and a recipe; the phone writes the weights itself. What lies in our
folder between two models is what all of them share: the runner, the library and the recipe's parts.
"""

from __future__ import annotations

import hashlib
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.errors import (
    CableLostError,
    OtherPhoneError,
    PhoneError,
    PhoneFileError,
    PhoneGoneError,
    PhoneNotReadyError,
    PhoneUnreachableError,
    RunnerError,
)
from phonesearch.onnx_export.fragment import DATA_FILE
from phonesearch.onnx_export.recipe import RECIPE_FILE, RecipeModel
from phonesearch.onnx_export.write import GRAPH_FILE
from phonesearch.phone.adb import REMOTE_FOLDER, Adb, quoted
from phonesearch.phone.adb_words import said
from phonesearch.phone.clean import FIND_LEFTOVERS, parse_pids
from phonesearch.phone.device import PhoneReport, survey
from phonesearch.phone.hazards import SPARE_BYTES, hazards
from phonesearch.phone.readings import parse_free
from phonesearch.phone.runner import RUNNER
from phonesearch.phone.runtime import RuntimeLibrary, is_broken_by_sme, runtime_hazards
from phonesearch.timing.exchange import Stretch

_MODEL_FOLDER: Final = f"{REMOTE_FOLDER}/model"
_PARTS_FOLDER: Final = f"{REMOTE_FOLDER}/parts"
_LOGITS: Final = "logits"
_WRITE_BYTES_PER_S: Final = 20_000_000
"""Slowest writing of weights that is waited for; eMMC of old phones writes five times that."""
_HOST_GRACE_S: Final = 15.0
"""That the computer waits longer than the runner's own alarm."""
_POLL_S: Final = 0.5
_PLAIN_KERNELS: Final = ("--config", "mlas.disable_kleidiai", "1")
"""Kernels that work as those of x86-64 do, so that logits can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What the runner said, whole: its last line was `end` and `ok`."""

    start: Mapping[str, Any]
    samples_s: tuple[tuple[float, ...], ...]
    """By stretch, in order."""
    end: Mapping[str, Any]
    logits: NDArray[np.float32] | None
    """Last output of the last run, flat, where it was asked for."""


class Session:
    """A phone that was found fit, and stays the same phone."""

    def __init__(
        self,
        adb: Adb,
        library: RuntimeLibrary,
        *,
        patience_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Look at the phone, end what was left running there, and bring it runner and library.

        Args:
            adb: With a phone chosen.
            library: ONNX Runtime for it.
            patience_s: How long a lost cable is waited for.
            sleep: Waits seconds.

        Raises:
            PhoneNotReadyError: If its state or kind forbids measuring.
            PhoneError: If it cannot be reached or written.
        """
        self.adb = adb
        self.library = library
        self._patience_s = patience_s
        self._sleep = sleep
        self._verified: set[str] = set()
        self.runner_sha256 = _sha256(RUNNER)
        self.report = survey(adb)
        """The phone as it was when the session began."""
        self._identity = self._ask_identity()
        self.require_ready(self.report)
        with self.waiting_for_cable():
            self._settle()

    @property
    def fingerprint(self) -> str:
        """The phone in words, without its serial number."""
        known = self.report.identity
        name = " ".join(word for word in (known.maker, known.model) if word)
        return f"{name or 'phone'}, {known.soc or 'unknown chip'}, {known.fingerprint}"

    def require_ready(self, report: PhoneReport, *, push_bytes: int = 0) -> None:
        """Refuse what would make a number wrong.

        Raises:
            PhoneNotReadyError: With every reason and its remedy.
        """
        found = (
            *hazards(report, push_bytes=push_bytes),
            *runtime_hazards(self.library, report.identity),
        )
        refused = [str(hazard) for hazard in found if hazard.severity == "refuse"]
        if refused:
            raise PhoneNotReadyError(refused)

    @contextmanager
    def waiting_for_cable(self) -> Iterator[None]:
        """On a lost phone: wait until it is back, make sure that it is the same, and raise anew.

        Raises:
            CableLostError: If what was done has to be done again; the phone is back and clean.
            PhoneGoneError: If it did not come back in time.
            OtherPhoneError: If another one did.
        """
        try:
            yield
        except PhoneUnreachableError as error:
            self._come_back(error)
            raise CableLostError("measuring", serial=self.adb.serial) from error

    def _come_back(self, lost: PhoneUnreachableError) -> None:
        end = time.monotonic() + self._patience_s
        while True:
            self._sleep(_POLL_S)
            try:
                self.adb.reconnect()
                self.adb.choose(self.adb.serial)
                self._require_same()
                self._settle()
                return
            except PhoneUnreachableError:
                if time.monotonic() > end:
                    raise PhoneGoneError(
                        waited_s=self._patience_s, serial=self.adb.serial
                    ) from lost

    def _ask_identity(self) -> str:
        done = self.adb.ask("getprop ro.serialno; getprop ro.build.fingerprint")
        return done.stdout.strip()

    def _require_same(self) -> None:
        if self._ask_identity() != self._identity:
            raise OtherPhoneError(serial=self.adb.serial)

    def _settle(self) -> None:
        """End runners that a lost cable left behind, and bring what all models share."""
        left = parse_pids(self.adb.ask(FIND_LEFTOVERS).stdout)
        if left:
            self.adb.ask(quoted("kill", "-9", *map(str, left)), doing="ending processes")
        self.adb.ask(f"rm -rf {_MODEL_FOLDER}; mkdir -p {_PARTS_FOLDER}")
        self._verified.clear()
        self._deliver(RUNNER, self._runner, sha256=self.runner_sha256)
        self.adb.ask(quoted("chmod", "755", self._runner))
        self._deliver(Path(self.library.path), self._library_path, sha256=self.library.sha256)

    @property
    def _runner(self) -> str:
        return f"{REMOTE_FOLDER}/runner-{self.runner_sha256[:16]}"

    @property
    def _library_path(self) -> str:
        return f"{REMOTE_FOLDER}/lib-{self.library.sha256[:16]}/libonnxruntime.so"

    def _deliver(self, local: Path, remote: str, *, sha256: str | None = None) -> None:
        """Push a file unless it is there already, whole."""
        sha256 = sha256 or _sha256(local)
        if remote in self._verified:
            return
        if self.adb.sha256(remote) != sha256:
            part = f"{remote}.part"
            folder = remote.rpartition("/")[0]
            self.adb.ask(f"{quoted('mkdir', '-p', folder)}; {quoted('rm', '-f', part)}")
            self.adb.push(local, part)
            if self.adb.sha256(part) != sha256:
                raise PhoneFileError(
                    f"{local.name} did not arrive whole on the phone. Try another cable, or a "
                    "port of the computer itself."
                )
            self.adb.ask(quoted("mv", part, remote))
        self._verified.add(remote)

    @contextmanager
    def model(self, model: RecipeModel) -> Iterator[None]:
        """Have the model on the phone, its weights written there; afterwards it is removed.

        Raises:
            PhoneNotReadyError: If there is no room for it.
            PhoneError: If it cannot be brought.
        """
        self._require_room(model.data_bytes)
        try:
            self.adb.ask(f"rm -rf {_MODEL_FOLDER}; mkdir -p {_MODEL_FOLDER}")
            for part in model.parts:
                self._deliver(part, f"{_PARTS_FOLDER}/{part.name}", sha256=part.name)
            for local, name in ((model.path, GRAPH_FILE), (model.recipe_path, RECIPE_FILE)):
                self.add_graph(local, name)
            self._write_weights(model)
            yield
        finally:
            with suppress(PhoneError):  # a phone that is gone is cleaned when it is back
                self.adb.ask(f"rm -rf {_MODEL_FOLDER}", timeout_s=120.0)

    def add_graph(self, local: Path, name: str) -> None:
        """Bring a file into the model's folder, as a second graph for its weights.

        Args:
            local: The graph; it refers to the same weights.
            name: Of the file on the phone.

        Raises:
            PhoneError: If it cannot be brought.
        """
        self._verified.discard(f"{_MODEL_FOLDER}/{name}")
        self._deliver(local, f"{_MODEL_FOLDER}/{name}")

    def _require_room(self, data_bytes: int) -> None:
        self.adb.ask(f"rm -rf {_MODEL_FOLDER}")
        done = self.adb.ask("df -k /data/local/tmp")
        free = parse_free(done.stdout)
        if free is not None and free < data_bytes + SPARE_BYTES:
            raise PhoneNotReadyError(
                [
                    f"The weights take {data_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free "
                    "in /data/local/tmp, of which 64 MiB must stay. Free some space on the phone."
                ]
            )

    def _write_weights(self, model: RecipeModel) -> None:
        limit_s = 60 + model.data_bytes // _WRITE_BYTES_PER_S
        words = [self._runner, "--write-weights", RECIPE_FILE, DATA_FILE]
        self._start([*words, "--parts", _PARTS_FOLDER], max_seconds=limit_s)
        size = self.adb.ask(quoted("wc", "-c", f"{_MODEL_FOLDER}/{DATA_FILE}")).stdout.split()
        if not size or size[0] != str(model.data_bytes):
            raise PhoneFileError(
                f"The phone wrote {size[0] if size else 'no'} bytes of weights where "
                f"{model.data_bytes} belong. Free some space there and try again."
            )

    def run(
        self,
        stretches: Sequence[Stretch],
        *,
        num_threads: int,
        cores: Sequence[int],
        warmup_rounds: int,
        rounds: int,
        graph: str = GRAPH_FILE,
        plain_kernels: bool = False,
        keep_logits: bool = False,
        max_seconds: int = 600,
    ) -> Ran:
        """Run stretches of the model that is on the phone.

        Args:
            stretches: What to time.
            num_threads: Threads inside an operator.
            cores: That they may run on; other ones granted is an error.
            warmup_rounds: Rounds before the clock counts.
            rounds: Rounds that count.
            graph: Name of the graph's file on the phone.
            plain_kernels: Whether ONNX Runtime does without KleidiAI.
            keep_logits: Whether to bring the last output back.
            max_seconds: After which the runner ends itself.

        Raises:
            RunnerError: If the runner dies, hangs or refuses.
            PhoneUnreachableError, OtherPhoneError: If the phone went, or is another one.
        """
        words = [self._runner, "--lib", self._library_path, "--model", graph]
        words += ["--threads", str(num_threads), "--cpus", ",".join(map(str, cores))]
        words += ["--capacity", str(max(stretch.longest for stretch in stretches))]
        words += ["--warmup-rounds", str(warmup_rounds), "--rounds", str(rounds)]
        for each in stretches:
            fields = (each.new_tokens, each.past_tokens, each.steps, each.repeats)
            words += ["--stretch", ":".join(map(str, (*fields, each.settling_steps)))]
        if plain_kernels:
            words += _PLAIN_KERNELS
        if keep_logits:
            words += ["--dump", _LOGITS]
        lines = self._start(words, max_seconds=max_seconds)
        start, end = lines[0], lines[-1]
        samples: list[list[float]] = [[] for _ in stretches]
        for line in lines:
            if line.get("event") == "samples":
                samples[line["stretch"]] += [ns / 1e9 for ns in line["ns"]]
        if any(
            len(own) != rounds * each.repeats * each.steps
            for own, each in zip(samples, stretches, strict=True)
        ):
            raise RunnerError("The runner left out times. Nothing of that run is used; try again.")
        if start.get("cpus_granted") != sorted(cores):
            raise RunnerError(
                f"Cores {_listed(cores)} were asked for and {start.get('cpus_granted')} granted. "
                "Name others, or leave the phone a minute to wake them."
            )
        if not end.get("finite"):
            raise RunnerError(
                "The phone computed numbers that are not finite, so its times say nothing. Set up "
                "another ONNX Runtime library with `phonesearch phone setup`."
            )
        logits = self._pull_logits() if keep_logits else None
        self._require_same()
        return Ran(start=start, samples_s=tuple(map(tuple, samples)), end=end, logits=logits)

    def _pull_logits(self) -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / _LOGITS
            self.adb.pull(f"{_MODEL_FOLDER}/{_LOGITS}", local)
            return np.fromfile(local, dtype=np.float32)

    def _start(self, words: Sequence[str], *, max_seconds: int) -> list[dict[str, Any]]:
        """Run the runner in the model's folder; its lines, of which the last is a success."""
        library_folder = self._library_path.rpartition("/")[0]
        command = (
            # ONNX Runtime keeps telemetry in $TMPDIR (/data/local/tmp) and $HOME otherwise.
            f"cd {_MODEL_FOLDER} && ORT_DISABLE_TELEMETRY=1 TMPDIR=. HOME=. "
            f"LD_LIBRARY_PATH={quoted(library_folder)} exec "
            f"{quoted(*words, '--max-seconds', str(max_seconds))}"
        )
        done = self.adb.shell(command, timeout_s=max_seconds + _HOST_GRACE_S)
        lines = []
        for text in done.stdout.splitlines():
            with suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    lines.append(line)
        if lines and lines[-1].get("event") == "end" and done.exit_code == 0:
            if lines[-1].get("ok") is True:
                return lines
        elif lines and lines[-1].get("event") == "end":
            raise RunnerError(
                f"The runner stopped at {lines[-1].get('stage')!r}: {lines[-1].get('error')}"
            )
        # adb 29 says 0 of a shell whose cable was pulled: a phone that is gone raises here.
        self.adb.ask("true", doing="measuring")
        if done.exit_code in (0, 255):
            raise CableLostError("measuring", serial=self.adb.serial)
        raise RunnerError(
            _death(done.exit_code, done.stderr, max_seconds=max_seconds, library=self.library)
        )


def _death(exit_code: int, stderr: str, *, max_seconds: int, library: RuntimeLibrary) -> str:
    """What an exit code means, and what to do about it."""
    version = library.version or "of unknown version"
    number = exit_code - 128
    if number == signal.SIGILL:
        known = (
            f"ONNX Runtime {version} is known for that on chips with SME. "
            if is_broken_by_sme(library.version)
            else ""
        )
        return (
            f"The runner met an instruction that the phone does not have. {known}Set up ONNX "
            "Runtime 1.24.4 or later with `phonesearch phone setup`."
        )
    if number == signal.SIGKILL:
        return (
            "The phone killed the runner, as Android does when memory runs out. Close its apps, or "
            "give smaller models (`--max-memory`)."
        )
    if number == signal.SIGALRM:
        return (
            f"The runner was not done within {max_seconds} s and ended itself. Look whether the "
            "phone is hot or asleep; give a smaller model, or fewer tokens."
        )
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        return (
            f"The runner crashed ({signal.Signals(number).name}) in ONNX Runtime {version}. It "
            f"said: {said(stderr) or 'nothing'}. Set up another version with `phonesearch phone "
            "setup`, and send us `phonesearch phone doctor --json`."
        )
    if exit_code in (126, 127):
        return (
            "The phone does not run programs from /data/local/tmp. It said: "
            f"{said(stderr) or 'nothing'}. Send us `phonesearch phone doctor --json`."
        )
    return f"The runner ended with exit code {exit_code}. It said: {said(stderr) or 'nothing'}."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
