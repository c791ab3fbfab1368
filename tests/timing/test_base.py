"""What a measurement makes of its raw samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch.timing.base import Measurement

MEASUREMENT = Measurement(
    prompt_tokens=100,
    generate_tokens=11,
    prefill_samples_s=(0.5, 0.4, 0.6),
    decode_samples_s=tuple(0.01 * step for step in range(1, 12)),
    warmup_runs=1,
    num_threads=1,
    device="test",
    engine="test",
    peak_memory_bytes=None,
)


def test_the_value_is_the_median_and_not_the_mean() -> None:
    skewed = replace(MEASUREMENT, prefill_samples_s=(0.4, 0.5, 9.0))

    assert skewed.speed.ttft.value_s == 0.5


def test_the_interval_runs_from_the_first_to_the_ninth_decile() -> None:
    """Of 0.01, 0.02, ..., 0.11 these are 0.02 and 0.10."""
    tpot = MEASUREMENT.speed.tpot

    assert (tpot.low_s, tpot.high_s) == (pytest.approx(0.02), pytest.approx(0.10))
    assert MEASUREMENT.speed.coverage == 0.8


def test_a_turn_is_the_prefill_and_one_step_less_than_the_tokens() -> None:
    """0.5 + 10 * 0.06: the prefill gives the first of the 11 tokens."""
    assert MEASUREMENT.speed.turn.value_s == pytest.approx(1.1)


def test_a_single_sample_has_an_interval_of_no_width() -> None:
    ttft = replace(MEASUREMENT, prefill_samples_s=(0.7,)).speed.ttft

    assert (ttft.low_s, ttft.value_s, ttft.high_s) == (0.7, 0.7, 0.7)


def test_the_order_of_the_samples_does_not_change_the_speed() -> None:
    turned = replace(MEASUREMENT, decode_samples_s=MEASUREMENT.decode_samples_s[::-1])

    assert turned.speed == MEASUREMENT.speed
