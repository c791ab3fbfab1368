"""What is measured of a predicted front, against a truth that is known."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from front_records import judged, speed

from phonesearch.front.confirm import FIRST, contenders
from phonesearch.front.pareto import front
from phonesearch.study.record import TrialRecord


def measure_all_due(
    records: list[TrialRecord], truth: Callable[[int], float]
) -> tuple[list[TrialRecord], list[int]]:
    """As `confirm` does, with a stopwatch that knows the truth."""
    order: list[int] = []
    while due := contenders(records, "decode"):
        order.append(due[0])
        records = [
            dataclasses.replace(record, measured=speed(truth(record.number)))
            if record.number == due[0]
            else record
            for record in records
        ]
    return records, order


@pytest.mark.parametrize("bias", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(8))
def test_the_measured_front_is_the_true_one_for_a_part_of_the_measurements(
    bias: float, seed: int
) -> None:
    draw = random.Random(seed)
    records = [judged(n, draw.uniform(20, 60), draw.uniform(1, 2)) for n in range(40)]
    true = {
        record.number: record.predicted.tokens_per_s("decode")[0]
        * bias
        * draw.lognormvariate(0, 0.03)
        for record in records
        if record.predicted is not None
    }
    everything = [
        dataclasses.replace(record, measured=speed(true[record.number])) for record in records
    ]

    confirmed, order = measure_all_due(records, true.__getitem__)

    found = [point.number for point in front(confirmed, "decode").members]
    assert found == [point.number for point in front(everything, "decode").members]
    assert len(order) == len(set(order))
    assert len(order) <= 16


def test_the_first_are_the_predicted_front_and_what_comes_nearest() -> None:
    records = [judged(0, 30, 1.0), judged(1, 20, 1.1), judged(2, 29, 1.2), judged(3, 25, 1.3)]
    assert contenders(records, "decode") == (0, 2, 3)
    assert len(contenders(records, "decode")) == FIRST


def test_without_those_that_cannot_be_measured_the_next_take_their_place() -> None:
    records = [judged(n, 60 - n, 1.0 - 0.01 * n) for n in range(8)]
    asked = set(contenders(records, "decode"))
    left = [record for record in records if record.number not in asked]
    assert len(contenders(left, "decode")) == FIRST
    assert not asked & set(contenders(left, "decode"))


def test_a_prediction_never_beats_a_measurement() -> None:
    records = [
        dataclasses.replace(judged(0, 50, 1.0), measured=speed(20)),
        judged(1, 45, 1.1),
    ]
    found = front(records, "decode")
    assert [point.number for point in found.members] == [0]
    assert [point.number for point in found.dominated] == [1]


def test_a_wide_scatter_leaves_more_to_measure_than_a_narrow_one() -> None:
    records = [judged(n, 60 - n, 1.0 + 0.001 * (n % 4)) for n in range(20)]

    def remaining(scatter: float) -> int:
        factors = [1 - scatter, 1.0, 1 + scatter]
        measured = [
            dataclasses.replace(record, measured=speed((60 - record.number) * factor))
            for record, factor in zip(records[:3], factors, strict=True)
        ]
        return len(contenders([*measured, *records[3:]], "decode"))

    counts = [remaining(scatter) for scatter in (0.0, 0.05, 0.2)]
    assert all(fewer <= more for fewer, more in pairwise(counts))
    assert counts[0] < counts[-1]
