from __future__ import annotations

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from phonesearch.sampling.points import Crossed, Listed

SMALL: dict[str, BaseDistribution] = {
    "depth": IntDistribution(2, 8, step=2),
    "act": CategoricalDistribution(["silu", "relu", "gelu"]),
    "ratio": FloatDistribution(1.0, 2.0, step=0.5),
}
LARGE: dict[str, BaseDistribution] = {
    **SMALL,
    "width": IntDistribution(1, 5000),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
}


def contains(space: dict[str, BaseDistribution], point: dict[str, object]) -> bool:
    return all(
        kind._contains(kind.to_internal_repr(point[name]))  # what Optuna itself asks
        for name, kind in space.items()
    )


def test_a_small_space_is_drawn_whole() -> None:
    drawn = Crossed(SMALL).draw(np.random.default_rng(0), 100)
    assert len({tuple(point.values()) for point in drawn}) == len(drawn) == 4 * 3 * 3
    assert all(contains(SMALL, dict(point)) for point in drawn)


def test_a_large_space_is_drawn_within_its_bounds() -> None:
    drawn = Crossed(LARGE).draw(np.random.default_rng(0), 300)
    assert len(drawn) == 300
    assert all(contains(LARGE, dict(point)) for point in drawn)


def test_neighbours_differ_in_one_parameter_and_are_legal() -> None:
    space = Crossed(LARGE)
    for point in space.draw(np.random.default_rng(0), 20):
        near = space.near(point)
        assert near
        for other in near:
            assert sum(other[name] != point[name] for name in LARGE) == 1
            assert contains(LARGE, dict(other))


def test_of_a_list_no_more_are_drawn_than_asked_for() -> None:
    points = [{"n": n} for n in range(50)]
    drawn = Listed(points).draw(np.random.default_rng(0), 10)
    assert len({point["n"] for point in drawn}) == 10
    assert Listed(points).draw(np.random.default_rng(0), 50) == points
