"""A phone in use: our program and library on it, models laid there and taken away again, runs.

    /data/local/tmp/phonesearch/
        bin/            the runner and ONNX Runtime, pushed once, by hash
        parts/          random numbers that weights are cut from, pushed once, by hash
        models/ID/      one model; removed when it is done with, or at the next contact

Files come there by a `Delivery`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from phonesearch.errors import (
    CoresWithheldError,
    IllegalInstructionError,
    PhoneError,
    PhoneFileError,
    RunnerHungError,
)
from phonesearch.onnx_export.fragment import DATA_FILE
from phonesearch.onnx_export.write import GRAPH_FILE
from phonesearch.phone.adb import REMOTE_FOLDER, Adb, quoted
from phonesearch.phone.adb_words import said
from phonesearch.phone.clock import Clock
from phonesearch.phone.delivery import Delivery, Parcel, sha256
from phonesearch.phone.link import PATIENCE_S, Link
from phonesearch.phone.pushed import PhoneModel, RunRequest
from phonesearch.phone.runner import RUNNER
from phonesearch.phone.runner_output import RunReport, failure, last_word, read_report
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.say import Say, say_nothing
from phonesearch.units import MIB, format_bytes

_BIN: Final = f"{REMOTE_FOLDER}/bin"
_PARTS: Final = f"{REMOTE_FOLDER}/parts"
_MODELS: Final = f"{REMOTE_FOLDER}/models"
_RECIPE: Final = "model.recipe"
_DUMP: Final = "output"
_RUN: Final = (
    # ONNX Runtime keeps telemetry in $TMPDIR and $HOME unless told not to.
    "ORT_DISABLE_TELEMETRY=1 TMPDIR=. HOME=. LD_LIBRARY_PATH=../../bin exec ../../bin/runner"
)
_NO_FOLDER: Final = 121
"""Exit code of the shell; the runner has none like it."""
_GRACE_S: Final = 30.0
"""That adb is given beyond the time after which the runner ends itself."""
_WEIGHTS_LEAST_S: Final = 60
"""That writing weights is given, however few: a phone that hangs then is to be noticed soon."""
_WEIGHTS_BYTES_PER_S: Final = 2_000_000
"""Slowest writing that is waited for besides: 1.5B parameters get 9 minutes."""
_SAID_WEIGHTS_BYTES: Final = 100 * MIB
"""From which writing weights takes so long that it is said."""


class Session:
    """One phone in use; a context manager."""

    def __init__(
        self,
        adb: Adb,
        library: RuntimeLibrary,
        *,
        patience_s: float = PATIENCE_S,
        clock: Clock | None = None,
        say: Say = say_nothing,
    ) -> None:
        """Nothing is done to the phone before the `with` block.

        Args:
            adb: With a phone chosen.
            library: That is to run there.
            patience_s: How long to wait for the phone when its cable was pulled.
            clock: How waiting is done.
            say: Told what takes long.
        """
        self.link = Link(adb, patience_s=patience_s, clock=clock, say=say)
        self.delivery = Delivery(self.link, say=say)
        self.library = library
        self.runner_sha256 = sha256(RUNNER)
        self._say = say

    def __enter__(self) -> Self:
        """Lay out our folder, with runner and library.

        Raises:
            PhoneError: If that cannot be done.
        """
        self.link.held(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the models away; runner, library and parts stay for the next time."""
        self.link.remove(_MODELS)

    @property
    def pushed_bytes(self) -> int:
        """That went over the cable so far."""
        return self.delivery.pushed_bytes

    def _open(self) -> None:
        self.link.contact()
        command = f"rm -rf {_MODELS}; mkdir -p {_BIN} {_PARTS} {_MODELS}"
        done = self.link.ask(command, timeout_s=120.0, doing="making our folder")
        if done.exit_code:
            raise PhoneFileError(
                f"The phone does not let us make {REMOTE_FOLDER}. It said: {said(done.stderr)}. "
                "Run `phonesearch phone clean`; if it still does not, the maker of the phone has "
                "closed /data/local/tmp."
            )
        self.delivery.deliver(
            [
                Parcel(
                    local=RUNNER, remote=f"{_BIN}/runner", sha256=self.runner_sha256, mode="755"
                ),
                Parcel(
                    local=Path(self.library.path),
                    remote=f"{_BIN}/libonnxruntime.so",
                    sha256=self.library.sha256,
                    stays_as=f"ONNX Runtime {self.library.version or ''}".strip(),
                ),
            ]
        )

    @contextmanager
    def placed(self, model: PhoneModel, *, capacity: int) -> Iterator[str]:
        """Lay a model on the phone, its weights written there; and take it away, whatever happens.

        Args:
            model: What to lay there.
            capacity: Positions in the cache of the largest run, for the memory that it takes.

        Yields:
            Its folder on the phone, for `run`.

        Raises:
            PhoneFullError: If it does not fit, with 64 MiB to spare.
            PhoneMemoryError: If the phone has not the memory to run it.
            PhoneError: If it cannot be brought there otherwise.
        """
        folder = f"{_MODELS}/{secrets.token_hex(6)}"
        try:
            self.link.held(lambda: self._place(folder, model, capacity))
            yield folder
        finally:
            self.link.remove(folder)

    def _place(self, folder: str, model: PhoneModel, capacity: int) -> None:
        self.link.contact()
        files = [
            Parcel(
                local=part,
                remote=f"{_PARTS}/{part.name}",
                sha256=part.name,
                stays_as="random numbers for weights",
                is_hashed_once=True,
            )
            for part in model.parts
        ]
        for local, name in (
            (model.graph, GRAPH_FILE),
            (model.recipe, _RECIPE),
            (model.data, DATA_FILE),
        ):
            if local is not None:
                files.append(Parcel(local=local, remote=f"{folder}/{name}", sha256=sha256(local)))
        self.link.ask(f"mkdir -p {quoted(folder)}", doing="making a folder")
        self.delivery.deliver(
            files, more_bytes=model.data_bytes, memory_bytes=model.memory_bytes(capacity)
        )
        if model.recipe is not None:
            self._write_weights(folder, model.data_bytes)

    def _write_weights(self, folder: str, data_bytes: int) -> None:
        doing = "writing the weights on the phone"
        if data_bytes >= _SAID_WEIGHTS_BYTES:
            self._say(f"The phone writes {format_bytes(data_bytes)} of weights")
        seconds = _WEIGHTS_LEAST_S + data_bytes // _WEIGHTS_BYTES_PER_S
        words = quoted(
            *("--write-weights", _RECIPE, DATA_FILE, "--parts", "../../parts"),
            *("--max-seconds", str(seconds)),
        )
        text, errors, exit_code = self._started(folder, words, seconds, doing)
        end = last_word(text)
        if end is None:
            raise failure(text, errors, exit_code, doing=doing, version=None)
        if end.get("bytes") != data_bytes:
            raise PhoneFileError(
                f"The phone wrote {end.get('bytes')} bytes of weights and not {data_bytes}. Run "
                "`phonesearch phone clean` and try again."
            )

    def add(self, folder: str, local: Path, name: str) -> None:
        """Put one more file beside a model that was placed.

        Args:
            folder: Of the model, on the phone.
            local: The file.
            name: That it gets there.

        Raises:
            PhoneError: If it cannot be brought there.
        """
        file = Parcel(local=local, remote=f"{folder}/{name}", sha256=sha256(local))
        self.link.held(lambda: self.delivery.deliver([file]))

    def run(
        self,
        folder: str,
        request: RunRequest,
        *,
        graph: str = GRAPH_FILE,
        dump: Path | None = None,
    ) -> RunReport:
        """Run a model that was placed; a run that a lost cable broke is done anew.

        Args:
            folder: Of the model, on the phone.
            request: What to run.
            graph: Name of its file in the folder.
            dump: Where the last output of the last run is to go on this computer, as float32.

        Raises:
            RunnerError: If the runner did not come to its end; by what ended it.
            CableLostError: If the phone stays away, or goes a third time.
            PhoneError: If it fails otherwise.
        """
        try:
            return self.link.held(lambda: self._run(folder, graph, request, dump))
        except RunnerHungError:  # may be a spell of the phone's; once only, as it takes so long
            self.link.held(self.link.contact)
            return self.link.held(lambda: self._run(folder, graph, request, dump))
        except IllegalInstructionError as error:
            if request.is_plain:
                raise
            try:
                plain = replace(request, is_plain=True)
                self.link.held(lambda: self._run(folder, graph, plain, None))
            except PhoneError:
                raise error from None
            raise IllegalInstructionError(
                f"{error} Without the kernels of KleidiAI it runs, so they are what this phone "
                "cannot run.",
                exit_code=error.exit_code,
            ) from error

    def _run(self, folder: str, graph: str, request: RunRequest, dump: Path | None) -> RunReport:
        doing = "running a model on the phone"
        words = request.words(
            library="../../bin/libonnxruntime.so",
            model=graph,
            dump=_DUMP if dump is not None else None,
        )
        text, errors, exit_code = self._started(folder, quoted(*words), request.max_seconds, doing)
        report = read_report(text, num_stretches=len(request.stretches), rounds=request.rounds)
        if report is None:
            raise failure(text, errors, exit_code, doing=doing, version=self.library.version)
        if set(report.cpus_granted) != set(request.cpus):
            raise CoresWithheldError(
                f"The phone gave cores {report.cpus_granted} where {request.cpus} were asked for. "
                "Wake it and switch off battery saver, or name others with --cpus.",
                exit_code=exit_code,
            )
        if dump is not None:
            self.link.adb.pull(f"{folder}/{_DUMP}", dump)
        return report

    def _started(
        self, folder: str, words: str, max_seconds: int, doing: str
    ) -> tuple[str, str, int]:
        done = self.link.ask(
            f"cd {quoted(folder)} 2>/dev/null || exit {_NO_FOLDER}\n{_RUN} {words}",
            timeout_s=max_seconds + _GRACE_S,
            doing=doing,
        )
        if done.exit_code == _NO_FOLDER and not done.stdout.strip():
            raise PhoneFileError(
                f"The model is no longer on the phone, {doing}: something removed {folder} "
                "meanwhile, as `phonesearch phone clean` from another computer does. Try again."
            )
        return done.stdout, done.stderr, done.exit_code
