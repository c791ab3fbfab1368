"""Rates from times."""

from __future__ import annotations

import pytest

from phonesearch.device.speed import SPEED_OBJECTIVES, Span, Speed

SPEED = Speed(
    prompt_tokens=128,
    generate_tokens=64,
    ttft=Span(value_s=0.5, low_s=0.25, high_s=1.0),
    tpot=Span(value_s=0.02, low_s=0.01, high_s=0.04),
    turn=Span(value_s=1.6, low_s=0.8, high_s=3.2),
    coverage=0.9,
)


def test_a_slow_time_is_the_low_end_of_a_rate() -> None:
    value, low, high = SPEED.tokens_per_s("prefill")

    assert (value, low, high) == (256, 128, 512)


def test_decode_is_one_token_a_step() -> None:
    assert SPEED.tokens_per_s("decode") == pytest.approx((50, 25, 100))
    assert SPEED.decode_tokens_per_s == pytest.approx(50)


def test_a_turn_counts_generated_tokens_only_but_all_of_its_time() -> None:
    """64 tokens in 1.6 s."""
    assert SPEED.turn_tokens_per_s == pytest.approx(40)
    assert SPEED.tokens_per_s("turn")[0] == SPEED.turn_tokens_per_s


@pytest.mark.parametrize("objective", SPEED_OBJECTIVES)
def test_the_value_lies_in_its_interval(objective) -> None:
    value, low, high = SPEED.tokens_per_s(objective)

    assert low <= value <= high
