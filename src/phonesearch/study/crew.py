"""The workers of a run as processes of this machine, each with its share of the cores or a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from phonesearch.errors import RunFolderError, WorkerError
from phonesearch.study.joined import NAME_VARIABLE, PARENT_VARIABLE, num_cores
from phonesearch.study.settings import RunSettings
from phonesearch.study.storage import STORAGE_VARIABLE
from phonesearch.study.worker import MOST_DEATHS

LOGS_FOLDER: Final = "workers"
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPUS: Final = "CUDA_VISIBLE_DEVICES"
_MOST_FAILED_STARTS: Final = 5
"""Ends in a row of a worker that took no trial: it cannot work here."""
_MOST_ENDS: Final = MOST_DEATHS + 2
"""Ends in a row without a finished trial. One trial that kills its workers is given up before."""
_STOP_WAIT_S: Final = 20.0
_LOG_LINES: Final = 12


class Crew(Protocol):
    """Workers that somebody looks after; a context manager that stops them in the end."""

    def __enter__(self) -> Self:
        """Start them."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let them hand on what is in work, and end."""
        ...

    def tend(self, taken: Mapping[str, int], finished: Mapping[str, int]) -> tuple[str, ...]:
        """Start those again that died.

        Args:
            taken: Trials begun so far, by name of the worker.
            finished: Trials finished so far.

        Returns:
            Names of workers that are gone for good, whose trials are free.

        Raises:
            WorkerError: If one dies again and again.
        """
        ...


@dataclass(slots=True)
class _Place:
    """Where one worker after the other works."""

    log: Path
    environment: dict[str, str]
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    failed_starts: int = 0
    ends: int = 0


class LocalCrew:
    """Processes of this machine.

    Args:
        count: How many.
        folder: Of the run; logs go below it.
        url: Of the database; handed over in the environment, not on the command line.
        study: Its name.
        num_gpus: That trainings can use; 0 for the cores.
    """

    def __init__(self, count: int, folder: Path, *, url: str, study: str, num_gpus: int) -> None:
        threads = max(1, num_cores() // max(1, count))
        self._command = [sys.executable, "-m", "phonesearch.cli", "worker", "--study", study]
        self._command += ["--threads", str(threads)]
        shared = {
            **os.environ,
            **dict.fromkeys(_THREADS, str(threads)),
            STORAGE_VARIABLE: url,
            PARENT_VARIABLE: str(os.getpid()),
        }
        self._places = [
            _Place(
                log=folder / LOGS_FOLDER / f"{place + 1}.log",
                environment={**shared, **gpu_of(place, num_gpus)},
            )
            for place in range(count)
        ]

    def __enter__(self) -> Self:
        """See `Crew`."""
        for place in self._places:
            self._start(place)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """See `Crew`."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        for process in running:
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def tend(self, taken: Mapping[str, int], finished: Mapping[str, int]) -> tuple[str, ...]:
        """See `Crew`."""
        gone = []
        for place in self._places:
            code = None if place.process is None else place.process.poll()
            if code is None:
                continue
            gone.append(place.name)
            place.failed_starts = 0 if taken.get(place.name) else place.failed_starts + 1
            place.ends = 0 if finished.get(place.name) else place.ends + 1
            if code == 1:  # it said what is wrong, and would say it again
                raise WorkerError(f"A worker ended with an error. {last_lines(place.log)}")
            if code and (place.failed_starts >= _MOST_FAILED_STARTS or place.ends >= _MOST_ENDS):
                times = max(place.failed_starts, place.ends)
                raise WorkerError(
                    f"A worker ended {times} times in a row without finishing a trial, the last "
                    f"time with exit code {code}. If that is -9, memory ran out: use fewer "
                    f"--workers. {last_lines(place.log)}"
                )
            self._start(place)
        return tuple(gone)

    def _start(self, place: _Place) -> None:
        place.name = f"{place.log.stem}-{uuid.uuid4().hex[:12]}"
        try:
            place.log.parent.mkdir(exist_ok=True)
            with place.log.open("ab") as log:
                place.process = subprocess.Popen(
                    self._command,
                    env={**place.environment, NAME_VARIABLE: place.name},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C goes to the run, which tells them.
                    start_new_session=True,
                )
        except OSError as error:
            raise RunFolderError(f"A worker cannot be started: {error}.") from error


def gpus_for(settings: RunSettings) -> int:
    """GPUs of this machine that the workers of a run can use: those that train."""
    if settings.scored_by != "each":
        return 0
    import torch  # here, as it takes seconds

    return torch.cuda.device_count()


def gpu_of(place: int, num_gpus: int) -> dict[str, str]:
    """The environment of a worker that has one GPU for itself, of those that are visible."""
    if not num_gpus:
        return {}
    visible = [name for name in os.environ.get(_GPUS, "").split(",") if name]
    names = visible or [str(number) for number in range(num_gpus)]
    return {_GPUS: names[place % len(names)]}


def last_lines(log: Path) -> str:
    """The end of a worker's log, as part of a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return f"It wrote no log to {log}."
    return "\n".join([f"The last lines of {log}:", *(f"  {line}" for line in lines)])
