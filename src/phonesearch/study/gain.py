"""The sampler of a budgeted space that knows speeds before it draws.

Speeds are predicted exactly and at once, losses cost a training each, so that is a problem for
`sampling.CheapObjectiveSampler`. It sees the legal points of the space, their predicted speed, and
what published laws expect of their losses as one feature of its trend, to be believed as far as the
trainings of the run bear it out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.candidate.config import Candidate
from phonesearch.device.profile import DeviceProfile
from phonesearch.quality.model import quality
from phonesearch.sampling.points import Point
from phonesearch.sampling.sampler import NUM_DRAWS, CheapObjectiveSampler
from phonesearch.space.grid import BudgetedSpace
from phonesearch.study.judge import make_judge
from phonesearch.study.limits import Limits
from phonesearch.study.sampler import distributions, params_of, positions_of
from phonesearch.study.settings import RunSettings
from phonesearch.study.speeds import Speeds
from phonesearch.study.stopwatch import Turn, turn_memory_bytes, weight_bits

_NUM_NEAR: Final = 48
"""Legal points looked at around each one that was on the front."""
_LOSS_SCALE: Final = 0.05
"""Log loss that counts as one in the trend: candidates of one budget differ by about that."""
GAIN_STARTUP_TRIALS: Final = 4
"""One more than `CheapObjectiveSampler` takes, as losses are noisier here than in its tables."""


class BudgetPoints:
    """The legal points of a budgeted space, as Optuna's parameters."""

    def __init__(self, space: BudgetedSpace) -> None:
        self._space = space
        self._candidates: dict[tuple[Any, ...], Candidate] = {}

    def draw(self, rng: np.random.Generator, count: int) -> list[Point]:
        """See `sampling.points.Points`."""
        size = len(self._space)
        places = np.arange(size) if size <= count else rng.choice(size, count, replace=False)
        return [self._point(int(place)) for place in places]

    def near(self, point: Point) -> list[Point]:
        """See `sampling.points.Points`."""
        distances = self._space.distances(self._positions(point))
        count = min(_NUM_NEAR, len(distances) - 1)
        if count < 1:
            return []
        nearest = np.argsort(distances, kind="stable")[: count + 1]
        return [self._point(int(place)) for place in nearest]

    def candidate(self, point: Point) -> Candidate:
        """The architecture of a legal point."""
        key = tuple(point[axis.name] for axis in self._space.axes)
        if key not in self._candidates:
            place = self._space.index_of(self._positions(point))
            if place is None:
                raise LookupError(f"not a legal point: {dict(point)}")
            self._candidates[key] = self._space.candidate(place)
        return self._candidates[key]

    def _point(self, place: int) -> Point:
        return params_of(self._space, place)

    def _positions(self, point: Point) -> NDArray[np.int32]:
        return positions_of(self._space, dict(point))


def gain_sampler(
    settings: RunSettings,
    space: BudgetedSpace,
    profile: DeviceProfile,
    limits: Limits,
    *,
    num_draws: int = NUM_DRAWS,
) -> CheapObjectiveSampler:
    """The sampler of a run whose speeds are predicted.

    Args:
        settings: Of the run.
        space: Its legal points.
        profile: Its device, not one that is measured.
        limits: Its constraints; what breaks one is never drawn.
        num_draws: Legal points looked at, besides those near the front.
    """
    points = BudgetPoints(space)
    speeds = Speeds(settings, profile)
    turn = Turn(prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens)
    bits = weight_bits(profile, settings.engine)
    model = make_judge(settings).model

    def speed(point: Point) -> float:
        return speeds.of(points.candidate(point)).tokens_per_s(settings.speed)[0]

    def accept(point: Point) -> bool:
        candidate = points.candidate(point)
        memory = turn_memory_bytes(candidate, turn, weight_bits=bits)
        return not limits.broken(memory, speeds.of(candidate))

    def expected(point: Point) -> tuple[float]:
        return (quality(model, points.candidate(point)).mean / _LOSS_SCALE,)

    return CheapObjectiveSampler(
        speed,
        cheap_objective=0,
        space=distributions(space),
        points=points,
        features=expected,
        accept=accept,
        log_cheap=True,
        num_startup_trials=GAIN_STARTUP_TRIALS,
        num_draws=num_draws,
        seed=settings.seed,
    )
