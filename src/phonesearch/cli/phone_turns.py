"""Phones that several workers measure on, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phonesearch.candidate.config import Candidate
    from phonesearch.phone.pool import PhonePool
    from phonesearch.study.stopwatch import Turn
    from phonesearch.timing.base import Measurement

_POLL_S: Final = 2.0


class PhoneTurns:
    """A `phonesearch.study.meter.Meter` that holds a phone for one candidate at a time.

    Of several phones it takes any that nobody holds; if there is none it waits.

    Args:
        device: Phones as typed, see `phone_device.serials`.
        cpus: Cores as typed.
        threads: Inside an operator.
        say: Told that a phone is waited for.
        should_stop: Whether to wait no longer.
    """

    def __init__(
        self,
        device: str,
        *,
        cpus: str | None,
        threads: int | None,
        say: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        from phonesearch.cli.phone_device import serials

        self._phones = ["adb" if serial is None else f"adb:{serial}" for serial in serials(device)]
        self._cpus, self._threads = cpus, threads
        self._say, self._should_stop = say, should_stop

    @property
    def num_at_once(self) -> int:
        """See `Meter`."""
        return 1

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        with self._held() as phone:
            return phone.fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        from phonesearch.study.meter import PhoneMeter

        with self._held() as phone:
            return PhoneMeter(phones=phone).measure(candidate, turn, seed=seed)

    def stop(self) -> None:
        """Nothing: it measures in the caller's own thread."""

    @contextmanager
    def _held(self) -> Iterator[PhonePool]:
        from phonesearch.cli.phone_device import phone_pool
        from phonesearch.errors import PhoneInUseError

        is_told = False
        while True:
            for device in self._phones:
                pool = phone_pool(device, cpus=self._cpus, threads=self._threads, say=self._say)
                try:
                    pool.__enter__()
                except PhoneInUseError as error:
                    taken = error
                    continue
                with pool_left(pool):
                    yield pool
                return
            if self._should_stop():
                raise taken
            if not is_told:
                is_told = True
                self._say("Waiting for a phone, as another session measures on it")
            time.sleep(_POLL_S)


@contextmanager
def pool_left(pool: PhonePool) -> Iterator[None]:
    """Leaves a pool that was entered, when the block ends."""
    try:
        yield
    finally:
        pool.__exit__(None, None, None)
