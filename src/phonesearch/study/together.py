"""The same work on several things at once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def together(
    work: Callable[[T], R], things: Sequence[T], *, at_once: int, stop: Callable[[], None]
) -> Iterator[Iterator[R]]:
    """What `work` gives for each of the things, each as soon as it is there, within the block.

    Args:
        work: Called in threads if several go at once, else in this one and in order.
        things: What it is called with.
        at_once: Most that go at once.
        stop: Called if the block is broken off (an error in it, Ctrl-C), so that what is under way
            ends soon; it is waited for.

    Yields:
        The results; the first error of `work` is raised once what else was begun has been given.
    """
    results = _results(work, things, at_once, stop)
    try:
        yield results
    finally:
        results.close()


def _results(
    work: Callable[[T], R], things: Sequence[T], at_once: int, stop: Callable[[], None]
) -> Generator[R, None, None]:
    if at_once == 1 or len(things) == 1:
        for thing in things:
            yield work(thing)
        return
    failed: BaseException | None = None
    pool = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="phonesearch-meter")
    try:
        futures: list[Future[R]] = [pool.submit(work, thing) for thing in things]
        for future in as_completed(futures):
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                yield future.result()
            elif failed is None:
                failed = error
                for other in futures:
                    other.cancel()
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed is not None:
        raise failed
