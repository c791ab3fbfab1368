"""The points that a sampler chooses among, with all that is known of them for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from phonesearch.sampling.encoding import Encoder, Key
from phonesearch.sampling.points import Point

Array = NDArray[np.float64]


class Pool:
    """Grows; a point keeps its place.

    Args:
        space: Distribution of each parameter.
        cheap: The cheap objective of a point, None, NaN or a `LookupError` where there is none.
        features: Further numbers of a point.
        accept: Whether a point may be proposed.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        cheap: Callable[[Point], float | None],
        features: Callable[[Point], Sequence[float]],
        accept: Callable[[Point], bool],
    ) -> None:
        self._encoder = Encoder(space)
        self._cheap_of, self._features_of, self._accept = cheap, features, accept
        self._places: dict[Key, int | None] = {}
        self.points: list[Point] = []
        self.num_missing = 0
        """Points without a cheap objective: those that do not exist."""
        self._encoded: list[Array] = []
        self._features: list[Array] = []
        self._cheap: list[float] = []

    def add(self, points: Sequence[Point]) -> None:
        """Look at points; those not seen before that may be proposed get a place."""
        found = []
        for point in points:
            key = self._encoder.key(point)
            if key in self._places:
                continue
            self._places[key] = None
            value = self._value(point)
            if value is None:
                self.num_missing += 1
            elif self._accept(point):
                self._places[key] = len(self._cheap)
                self._cheap.append(value)
                found.append(point)
        if found:
            self.points += found
            self._encoded.append(self._encoder.rows(found))
            rows = [list(self._features_of(point)) for point in found]
            self._features.append(np.array(rows, dtype=np.float64).reshape(len(found), -1))

    def place(self, params: Mapping[str, Any]) -> int | None:
        """Of a point that was looked at and may be proposed."""
        return self._places.get(self._encoder.key(params))

    def places(self, tried: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
        """Of those points that have one."""
        found = [self.place(params) for params in tried]
        return np.array([place for place in found if place is not None], dtype=np.int64)

    def free(self, tried: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
        """Places that are not those of tried points, ascending."""
        is_free = np.ones(len(self.points), dtype=bool)
        is_free[self.places(tried)] = False
        return np.flatnonzero(is_free)

    @property
    def cheap(self) -> Array:
        """As the callable gives it, (points,)."""
        return np.array(self._cheap)

    @property
    def encoded(self) -> Array:
        """Parameters, from 0 to 1, (points, columns)."""
        self._encoded = [np.concatenate(self._encoded)]
        return self._encoded[0]

    @property
    def features(self) -> Array:
        """As the callable gives them, (points, features)."""
        self._features = [np.concatenate(self._features)]
        return self._features[0]

    def _value(self, point: Point) -> float | None:
        try:
            value = self._cheap_of(point)
        except LookupError:
            return None
        return None if value is None or not math.isfinite(value) else float(value)
