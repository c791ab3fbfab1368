"""Locks between processes, which the system takes back when their holder ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from phonesearch.errors import PhoneSearchError


@contextmanager
def exclusive(path: Path, *, taken: PhoneSearchError) -> Iterator[None]:
    """Hold the lock of that name as long as the block lasts; without waiting for it.

    An advisory lock of the system on an empty file, which stays: whether it is there says nothing.

    Args:
        path: The file; its folder is made.
        taken: Raised if another holds it, of this process or of any other.

    Raises:
        PhoneSearchError: `taken`.
        OSError: If the file cannot be made.
    """
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise taken from error
    try:
        yield
    finally:
        lock.release()


class Quiet:
    """Keeps one who needs a machine for itself apart from many who only use it.

    Those who use it hold it in slices (`busy`, then `breathe` now and then); who needs it for
    itself (`alone`) waits for the slices that are under way and keeps others from beginning: it
    holds the turnstile that all go through, so that it is not starved however many there are.
    Locks of the system on two empty files: they go with their holder, however it ends. On
    Windows, which has no shared ones, those who use it are kept apart from each other too.

    Args:
        folder: Of the user, on this machine; it is made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._turnstile, self._room = folder / "turnstile.lock", folder / "room.lock"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the machine as long as the block lasts."""
        with _held(self._turnstile, shared=False), _held(self._room, shared=False):
            yield

    @contextmanager
    def busy(self) -> Iterator[Callable[[], None]]:
        """Use the machine, from the first call of what is yielded until the block ends.

        Yields:
            To be called when the use begins, and now and then: lets one go first who wants to be
            alone. Until the first call nothing is held, so whatever else is waited for, which
            others may hold who use the machine too, is to be waited for before it.
        """
        slice_ = _Slice(self._turnstile, self._room)
        try:
            yield slice_.breathe
        finally:
            slice_.end()


class _Slice:
    def __init__(self, turnstile: Path, room: Path) -> None:
        self._turnstile, self._room = turnstile, room
        self._descriptor: int | None = None

    def begin(self) -> None:
        with _held(self._turnstile, shared=False):
            self._descriptor = _lock(self._room, shared=True)

    def breathe(self) -> None:
        self.end()
        self.begin()

    def end(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _held(path: Path, *, shared: bool) -> Iterator[None]:
    descriptor = _lock(path, shared=shared)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, *, shared: bool) -> int:
    """Waits for it; closing the descriptor gives it back."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            while True:
                try:
                    msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                    break
                except OSError:
                    continue  # it gives up after ten seconds
        else:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
