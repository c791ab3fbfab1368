"""Figures over cases, against hand arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.device.score import Case, groups, score


@pytest.fixture
def case(tiny: Candidate) -> Case:
    return Case(
        row=1,
        device="Phone",
        model="Tiny",
        architecture=tiny,
        processor="CPU",
        engine="one-4bit",
        weight_bits=4,
        phase="decode",
        prompt_tokens=64,
        generate_tokens=128,
        lengths_assumed=False,
        measured_tokens_per_s=10.0,
        predicted_tokens_per_s=10.0,
        predicted_low_tokens_per_s=8.0,
        predicted_high_tokens_per_s=12.5,
        exposure="unseen",
        doubt="",
        confidence="A",
        source="a table",
    )


def model(case: Case, layers: int, *, measured: float, predicted: float) -> Case:
    return replace(
        case,
        architecture=replace(case.architecture, num_hidden_layers=layers),
        measured_tokens_per_s=measured,
        predicted_tokens_per_s=predicted,
        predicted_low_tokens_per_s=predicted / 1.25,
        predicted_high_tokens_per_s=predicted * 1.25,
    )


def test_the_error_is_of_tokens_a_second_and_signed(case: Case) -> None:
    assert replace(case, predicted_tokens_per_s=12.0).error == pytest.approx(0.2)
    assert replace(case, predicted_tokens_per_s=8.0).error == pytest.approx(-0.2)


def test_shares_medians_and_percentiles_are_over_rows(case: Case) -> None:
    """Errors 0, +5, -10, +20, +22 %: the median is 10, the 90th percentile lies 0.6 of the
    way from 20 to 22 % (position 0.9 x 4 = 3.6)."""
    cases = [replace(case, predicted_tokens_per_s=rate) for rate in (10.0, 10.5, 9.0, 12.0, 12.2)]
    found = score(cases)
    assert (found.rows, found.models) == (5, 1)
    assert found.median_error == pytest.approx(0.1)
    assert found.p90_error == pytest.approx(0.212)
    assert found.within_10 == pytest.approx(3 / 5)
    assert found.within_20 == pytest.approx(4 / 5)


def test_coverage_counts_measurements_inside_the_interval(case: Case) -> None:
    cases = [replace(case, measured_tokens_per_s=rate) for rate in (7.9, 8.0, 12.5, 12.6)]
    assert score(cases).interval_coverage == pytest.approx(0.5)


def test_rank_correlation_is_between_models_at_the_median_of_their_rows(case: Case) -> None:
    """Four models, one pair of six the wrong way round: (5 - 1) / 6."""
    rates = {1: (40.0, 38.0), 2: (30.0, 33.0), 3: (20.0, 12.0), 4: (10.0, 14.0)}
    cases = [
        model(case, layers, measured=measured, predicted=predicted)
        for layers, (measured, predicted) in rates.items()
    ]
    assert score(cases).kendall_tau == pytest.approx(4 / 6)

    odd_row = model(case, 4, measured=99.0, predicted=1.0)
    assert score([*cases, cases[3], odd_row]).kendall_tau == pytest.approx(4 / 6)


def test_rank_correlation_needs_three_models_that_differ(case: Case) -> None:
    two = [model(case, n, measured=n, predicted=n) for n in (1, 2)]
    assert score(two).kendall_tau is None
    alike = [model(case, n, measured=5.0, predicted=n) for n in (1, 2, 3)]
    assert score(alike).kendall_tau is None


def test_no_case_has_no_figure() -> None:
    found = score([])
    assert (found.rows, found.models) == (0, 0)
    assert found.median_error is None
    assert found.within_20 is None
    assert found.interval_coverage is None


def test_the_same_model_on_two_engines_is_ranked_twice_and_counted_once(case: Case) -> None:
    cases = [
        model(case, layers, measured=rate, predicted=rate)
        for layers, rate in ((1, 30.0), (2, 20.0))
    ]
    other = [
        replace(one, engine="two-4bit", measured_tokens_per_s=rate, predicted_tokens_per_s=rate)
        for one, rate in zip(cases, (3.0, 2.0), strict=True)
    ]
    found = score([*cases, *other])
    assert found.models == 2
    assert found.kendall_tau == pytest.approx(1.0)


def test_groups_are_by_processor_engine_and_width(case: Case) -> None:
    wide = replace(case, engine="one-16bit", weight_bits=16)
    npu = replace(case, processor="NPU", engine="npu-4bit")
    found = groups([case, wide, case, npu])
    assert [(one.processor, one.engine, one.weight_bits, len(one.cases)) for one in found] == [
        ("CPU", "one-4bit", 4, 2),
        ("CPU", "one-16bit", 16, 1),
        ("NPU", "npu-4bit", 4, 1),
    ]
