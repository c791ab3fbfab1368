"""Limits, and what is held against them; figures by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phonesearch.errors import WrongLogitsError
from phonesearch.phone.device import PhoneReport, read_answers
from phonesearch.phone.judge import (
    Limits,
    ReferenceTime,
    drift,
    slowed,
    spread,
    too_warm,
    worst_spread,
)
from phonesearch.phone.logits import agreement
from phonesearch.phone.readings import Battery, Heat
from phonesearch.phone.runner_output import RunReport

LIMITS = Limits()


def report(*rounds: tuple[float, ...], prefill: tuple[float, ...] = (1.0,)) -> RunReport:
    return RunReport(
        onnxruntime_version="1.29.0",
        num_threads=2,
        cpus_granted=(6, 7),
        has_dot_product=True,
        samples_s=(tuple((one,) for one in prefill), rounds),
        clocks_hz=(),
        is_finite=True,
        peak_memory_bytes=None,
        cache_bytes=0,
        load_s=1.0,
    )


def phone(*, status: int | None = 0, battery_c: float | None = 30.0) -> PhoneReport:
    return replace(
        read_answers({}, serial="S1"),
        heat=Heat(status=status),
        battery=Battery(temperature_c=battery_c),
    )


def test_drift_is_of_the_last_quarter_over_the_first() -> None:
    assert drift(16 * [1.0] + 16 * [1.2]) == pytest.approx(0.2)
    assert drift(16 * [1.0] + 16 * [0.9]) == pytest.approx(-0.1)
    assert drift(31 * [1.0]) == 0.0
    assert drift([1.0, 2.0]) == 0.0


def test_spread_is_of_the_medians_of_rounds() -> None:
    assert spread([(1.0, 1.0, 9.0), (1.1, 1.1, 1.1), (1.0, 1.0, 1.0)]) == pytest.approx(0.1)
    assert spread([(1.0,)]) == 0.0
    assert worst_spread(report((1.0,), (1.0,), prefill=(1.0, 1.3))) == pytest.approx(0.3 / 1.15)


@pytest.mark.parametrize(
    ("status", "battery_c", "words"),
    [
        (0, 33.0, None),
        (0, 33.1, "33.1 C, and had 30.0 C"),
        (1, 30.0, "thermal status is 1"),
        (None, None, None),
        (None, 40.0, "40.0 C"),
    ],
)
def test_a_measurement_begins_when_the_phone_is_cool(
    status: int | None, battery_c: float | None, words: str | None
) -> None:
    found = too_warm(phone(status=status, battery_c=battery_c), phone(), LIMITS)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")


@pytest.mark.parametrize(
    ("steps", "status", "battery_c", "words"),
    [
        (32 * [1.0], 0, 32.9, None),
        (32 * [1.0], 1, 30.0, "thermal status 1"),
        (32 * [1.0], 0, 33.0, "warmed up from 30.0 to 33.0"),
        (24 * [1.0] + 8 * [1.11], 0, 30.0, "11% slower"),
        (24 * [1.0] + 8 * [1.09], 0, 30.0, None),
    ],
)
def test_a_phone_that_slowed_down_is_told_by_heat_or_by_drift(
    steps: list[float], status: int, battery_c: float, words: str | None
) -> None:
    found = slowed(report(tuple(steps)), phone(), phone(status=status, battery_c=battery_c), LIMITS)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")


def test_a_reference_moves_by_the_larger_of_its_changes() -> None:
    before = ReferenceTime(prefill_s=1.0, decode_s=0.1)
    assert before.change(ReferenceTime(prefill_s=1.02, decode_s=0.09)) == pytest.approx(-0.1)
    assert ReferenceTime.of(report((1.0, 3.0, 2.0))).decode_s == 2.0


def test_logits_are_compared_exactly_and_kernels_loosely() -> None:
    expected = np.array([1.0, -1.0, 1.0, -1.0], dtype=np.float32)
    found = agreement(expected + 5e-5, expected + 0.05, expected, limits=LIMITS)
    assert found.largest == pytest.approx(5e-5, rel=0.01)
    assert found.kernels == pytest.approx(0.05, rel=0.01)
    with pytest.raises(WrongLogitsError, match="other logits"):
        agreement(expected + 2e-4, expected, expected, limits=LIMITS)
    with pytest.raises(WrongLogitsError, match="other logits"):
        agreement(expected * np.nan, expected, expected, limits=LIMITS)
    with pytest.raises(WrongLogitsError, match="fast kernels"):
        agreement(expected, expected + 0.11, expected, limits=LIMITS)
    with pytest.raises(WrongLogitsError, match="fast kernels"):
        agreement(expected, expected * np.nan, expected, limits=LIMITS)
    with pytest.raises(WrongLogitsError, match="gave 3 and 4 logits"):
        agreement(expected[:3], expected, expected, limits=LIMITS)
