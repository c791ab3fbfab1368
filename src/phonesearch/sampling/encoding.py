"""Parameters of an Optuna trial as numbers that a Gaussian process can compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Array = NDArray[np.float64]
Key = tuple[Any, ...]

_LOG_RANGE: Final = 1.0
"""Positive numbers that span more than this factor are compared by their ratio."""


class Encoder:
    """Maps points to rows of numbers from 0 to 1; one column a number, one a category.

    Categories that are all numbers are compared as numbers. Sizes that span much (depth, width) are
    compared by ratio.

    Args:
        space: Distribution of each parameter.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = dict(space)
        self._columns = {name: _column(one) for name, one in space.items()}
        self.num_columns = sum(column.width for column in self._columns.values())

    def rows(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """Shape (points, columns)."""
        parts = [
            column.of([point[name] for point in points]) for name, column in self._columns.items()
        ]
        if not parts:
            return np.zeros((len(points), 0))
        return np.concatenate(parts, axis=1)

    def key(self, point: Mapping[str, Any]) -> Key:
        """The same for two points just if they are the same."""
        return tuple(point[name] for name in self._space)


class _Numbers:
    """One column for a parameter that is a number."""

    width = 1

    def __init__(self, low: float, high: float, *, log: bool) -> None:
        self._log = log or (low > 0 and high / low > _LOG_RANGE)
        self._low, self._high = self._scaled(low), self._scaled(high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def of(self, values: Sequence[Any]) -> Array:
        span = (self._high - self._low) or 1.0
        return np.array([[(self._scaled(value) - self._low) / span] for value in values])


class _Names:
    """One column a category; two columns only for none of two, so a flag has one."""

    def __init__(self, choices: Sequence[Any]) -> None:
        self._places = {_hashable(choice): place for place, choice in enumerate(choices)}
        self.width = 1 if len(choices) <= 2 else len(choices)

    def of(self, values: Sequence[Any]) -> Array:
        places = np.array([self._places[_hashable(value)] for value in values])
        if self.width == 1:
            return places[:, None].astype(np.float64)
        rows: Array = np.eye(self.width)[places] / math.sqrt(2)
        return rows


def _column(distribution: BaseDistribution) -> _Numbers | _Names:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return _Numbers(distribution.low, distribution.high, log=distribution.log)
    if not isinstance(distribution, CategoricalDistribution):
        raise TypeError(f"Unknown kind of distribution: {distribution}.")
    choices = distribution.choices
    if len(choices) > 2 and all(_is_number(choice) for choice in choices):
        numbers = [float(choice) for choice in choices]  # type: ignore[arg-type]
        return _Numbers(min(numbers), max(numbers), log=False)
    return _Names(choices)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _hashable(choice: Any) -> tuple[str, Any]:
    """True and 1 are two choices."""
    return type(choice).__name__, choice
