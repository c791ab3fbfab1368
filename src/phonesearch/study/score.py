"""What candidates are ranked by: the log loss that the planned training is expected to end at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScoreKind = Literal["anchors", "each", "prior"]
SCORE_KINDS: tuple[ScoreKind, ...] = ("anchors", "each", "prior")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Natural log of the loss, relative: only differences between candidates of a run mean
    anything. A difference of 0.01 is one percent of loss."""

    kind: ScoreKind
    """`prior`: nothing was trained for it. `anchors`: corrected by short trainings of other
    architectures. `each`: from a short training of its own."""
    log_loss: float
    """The sum of the three parts."""
    law: float
    """What the law of published losses says of its size and depth-to-width ratio."""
    prior: float
    """What published comparisons say of its other fields."""
    proxy: float
    """What short trainings say."""
    shared: tuple[float, ...]
    """What the score takes of each independent source of error that candidates share, in standard
    deviations; empty where they share none."""
    own_sd: float
    """Standard deviation of what is this candidate's alone."""

    @property
    def sd(self) -> float:
        """Standard deviation of the score itself."""
        return math.hypot(self.own_sd, *self.shared)


def difference_sd(one: Score, other: Score) -> float:
    """Standard deviation of the difference of two scores of one run; what they share cancels."""
    apart = [a - b for a, b in zip(one.shared, other.shared, strict=True)]
    return math.hypot(one.own_sd, other.own_sd, *apart)
