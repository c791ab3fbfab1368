from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from front_records import speed, trained

from phonesearch.errors import RunFolderError
from phonesearch.front.pareto import dominates, front
from phonesearch.study.record import TrialRecord


def test_the_front_is_what_no_other_point_dominates() -> None:
    """Against the definition, on coarse values so that equals and duplicates occur."""
    random.seed(0)
    for _ in range(200):
        records = [
            trained(number, random.randint(1, 6), random.randint(1, 6) / 10)
            for number in range(random.randint(0, 12))
        ]
        found = front(records, "decode")
        points = (*found.members, *found.dominated)

        expected = {
            point.number for point in points if not any(dominates(other, point) for other in points)
        }

        assert {point.number for point in found.members} == expected
        assert len(points) == len(records)
        rates = [point.speed_tokens_per_s for point in found.members]
        assert rates == sorted(rates, reverse=True)


def test_a_censored_candidate_is_shown_apart_however_good_its_loss() -> None:
    found = front([trained(0, 10, 2.0), trained(1, 99, 0.1, passed=False)], "decode")

    assert [point.number for point in found.members] == [0]
    assert [point.number for point in found.censored] == [1]
    assert found.dominated == ()


def test_failed_and_infeasible_trials_are_kept_and_not_ranked() -> None:
    failed = trained(1, 50, 1.0, state="failed", reason="out of memory", proxy=None)
    slow = trained(2, 1, 1.0, state="infeasible", reason="too slow", proxy=None)

    found = front([slow, failed, trained(0, 10, 2.0)], "decode")

    assert [point.number for point in found.members] == [0]
    assert [record.number for record in found.failed] == [1]
    assert [record.number for record in found.infeasible] == [2]


def test_a_measured_speed_takes_the_place_of_the_predicted_one() -> None:
    found = front(
        [trained(0, 10, 2.0, measured=speed(7.0)), trained(1, 6, 2.1, measured=speed(8.0))],
        "decode",
    )

    assert found.members[0].number == 1
    assert all(point.measured for point in found.members)
    assert found.members[1].speed_tokens_per_s == pytest.approx(7.0)


def test_a_slow_time_is_the_low_end_of_the_speed() -> None:
    point = front([trained(0, 10, 2.0)], "decode").members[0]

    assert (point.speed_low, point.speed_high) == (pytest.approx(8.0), pytest.approx(12.5))


def test_the_knee_is_farthest_from_the_chord() -> None:
    """Scaled log2 speed + loss: 1 + 0, 0.9 + 0.8, 0.2 + 0.9, 0 + 1."""
    records = [
        trained(0, 2**10, 2.0),
        trained(1, 2**9, 1.2),
        trained(2, 2**2, 1.1),
        trained(3, 2**0, 1.0),
    ]
    found = front(records, "decode")

    assert (found.fastest, found.knee, found.best_loss) == (0, 1, 3)


def test_a_front_without_a_bend_falls_back_to_its_lowest_loss() -> None:
    two = front([trained(0, 20, 2.0), trained(1, 10, 1.0)], "decode")
    hollow = front([trained(0, 16, 2.0), trained(1, 5, 1.9), trained(2, 1, 1.0)], "decode")

    assert two.knee == two.best_loss == 1
    assert hollow.knee == 2


@pytest.mark.parametrize("count", [0, 1])
def test_a_front_of_none_or_one_has_ends_to_match(count: int) -> None:
    found = front([trained(7, 10, 2.0)][:count], "decode")

    expected = 7 if count else None
    assert found.knee == found.fastest == found.best_loss == expected
    assert found.ties == ()


def test_losses_within_the_deviation_of_their_difference_are_ties() -> None:
    """sqrt(0.03**2 + 0.04**2) = 0.05."""
    records = [
        trained(0, 30, 2.10, standard_error=0.03),
        trained(1, 20, 2.06, standard_error=0.04),
        trained(2, 10, 1.90, standard_error=0.03),
    ]
    found = front(records, "decode")

    assert found.ties == ((0, 1),)
    assert found.tied_with(0) == (1,)
    assert found.tied_with(2) == ()


def test_a_dominated_candidate_is_near_only_if_all_that_beat_it_are_within_noise() -> None:
    records = [
        trained(0, 30, 2.00, standard_error=0.01),
        trained(1, 29, 2.01, standard_error=0.01),
        trained(2, 29, 2.50, standard_error=0.01),
    ]
    found = front(records, "decode")

    assert [point.number for point in found.dominated] == [1, 2]
    assert found.near == (1,)


def test_losses_of_different_recipes_are_named() -> None:
    other = trained(1, 20, 1.0)
    assert other.proxy is not None
    proxy = dataclasses.replace(other.proxy, recipe={"tokens": 2000, "seed": 0})
    same = front([trained(0, 10, 2.0), trained(1, 20, 1.0)], "decode")

    mixed = front([trained(0, 10, 2.0), dataclasses.replace(other, proxy=proxy)], "decode")

    assert same.differing_recipe_fields == ()
    assert mixed.differing_recipe_fields == ("tokens",)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (trained(4, 10, 2.0, proxy=None), "Trial 4 .* no proxy loss"),
        (trained(4, 10, 2.0, predicted=None), "Trial 4 .* no speed"),
        (trained(4, 10, float("nan")), "Trial 4 .* got 10.0 tokens/s and nan bits"),
    ],
)
def test_a_damaged_record_is_refused_by_number(record: TrialRecord, problem: str) -> None:
    with pytest.raises(RunFolderError, match=problem):
        front([record], "decode")


def test_the_order_of_records_does_not_matter() -> None:
    random.seed(1)
    records = [trained(n, random.uniform(10, 20), random.uniform(1, 2)) for n in range(6)]

    fronts = {
        tuple(p.number for p in front(shuffled, "decode").members)
        for shuffled in itertools.permutations(records, 6)
    }

    assert len(fronts) == 1
