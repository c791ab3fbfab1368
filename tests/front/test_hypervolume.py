from __future__ import annotations

import dataclasses
import math
import random

import pytest
from front_records import judged, trained

from phonesearch.front.hypervolume import (
    Reference,
    default_reference,
    hypervolume,
    hypervolume_history,
)
from phonesearch.front.pareto import front

E_SQUARED = math.e**2
CORNER = Reference(speed_tokens_per_s=1.0, log_loss=3.0)


def test_hypervolume_is_the_area_of_the_staircase() -> None:
    """Log speeds 2 and 1 above the corner: 2 * (3 - 2) + 1 * (2 - 1.5) = 2.5."""
    records = [judged(0, E_SQUARED, 2.0), judged(1, math.e, 1.5), judged(2, math.e, 2.5)]
    points = front(records, "decode").ranked

    assert hypervolume(points, CORNER) == pytest.approx(2.5)


def test_points_beyond_the_corner_count_for_nothing() -> None:
    points = front([judged(0, 0.5, 1.0), judged(1, math.e, 3.5)], "decode").ranked

    assert hypervolume(points, CORNER) == 0.0


def test_hypervolume_agrees_with_counting_random_darts() -> None:
    random.seed(3)
    records = [judged(n, random.uniform(1.2, 9), random.uniform(1, 3)) for n in range(8)]
    points = front(records, "decode").ranked
    darts = 20_000

    hits = 0
    for _ in range(darts):
        log_speed, loss = random.uniform(0, math.log(9)), random.uniform(1, 3)
        hits += any(
            math.log(p.speed_tokens_per_s) >= log_speed and p.log_loss <= loss for p in points
        )

    area = math.log(9) * 2
    assert hypervolume(points, CORNER) == pytest.approx(area * hits / darts, abs=0.03 * area)


def test_history_never_falls_and_ends_with_all_points() -> None:
    random.seed(4)
    records = [judged(n, random.uniform(2, 9), random.uniform(1, 2)) for n in range(20)]
    corner = default_reference(records, "decode")
    assert corner is not None

    history = hypervolume_history(records, "decode")

    assert list(history) == sorted(history)
    assert history[0] > 0
    assert history[-1] == pytest.approx(hypervolume(front(records, "decode").ranked, corner))


def test_a_trial_that_is_not_ranked_keeps_its_place_in_the_history() -> None:
    failed = dataclasses.replace(trained(1, 9, 1.0), state="failed", reason="broke", score=None)

    history = hypervolume_history([trained(0, 5, 1.5), failed, trained(2, 4, 1.2)], "decode")

    assert len(history) == 3
    assert history[0] == history[1] < history[2]


def test_without_a_ranked_trial_there_is_no_corner_and_no_area() -> None:
    failed = dataclasses.replace(trained(0, 9, 1.0), state="failed", reason="broke", score=None)

    assert default_reference([failed], "decode") is None
    assert hypervolume_history([failed], "decode") == (0.0,)


def test_a_fixed_corner_makes_two_runs_comparable() -> None:
    worse = hypervolume_history([judged(0, 4, 2.0)], "decode", reference=CORNER)
    better = hypervolume_history([judged(0, 5, 1.9)], "decode", reference=CORNER)

    assert worse[0] < better[0]


def test_trials_of_equal_loss_have_a_corner_a_percent_above_it() -> None:
    corner = default_reference([judged(0, 5, -0.2), judged(1, 4, -0.2)], "decode")

    assert corner is not None
    assert corner.log_loss == pytest.approx(-0.19)
