from __future__ import annotations

import itertools
import math

from front_records import trained

from phonesearch.front.pareto import Front, front
from phonesearch.report.data import listed


def crowded(count: int) -> Front:
    """A front of so many, slower and better from one to the next, most of them slow."""
    return front(
        [trained(n, 100 * math.exp(-3 * (n / count) ** 3), 2.0 - 0.001 * n) for n in range(count)],
        "decode",
    )


def test_a_front_of_a_few_is_listed_whole() -> None:
    found = crowded(40)
    assert listed(found) == found.members


def test_of_a_crowd_those_that_stand_out_and_others_evenly_along_it_are_listed() -> None:
    found = crowded(300)
    shown = listed(found)
    numbers = [point.number for point in shown]
    assert len(found.members) == 300
    assert 20 <= len(shown) <= 44
    assert {found.fastest, found.best_loss, found.knee, found.recommended} <= set(numbers)
    speeds = [point.speed_tokens_per_s for point in shown]
    assert speeds == sorted(speeds, reverse=True)
    steps = [math.log(one / other) for one, other in itertools.pairwise(speeds)]
    assert max(steps) < 0.3
