"""Workers that Ray places on the CPUs and GPUs of a cluster.

Ray is given tasks of which each runs one worker as a process of its own, the same command as
everywhere. Ray starts a task again whose process or node died; what was in work there is handed
on by its heartbeat, as ever.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from phonesearch.errors import SettingsError, WorkerError
from phonesearch.study.crew import LOGS_FOLDER, last_lines
from phonesearch.study.joined import PARENT_VARIABLE
from phonesearch.study.settings import Fleet
from phonesearch.study.storage import STORAGE_VARIABLE, problem

LOCAL: Final = "local"
_ANSWER_WAIT_S: Final = 10.0
_MOST_STARTS: Final = 12
"""Of one task that ends without the study having its trials."""


def check_ray(fleet: Fleet) -> None:
    """Refuse what cannot work, before anything is begun.

    Raises:
        SettingsError: If Ray is not installed, there is no worker, or not all nodes can reach the
            database.
    """
    if importlib.util.find_spec("ray") is None:
        raise SettingsError('--ray needs Ray: pip install "phonesearch[ray]".')
    if not fleet.workers:
        raise SettingsError("--ray places workers: give their number with --workers.")
    if fleet.ray != LOCAL and (fleet.storage is None or fleet.storage.startswith("sqlite")):
        raise SettingsError(
            "--ray: workers on other nodes cannot reach a file of this machine. Give a database "
            "that all nodes reach, in PHONESEARCH_STORAGE or with --storage "
            "postgresql+psycopg://..., or use `--ray local`."
        )


class RayCrew:
    """Tasks of a Ray cluster; a `phonesearch.study.crew.Crew`.

    Args:
        fleet: How many, and on which cluster.
        folder: Of the run; of what is placed on this node, logs go below it.
        url: Of the database, as all nodes reach it.
        on_gpus: Whether each worker takes a GPU.
    """

    def __init__(self, fleet: Fleet, folder: Path, *, url: str, on_gpus: bool) -> None:
        self._fleet, self._url, self._on_gpus = fleet, url, on_gpus
        self._logs = folder.resolve() / LOGS_FOLDER
        self._tasks: dict[Any, int] = {}
        self._starts: dict[int, int] = {}
        self._is_ours = False
        self._task: Any = None

    def __enter__(self) -> Self:
        """Join the cluster, or make one, and hand the tasks over.

        Raises:
            WorkerError: If there is no such cluster, or it has too little for one worker.
        """
        import ray

        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            arguments: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False}
            if self._fleet.ray != LOCAL:
                arguments = {"log_to_driver": False, "address": self._fleet.ray}
            try:
                _require_answer(str(self._fleet.ray))
                ray.init(**arguments)
            except Exception as error:  # Ray's own, of several kinds
                raise WorkerError(
                    f"There is no Ray cluster at {self._fleet.ray!r} ({problem(error)}). Start "
                    "one with `ray start --head`, or use `--ray local`."
                ) from error
        needs = "GPU" if self._on_gpus else "CPU"
        if ray.cluster_resources().get(needs, 0) < 1:
            self.__exit__(None, None, None)
            raise WorkerError(f"The Ray cluster has no {needs} for a worker.")
        self._task = ray.remote(num_cpus=1, num_gpus=1 if self._on_gpus else 0, max_retries=-1)(
            run_worker
        )
        for place in range(self._fleet.workers):
            self._hand_over(place)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel the tasks, whose workers then hand on what is in work."""
        import ray

        for task in self._tasks:
            ray.cancel(task, force=False)
        if self._tasks:
            ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=20)
        self._tasks.clear()
        if self._is_ours:
            ray.shutdown()

    def tend(self, taken: Mapping[str, int], finished: Mapping[str, int]) -> tuple[str, ...]:
        """See `Crew`; Ray itself starts those again that were killed with their node."""
        import ray

        if not self._tasks:
            return ()
        done, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        for task in done:
            place = self._tasks.pop(task)
            try:
                code, log = ray.get(task)
            except ray.exceptions.RayError as error:
                code, log = -1, problem(error)
            if code == 1:
                raise WorkerError(f"A worker ended with an error. {log}")
            if code and self._starts[place] >= _MOST_STARTS:
                raise WorkerError(
                    f"A worker ended {self._starts[place]} times, the last time with exit code "
                    f"{code}. {log}"
                )
            if code:
                self._hand_over(place)
        return ()

    def _hand_over(self, place: int) -> None:
        self._starts[place] = self._starts.get(place, 0) + 1
        log = str(self._logs / f"ray-{place + 1}.log")
        self._tasks[self._task.remote(self._url, self._fleet.study, log)] = place


def run_worker(url: str, study: str, log: str) -> tuple[int, str]:
    """One worker as a process beside Ray's own; its exit code, and the end of what it wrote.

    Args:
        url: Of the database.
        study: Its name.
        log: File to add to; on a node without that folder, one of its own.
    """
    import tempfile

    folder = Path(log).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        log = str(Path(tempfile.mkdtemp(prefix="phonesearch-worker-")) / Path(log).name)
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        STORAGE_VARIABLE: url,
        PARENT_VARIABLE: str(os.getpid()),
    }
    command = [sys.executable, "-m", "phonesearch.cli", "worker", "--study", study]
    command += ["--threads", environment["OMP_NUM_THREADS"]]
    with Path(log).open("ab") as stream:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    try:
        code = process.wait()
    except BaseException:  # cancelled
        process.terminate()
        process.wait()
        raise
    return code, last_lines(Path(log))


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes where nobody answers at an address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_ANSWER_WAIT_S).close()
