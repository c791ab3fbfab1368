"""Signs of life of the trial that a worker evaluates, from a thread of their own."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Final, Self

from phonesearch.study.ledger import Ledger

_LOGGER = logging.getLogger(__name__)
_STOP_WAIT_S: Final = 5.0


class Heartbeat:
    """Beats for one trial after the other; a context manager.

    While the database does not answer it goes on trying: whether the worker is given up then is
    for the others to decide, by their grace period.
    """

    def __init__(self, ledger: Ledger, *, interval_s: float) -> None:
        self._ledger = ledger
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._trial: int | None = None
        self._is_lost = False
        self._is_over = False
        self._thread = threading.Thread(
            target=self._beat, name="phonesearch-heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join(_STOP_WAIT_S)

    def begin(self, trial: int) -> None:
        """Beat for this trial from now on; it has its first beat from the ledger."""
        with self._changed:
            self._trial, self._is_lost = trial, False

    def end(self) -> None:
        """Beat for none."""
        with self._changed:
            self._trial = None

    @property
    def is_lost(self) -> bool:
        """Whether the trial was found to be another worker's by now."""
        return self._is_lost

    def _beat(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, timeout=self._interval_s)
                if self._is_over:
                    return
                trial = self._trial
            if trial is None:
                continue
            try:
                is_ours = self._ledger.beat(trial)
            except Exception as error:  # of whatever driver: the next beat may succeed
                _LOGGER.warning("No heartbeat of trial %d: %s", trial, error)
                continue
            with self._changed:
                if not is_ours and self._trial == trial:
                    self._is_lost = True
