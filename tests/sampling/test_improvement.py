from __future__ import annotations

import numpy as np
import pytest

from phonesearch.sampling.improvement import area, expected_gain, staircase

CORNER = (10.0, 5.0)
CHEAP = np.array([2.0, 4.0, 7.0, 6.0])
COSTLY = np.array([4.0, 2.5, 1.0, 3.0])  # the last one is dominated


def test_the_area_is_that_of_the_rectangles() -> None:
    """From 2 to 4 one below the corner, from 4 to 7 two and a half, from 7 to 10 four."""
    steps = staircase(CHEAP, COSTLY, corner=CORNER)
    assert area(steps) == pytest.approx(2 * 1.0 + 3 * 2.5 + 3 * 4.0)


def test_points_beyond_the_corner_count_for_nothing() -> None:
    steps = staircase(np.array([11.0, 3.0]), np.array([1.0, 6.0]), corner=CORNER)
    assert area(steps) == 0


def test_the_expected_gain_is_the_mean_gain_of_draws() -> None:
    rng = np.random.default_rng(0)
    steps = staircase(CHEAP, COSTLY, corner=CORNER)
    before = area(steps)
    for cheap, mean, sd in ((3.0, 2.4, 0.8), (1.0, 6.0, 1.5), (8.0, 1.1, 0.1), (4.0, 2.5, 0.3)):
        gains = []
        for costly in rng.normal(mean, sd, size=4000):
            with_it = staircase(np.append(CHEAP, cheap), np.append(COSTLY, costly), corner=CORNER)
            gains.append(area(with_it) - before)
        found = expected_gain(steps, np.array([cheap]), np.array([mean]), np.array([sd]))
        assert found[0] == pytest.approx(np.mean(gains), rel=0.1, abs=0.01)


def test_many_points_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(1)
    steps = staircase(CHEAP, COSTLY, corner=CORNER)
    cheap, mean, sd = rng.uniform(0, 12, 3000), rng.uniform(0, 6, 3000), rng.uniform(0.1, 1, 3000)
    together = expected_gain(steps, cheap, mean, sd)
    for place in (0, 1023, 1024, 2999):
        one = slice(place, place + 1)
        assert together[place] == pytest.approx(
            expected_gain(steps, cheap[one], mean[one], sd[one])[0]
        )
