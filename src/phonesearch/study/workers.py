"""Processes that train proxies side by side, one thread each.

They are spawned once and kept, as importing torch takes seconds. A worker that dies takes only
its own proxy with it; a worker whose parent dies (`kill -9` included) stops within 20 steps. Where
a job names a cache, what was trained before is looked up, and a worker that stops or is killed
leaves a state behind that the next one goes on from.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneSearchError, ProxyDroppedError, ProxyError
from phonesearch.locks import Quiet
from phonesearch.proxy.result import ProxyLoss

if TYPE_CHECKING:
    from phonesearch.proxy.corpus import Corpus
    from phonesearch.proxy.loop import Watch
    from phonesearch.proxy.settings import ProxySettings

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PROGRESS_INTERVAL_S = 0.5
_IDLE_POLL_S = 0.5
_STOP_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What a worker is sent: everything that a proxy's training depends on."""

    candidate: Candidate
    corpus: Corpus
    settings: ProxySettings
    reference_parameters: int
    cache_dir: Path | None = None
    """Folder that trainings are kept in, see `proxy.cache`; None keeps none."""
    may_be_dropped: bool = False
    """Whether to ask at each rung if it is worth going on."""
    keep_trunk: bool = False
    """Whether a longer training may come, which then goes on from this one."""
    tokens: int | None = None
    """To train on, where that is more than the proxy was made for; it keeps its shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """A worker's question whether to go on; it waits for the answer."""

    tokens: int
    loss_nats: float


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection


class ProxyPool:
    """Trains proxies in `jobs` processes. Make one with `proxy_pool`."""

    def __init__(self, jobs: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._spawn() for _ in range(jobs)]

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, os.getpid()), daemon=True, name="phonesearch-proxy"
        )
        earlier = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            process.start()
        finally:
            for name, value in earlier.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        return _Worker(process, ours)

    def train(
        self,
        jobs: Mapping[int, TrainingJob],
        progress: Callable[[int, int, int], None],
        *,
        is_hopeless: Callable[[int, int, float], bool] | None = None,
    ) -> Iterator[tuple[int, ProxyLoss | PhoneSearchError]]:
        """Train every job, as many at a time as there are workers; yield each as it ends.

        Args:
            jobs: By number of the trial.
            progress: Called with trial, tokens seen and tokens in all.
            is_hopeless: Asked at each rung with trial, tokens seen and loss in nats a token,
                whether to give the training up; it then ends with a `ProxyDroppedError`.

        Yields:
            The trial and its loss, or the error that it failed with.
        """
        waiting = list(jobs.items())
        busy: dict[Connection, tuple[int, int]] = {}  # pipe -> (trial, worker)
        idle = list(range(len(self._workers)))
        while waiting or busy:
            while waiting and idle:
                trial, job = waiting.pop(0)
                position = idle.pop(0)
                if not self._workers[position].process.is_alive():
                    self._workers[position] = self._spawn()
                worker = self._workers[position]
                busy[worker.pipe] = (trial, position)
                worker.pipe.send(job)
            for ready in multiprocessing.connection.wait(list(busy)):
                assert isinstance(ready, Connection)
                trial, position = busy[ready]
                try:
                    message = ready.recv()
                except (EOFError, ConnectionError):
                    message = self._death(position)
                if isinstance(message, tuple):
                    progress(trial, *message)
                    continue
                if isinstance(message, _Rung):
                    hopeless = is_hopeless is not None and is_hopeless(
                        trial, message.tokens, message.loss_nats
                    )
                    with contextlib.suppress(BrokenPipeError, ConnectionError):
                        ready.send(hopeless)
                    continue
                del busy[ready]
                idle.append(position)
                yield trial, message

    def _death(self, position: int) -> ProxyError:
        process = self._workers[position].process
        process.join(_STOP_WAIT_S)
        code = process.exitcode
        self._workers[position].pipe.close()
        self._workers[position] = self._spawn()
        return ProxyError(
            f"The process that trained the proxy ended with exit code {code}. If that is -9, "
            "memory ran out: use fewer --jobs."
        )

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_STOP_WAIT_S)
            if worker.process.is_alive():
                worker.process.kill()


