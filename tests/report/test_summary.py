from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from phonesearch.front.pareto import front
from phonesearch.report.data import ReportInput
from phonesearch.report.summary import caveats, found, warnings
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import ScoreKind

MakeReport = Callable[[tuple[TrialRecord, ...]], ReportInput]


def changed(record: TrialRecord, *, number: int, loss: float, error: float) -> TrialRecord:
    """`loss` is a log loss."""
    assert record.score is not None
    score = dataclasses.replace(record.score, log_loss=loss, shared=(), own_sd=error)
    return dataclasses.replace(record, number=number, score=score)


@pytest.fixture
def fast_and_slow(records: tuple[TrialRecord, ...]) -> tuple[TrialRecord, TrialRecord]:
    by_speed = sorted(
        (point.record for point in front(records, "decode").ranked),
        key=lambda record: record.predicted.tpot.value_s if record.predicted else 0.0,
    )
    return by_speed[0], by_speed[-1]


def test_the_headline_compares_the_ends_of_the_front(
    make_report: MakeReport, fast_and_slow: tuple[TrialRecord, TrialRecord]
) -> None:
    fast, slow = fast_and_slow
    report = make_report(
        (
            changed(fast, number=0, loss=0.10, error=0.003),
            changed(slow, number=1, loss=0.00, error=0.004),
        )
    )
    assert fast.predicted is not None
    assert slow.predicted is not None
    ratio = slow.predicted.tpot.value_s / fast.predicted.tpot.value_s

    sentences = found(report)

    assert sentences[0].startswith("At equal parameters (1.50B), the fastest")
    assert f"is {ratio:.2f} times as fast" in sentences[0]
    assert sentences[0].endswith("for 10.5 % ± 0.5 % more expected loss.")
    assert sentences[1].startswith("Recommended is #1 (")
    assert "each faster one is higher by more than its uncertainty" in sentences[1]
    assert "no bend" in sentences[2]


def test_ends_that_cannot_be_told_apart_are_said_so(
    make_report: MakeReport, fast_and_slow: tuple[TrialRecord, TrialRecord]
) -> None:
    fast, slow = fast_and_slow
    report = make_report(
        (
            changed(fast, number=0, loss=0.01, error=0.02),
            changed(slow, number=1, loss=0.00, error=0.02),
        )
    )

    assert "within its uncertainty" in found(report)[1]
    assert found(report)[1].endswith("so #0 is recommended.")


def test_the_fastest_that_cannot_be_told_from_the_best_is_named(
    make_report: MakeReport, records: tuple[TrialRecord, ...]
) -> None:
    by_speed = sorted(
        (point.record for point in front(records, "decode").ranked),
        key=lambda record: record.predicted.tpot.value_s if record.predicted else 0.0,
    )
    losses = ((by_speed[0], 0.10), (by_speed[5], 0.02), (by_speed[-1], 0.00))
    report = make_report(
        tuple(
            changed(record, number=number, loss=loss, error=0.02)
            for number, (record, loss) in enumerate(losses)
        )
    )

    assert found(report)[1].startswith("Recommended is #1 (")
    assert "cannot be told from the lowest (+2.0 % ± 2.8 % against #2)" in found(report)[1]


def test_unequal_parameters_are_not_called_equal(
    make_report: MakeReport, fast_and_slow: tuple[TrialRecord, TrialRecord]
) -> None:
    fast, slow = fast_and_slow
    fast = dataclasses.replace(
        fast, num_parameters=2_000_000_000, num_non_embedding_parameters=1_900_000_000
    )
    first = changed(fast, number=0, loss=0.1, error=0.001)
    second = changed(slow, number=1, loss=0.0, error=0.001)

    total_differs = found(make_report((first, second)))[0]
    equal = second.num_non_embedding_parameters
    first = dataclasses.replace(first, num_non_embedding_parameters=equal)
    only_total_differs = found(make_report((first, second)))[0]

    assert total_differs.startswith("At 1.50B to 2.00B parameters, ")
    assert only_total_differs.startswith("At equal non-embedding parameters (")


def test_losses_of_different_recipes_come_with_a_warning_first(report: ReportInput) -> None:
    first, *others = report.records
    assert first.proxy is not None
    proxy = dataclasses.replace(first.proxy, recipe={"tokens": 5, "seed": 0})
    records = (dataclasses.replace(first, proxy=proxy), *others)
    mixed = dataclasses.replace(report, records=records, front=front(records, "decode"))

    assert warnings(report) == report.warnings
    assert "tokens differ" in warnings(mixed)[0]


def test_scores_of_different_kinds_come_with_a_warning_first(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    anchors, prior = report_of("anchors"), report_of("prior")
    records = (prior.records[0], *anchors.records[1:])
    mixed = dataclasses.replace(anchors, records=records, front=front(records, "decode"))

    assert warnings(anchors) == anchors.warnings
    assert "judged in different ways: anchors, prior" in warnings(mixed)[0]
    assert "do not rely on this front" in warnings(mixed)[0]


def test_unranked_candidates_and_near_ones_are_named(report: ReportInput) -> None:
    lines = " ".join(caveats(report))

    assert report.front.censored
    assert report.front.near
    assert "Not ranked: #4, #22" in lines
    assert f"#{report.front.near[0]}" in lines
