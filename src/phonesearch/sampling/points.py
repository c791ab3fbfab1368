"""Where the points come from that a sampler chooses among."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Point = Mapping[str, Any]
_FLOAT_STEPS: Final = (-0.1, -0.03, 0.03, 0.1)
"""Shares of its range by which a continuous parameter is moved to look around a point."""


class Points(Protocol):
    """All points that may be evaluated: a space too large to look at whole, or a list."""

    def draw(self, rng: np.random.Generator, count: int) -> list[Point]:
        """At most `count` of them, without a preference; all of them, if there are no more."""
        ...

    def near(self, point: Point) -> list[Point]:
        """Some that differ little from that one."""
        ...


class Listed:
    """Points that are given one by one."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points

    def draw(self, rng: np.random.Generator, count: int) -> list[Point]:
        """See `Points`."""
        if len(self._points) <= count:
            return list(self._points)
        return [self._points[int(place)] for place in rng.permutation(len(self._points))[:count]]

    def near(self, point: Point) -> list[Point]:
        """See `Points`: none, as nothing is known of them but themselves."""
        return []


class Crossed:
    """Every combination of the values of an Optuna search space."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = dict(space)
        self._values = {name: _values(one) for name, one in space.items()}

    def draw(self, rng: np.random.Generator, count: int) -> list[Point]:
        """See `Points`."""
        values = list(self._values.values())
        if all(one is not None for one in values):
            total = math.prod(len(one) for one in values if one is not None)
            if total <= count:
                return list(self._all())
        return [{name: self._one(name, rng.random()) for name in self._space} for _ in range(count)]

    def near(self, point: Point) -> list[Point]:
        """See `Points`: one parameter changed, numbers by a step, categories to any other."""
        return [
            {**point, name: value} for name in self._space for value in self._beside(name, point)
        ]

    def _all(self) -> Iterator[Point]:
        values = [one or [] for one in self._values.values()]
        for combination in itertools.product(*values):
            yield dict(zip(self._space, combination, strict=True))

    def _one(self, name: str, share: float) -> Any:
        values = self._values[name]
        if values is not None:
            return values[min(int(share * len(values)), len(values) - 1)]
        return _continuous(self._space[name], share)

    def _beside(self, name: str, point: Point) -> list[Any]:
        distribution, values = self._space[name], self._values[name]
        if values is None:
            here = _share(distribution, point[name])
            moved = (here + step for step in _FLOAT_STEPS)
            return [_continuous(distribution, share) for share in moved if 0 <= share <= 1]
        if isinstance(distribution, CategoricalDistribution):
            return [value for value in values if value != point[name]]
        place = int(np.argmin([abs(value - point[name]) for value in values]))
        return [values[one] for one in (place - 1, place + 1) if 0 <= one < len(values)]


def _values(distribution: BaseDistribution) -> list[Any] | None:
    """All of a parameter; None where it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [distribution.low + place * distribution.step for place in range(count)]
    return None


def _continuous(distribution: BaseDistribution, share: float) -> float:
    assert isinstance(distribution, FloatDistribution)
    if distribution.log:
        low, high = math.log(distribution.low), math.log(distribution.high)
        return min(max(math.exp(low + share * (high - low)), distribution.low), distribution.high)
    return distribution.low + share * (distribution.high - distribution.low)


def _share(distribution: BaseDistribution, value: float) -> float:
    assert isinstance(distribution, FloatDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / ((high - low) or 1.0)