@contextmanager
def proxy_pool(jobs: int) -> Iterator[ProxyPool]:
    """A pool of `jobs` processes that is gone when the block is left."""
    pool = ProxyPool(jobs)
    try:
        yield pool
    finally:
        pool.close()


def _serve(pipe: Connection, parent: int) -> None:
    """Body of a worker process: take a job, train, send the loss; until the pipe closes."""
    import signal
    import time

    import torch

    from phonesearch.proxy.loop import Watch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    torch.set_num_threads(1)
    told_to_end = False

    def end(signum: int, frame: object) -> None:
        """Raises nothing: the signal may come while the interpreter is already ending."""
        nonlocal told_to_end
        told_to_end = True

    signal.signal(signal.SIGTERM, end)

    def should_stop() -> bool:
        return told_to_end or os.getppid() != parent

    while not should_stop():
        try:
            if not pipe.poll(_IDLE_POLL_S):
                continue
            job: TrainingJob = pipe.recv()
        except (EOFError, ConnectionError):
            return
        last_sent_s = 0.0

        def progress(tokens: int, total_tokens: int) -> None:
            nonlocal last_sent_s, told_to_end
            now_s = time.monotonic()
            if now_s - last_sent_s >= _PROGRESS_INTERVAL_S or tokens >= total_tokens:
                last_sent_s = now_s
                try:
                    pipe.send((tokens, total_tokens))
                except (BrokenPipeError, ConnectionError):
                    told_to_end = True  # the training leaves its state behind, then stops

        def is_hopeless(tokens: int, loss_nats: float) -> bool:
            nonlocal told_to_end
            try:
                pipe.send(_Rung(tokens=tokens, loss_nats=loss_nats))
                while not pipe.poll(_IDLE_POLL_S):
                    if should_stop():
                        return False
                return bool(pipe.recv())
            except (EOFError, BrokenPipeError, ConnectionError):
                told_to_end = True
                return False

        try:
            watch = Watch(
                progress=progress,
                should_stop=should_stop,
                is_hopeless=is_hopeless if job.may_be_dropped else None,
            )
            outcome: ProxyLoss | PhoneSearchError = trained(job, watch)
        except ProxyDroppedError as error:
            outcome = error
        except PhoneSearchError as error:
            outcome = ProxyError(str(error))
        except Exception as error:  # a bug in one candidate must not end a night's run
            outcome = ProxyError(f"The proxy's training failed: {type(error).__name__}: {error}")
        try:
            pipe.send(outcome)
        except (BrokenPipeError, ConnectionError):
            return


def trained(job: TrainingJob, watch: Watch) -> ProxyLoss:
    """Train, or look up what was trained before, in this process.

    Where trainings are kept, this one makes room for whoever measures on this machine.
    """
    from phonesearch.proxy.cache import cached_training
    from phonesearch.proxy.shrink import shrink
    from phonesearch.proxy.train import train_shrunk

    proxy = shrink(job.candidate, job.settings, reference_parameters=job.reference_parameters)
    settings = job.settings if job.tokens is None else replace(job.settings, tokens=job.tokens)
    if job.cache_dir is None:
        return train_shrunk(proxy, job.corpus, settings, watch=watch).loss
    with quiet_of(job.cache_dir).busy() as breathe:

        def should_stop() -> bool:
            breathe()
            return watch.should_stop is not None and watch.should_stop()

        polite = replace(watch, should_stop=should_stop)
        return cached_training(
            job.cache_dir, proxy, job.corpus, settings, watch=polite, keep_trunk=job.keep_trunk
        ).loss


def quiet_of(cache_dir: Path) -> Quiet:
    """What keeps timings on this machine apart from trainings, for all processes of a user."""
    return Quiet(cache_dir / "quiet")
