"""When a run that was given a time has to end, report included."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

REPORT_S: Final = 20.0
"""That plots, graphs, configs and page take at the end; 10 s for a front of 40 on two cores."""
_SEARCH_SHARE: Final = 0.2
_LONGEST_SEARCH_S: Final = 300.0
FEWEST_TRIALS: Final = 24
"""Candidates that are evaluated although the time is over, where that takes seconds."""


@dataclass(slots=True)
class Deadline:
    """Counts down from when it was made."""

    time_s: float
    """For all."""
    clock: Callable[[], float] = time.monotonic
    reserved_s: float = 0.0
    """Of it, for what comes between the last candidate and the report."""
    _begun_s: float = field(init=False)
    _batches_s: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._begun_s = self.clock()

    @property
    def left_s(self) -> float:
        """Until the report has to be begun; below zero after that."""
        return self._begun_s + self.time_s - REPORT_S - self.clock()

    @property
    def anchors_s(self) -> float:
        """That anchors may be planned for: what is left, less some for the search."""
        left_s = self.left_s
        return max(0.0, left_s - min(_SEARCH_SHARE * self.time_s, _LONGEST_SEARCH_S))

    def took(self, seconds: float) -> None:
        """A batch of candidates was evaluated in so long."""
        self._batches_s.append(seconds)

    @property
    def is_over(self) -> bool:
        """Whether another batch as long as the last ones would end too late."""
        return self.left_s - self.reserved_s < max(self._batches_s[-3:], default=0.0)
