"""Several phones of one model that measure candidates side by side.

Their times stand in one front, so they must be alike: the same model, build and cores, and a
reference model that takes them all as long. A phone that is lost leaves the pool, and what it was
at is measured on another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneError, PhonesDifferError
from phonesearch.phone.backend import PhoneBackend
from phonesearch.phone.judge import ReferenceTime
from phonesearch.timing.base import Measurement, TimingSettings


class PhonePool:
    """Phones that are measured on at once; a context manager, and safe to use from threads."""

    def __init__(
        self, backends: Sequence[PhoneBackend], *, say: Callable[[str], None] | None = None
    ) -> None:
        """Nothing is asked of the phones before the `with` block.

        Args:
            backends: One a phone, not yet entered.
            say: Told when a phone leaves the pool.
        """
        self._backends = tuple(backends)
        self._say = say or (lambda _: None)
        self._stack = ExitStack()
        self._changed = threading.Condition()
        self._idle: list[int] = []
        self._num_left = 0
        self._lost: PhoneError | None = None
        self._references: tuple[ReferenceTime, ...] = ()

    def __enter__(self) -> Self:
        """Make the phones ready, and see that they are alike.

        Raises:
            PhonesDifferError: If they are not.
            PhoneError: If one cannot be reached or made ready.
        """
        with ExitStack() as stack:
            for backend in self._backends:
                stack.enter_context(backend)
            self._require_alike()
            self._idle = list(range(len(self._backends)))
            self._num_left = len(self._idle)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take all models from the phones."""
        self._stack.close()

    @property
    def num_phones(self) -> int:
        """That the pool began with."""
        return len(self._backends)

    @property
    def fingerprint(self) -> str:
        """Any of the phones in words; all have the same."""
        return self._backends[0].fingerprint

    def stop(self) -> None:
        """Begin nothing more on any phone; what is under way there may still end."""
        for backend in self._backends:
            backend.stop()

    def time(self, candidate: Candidate, settings: TimingSettings, *, seed: int = 0) -> Measurement:
        """As `PhoneBackend.time`, on the next phone that is free.

        Raises:
            TimingError: As there; the phone's own troubles only once the last phone has left.
            ExportError: As there.
        """
        while True:
            place = self._take()
            try:
                found = self._backends[place].time(candidate, settings, seed=seed)
            except PhoneError as error:
                if error.is_of_candidate:
                    self._give_back(place)
                    raise
                self._drop(place, error)
            except BaseException:
                self._give_back(place)
                raise
            else:
                self._give_back(place)
                return replace(found, conditions={**found.conditions, **self._told(place)})

    def _take(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or not self._num_left)
            if not self._num_left:
                assert self._lost is not None
                raise self._lost
            return self._idle.pop(0)

    def _give_back(self, place: int) -> None:
        with self._changed:
            self._idle.append(place)
            self._changed.notify_all()

    def _drop(self, place: int, error: PhoneError) -> None:
        with self._changed:
            self._num_left -= 1
            self._lost = error
            self._changed.notify_all()
            left = self._num_left
        if left:
            self._say(f"Phone {place + 1} leaves the pool of {self.num_phones}: {error}")

    def _told(self, place: int) -> dict[str, object]:
        """For the record: which phone it was, and how alike they were at the start."""
        if self.num_phones == 1:
            return {}
        return {
            "pool": {
                "phone": place + 1,
                "phones": self.num_phones,
                "reference_prefill_s": [one.prefill_s for one in self._references],
                "reference_decode_s": [one.decode_s for one in self._references],
            }
        }

    def _require_alike(self) -> None:
        first, *others = self._backends
        if not others:
            return
        for place, other in enumerate(others, start=2):
            if other.fingerprint != first.fingerprint:
                raise PhonesDifferError(
                    f"phone 1 is {first.fingerprint}; phone {place} is {other.fingerprint}"
                )
        self._references = tuple(backend.bench.time_reference() for backend in self._backends)
        for place, found in enumerate(self._references[1:], start=2):
            apart = self._references[0].change(found)
            if abs(apart) > first.settings.limits.reference:
                raise PhonesDifferError(
                    f"they are of one model, but the time of a reference model on phone {place} "
                    f"is {apart:+.1%} off that on phone 1 (allowed: "
                    f"{first.settings.limits.reference:.0%})"
                )
