from __future__ import annotations

import dataclasses
import itertools
import math
import random

import pytest
from front_records import judged, speed, trained

from phonesearch.errors import RunFolderError
from phonesearch.front.pareto import dominates, front, loss_against
from phonesearch.study.record import TrialRecord


def test_the_front_is_what_no_other_point_dominates() -> None:
    """Against the definition, on coarse values so that equals and duplicates occur."""
    random.seed(0)
    for _ in range(200):
        records = [
            judged(number, random.randint(1, 6), random.randint(1, 6) / 10)
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
    failed = trained(1, 50, 1.0, state="failed", reason="out of memory", score=None)
    slow = trained(2, 1, 1.0, state="infeasible", reason="too slow", score=None)

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
        judged(0, 2**10, 2.0),
        judged(1, 2**9, 1.2),
        judged(2, 2**2, 1.1),
        judged(3, 2**0, 1.0),
    ]
    found = front(records, "decode")

    assert (found.fastest, found.knee, found.best_loss) == (0, 1, 3)


def test_a_front_without_a_bend_falls_back_to_its_lowest_loss() -> None:
    two = front([judged(0, 20, 2.0), judged(1, 10, 1.0)], "decode")
    hollow = front([judged(0, 16, 2.0), judged(1, 5, 1.9), judged(2, 1, 1.0)], "decode")

    assert two.knee == two.best_loss == 1
    assert hollow.knee == 2


@pytest.mark.parametrize("count", [0, 1])
def test_a_front_of_none_or_one_has_ends_to_match(count: int) -> None:
    found = front([trained(7, 10, 2.0)][:count], "decode")

    expected = 7 if count else None
    assert found.knee == found.fastest == found.best_loss == found.recommended == expected
    assert found.ties == ()


def test_losses_within_the_deviation_of_their_difference_are_ties() -> None:
    """sqrt(0.03**2 + 0.04**2) = 0.05."""
    records = [
        judged(0, 30, 0.20, own_sd=0.03),
        judged(1, 20, 0.16, own_sd=0.04),
        judged(2, 10, 0.00, own_sd=0.03),
    ]
    found = front(records, "decode")

    assert found.ties == ((0, 1),)
    assert found.tied_with(0) == (1,)
    assert found.tied_with(2) == ()


def test_what_two_candidates_are_unsure_of_alike_does_not_make_them_a_tie() -> None:
    """Each loss is known to 30 %, but only 1 % of that is its own."""
    alike = [
        judged(0, 30, 0.05, shared=(0.3, 0.1), own_sd=0.01),
        judged(1, 20, 0.00, shared=(0.3, 0.1), own_sd=0.01),
    ]
    opposed = [
        judged(0, 30, 0.05, shared=(0.3, 0.1), own_sd=0.01),
        judged(1, 20, 0.00, shared=(-0.3, 0.1), own_sd=0.01),
    ]

    told_apart, tied = front(alike, "decode"), front(opposed, "decode")

    assert told_apart.ties == ()
    assert told_apart.members[0].loss_sd == pytest.approx(math.hypot(0.3, 0.1, 0.01))
    assert tied.ties == ((0, 1),)


def test_of_those_that_cannot_be_told_from_the_best_the_fastest_is_recommended() -> None:
    """The first is tied with the second, but not with the best."""
    found = front(
        [
            judged(0, 40, 0.060, own_sd=0.02),
            judged(1, 30, 0.035, own_sd=0.02),
            judged(2, 20, 0.020, own_sd=0.02),
            judged(3, 10, 0.000, own_sd=0.02),
        ],
        "decode",
    )

    assert (0, 1) in found.ties
    assert found.recommended == 2
    assert front([judged(0, 40, 0.1), judged(1, 30, 0.0)], "decode").recommended == 1


def test_a_loss_against_the_best_is_a_share_of_it() -> None:
    found = front([judged(0, 20, 0.1, own_sd=0.03), judged(1, 10, 0.0, own_sd=0.04)], "decode")
    fast, best = found.members

    above = loss_against(fast, best)

    assert above.fraction == pytest.approx(math.exp(0.1) - 1)
    assert above.sd == pytest.approx(0.05)
    assert loss_against(best, best).sd == 0.0
    assert found.best == best


def test_scores_of_different_kinds_are_named_and_nothing_cancels_between_them() -> None:
    found = front(
        [
            judged(0, 20, 0.1, kind="prior", shared=(0.3,), own_sd=0.0),
            judged(1, 10, 0.0, kind="anchors", shared=(0.4,), own_sd=0.0),
        ],
        "decode",
    )

    assert found.score_kinds == ("anchors", "prior")
    assert loss_against(*found.members).sd == pytest.approx(0.5)


def test_only_a_training_of_its_own_censors_a_candidate() -> None:
    early = trained(1, 20, 1.0, passed=False)
    found = front([judged(0, 10, 0.0), early], "decode")

    assert [point.number for point in found.censored] == [1]
    assert found.members[0].proxy is None
    assert found.score_kinds == ("anchors",)


def test_a_dominated_candidate_is_near_only_if_all_that_beat_it_are_within_noise() -> None:
    records = [
        judged(0, 30, 0.00, own_sd=0.01),
        judged(1, 29, 0.01, own_sd=0.01),
        judged(2, 29, 0.50, own_sd=0.01),
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
    assert front([judged(0, 10, 2.0), judged(1, 20, 1.0)], "decode").differing_recipe_fields == ()
    assert mixed.differing_recipe_fields == ("tokens",)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (trained(4, 10, 2.0, score=None), "Trial 4 .* no score"),
        (trained(4, 10, 2.0, predicted=None), "Trial 4 .* no speed"),
        (trained(4, 10, float("nan")), "Trial 4 .* got 10.0 tokens/s and a log loss of nan"),
        (judged(4, 10, 0.0, own_sd=float("inf")), "Trial 4 .* deviation of inf"),
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
