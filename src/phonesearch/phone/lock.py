"""One phone for one session: a second would end the first one's runner and remove its models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from phonesearch import locks
from phonesearch.errors import PhoneError, PhoneInUseError


@contextmanager
def phone_held(serial: str, *, cache: Path) -> Iterator[None]:
    """Keep other sessions of this account away from a phone as long as the block lasts.

    It is by the name that adb has for the phone: over a cable and over Wi-Fi it has two.

    Args:
        serial: As adb lists it; only its hash is written down.
        cache: Folder of the user's caches that is ours.

    Raises:
        PhoneInUseError: If another session holds it.
        PhoneError: If the folder cannot be written.
    """
    name = hashlib.sha256(serial.encode()).hexdigest()[:16]
    path = cache / "phones" / f"{name}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(path, taken=PhoneInUseError(serial)))
        except (OSError, NotImplementedError) as error:
            raise PhoneError(
                f"{path}, which keeps two sessions from one phone, cannot be locked: {error}. Make "
                "that folder writable, or name another one for caches in $XDG_CACHE_HOME."
            ) from error
        yield
