"""Locks between processes, which the system takes back when their holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
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
