"""A candidate refuses contradictions and knows its own name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from phonesearch.candidate.config import (
    Candidate,
    RopeScaling,
    as_dict,
    candidate_id,
    rope_inverse_frequencies,
)
from phonesearch.errors import InvalidCandidateError

BASE = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 0, "`hidden_size` must be at least 1, got 0"),
        ("num_hidden_layers", -1, "`num_hidden_layers` must be at least 1, got -1"),
        ("num_key_value_heads", 3, "multiple of `num_key_value_heads`, got 4 and 3"),
        ("head_dim", 15, "`head_dim` must be even for rotary embeddings, got 15"),
        ("sliding_window", 0, "`sliding_window` must be at least 1 or null, got 0"),
        ("rms_norm_eps", 0.0, "got 0.0 and 10000.0"),
        ("rms_norm_eps", math.nan, "got nan"),
        ("rope_theta", 1.0, "got 1e-06 and 1.0"),
    ],
)
def test_a_contradiction_is_refused_with_its_value(field: str, value: float, message: str) -> None:
    with pytest.raises(InvalidCandidateError, match=message):
        replace(BASE, **{field: value})


def test_the_id_is_the_same_on_every_machine() -> None:
    assert candidate_id(BASE) == candidate_id(replace(BASE))
    assert len(candidate_id(BASE)) == 12
    assert candidate_id(BASE) == "07b85312c2fb"


@pytest.mark.parametrize(
    "change",
    [{"hidden_act": "gelu"}, {"ffn_type": "plain"}, {"rope_theta": 5e5}, {"sliding_window": 8}],
)
def test_every_field_changes_the_id(change: dict[str, object]) -> None:
    assert candidate_id(replace(BASE, **change)) != candidate_id(BASE)


def test_a_candidate_is_rebuilt_from_its_fields() -> None:
    assert Candidate(**as_dict(BASE)) == BASE


def test_rotary_frequencies_fall_from_one_by_powers_of_theta() -> None:
    """head_dim 4, theta 10000: exponents 0 and -2/4, so 1 and 10000^-0.5 = 0.01."""
    assert rope_inverse_frequencies(replace(BASE, head_dim=4)) == pytest.approx((1.0, 0.01))


def test_llama3_scaling_divides_only_the_slow_frequencies() -> None:
    """head_dim 4: wavelengths 6.28 and 628.3. Context 1000, low factor 4: the slow one is longer
    than 1000/4 = 250 and is divided by 8; the fast one is shorter than 1000/16 and stays."""
    scaling = RopeScaling(
        factor=8.0,
        low_freq_factor=4.0,
        high_freq_factor=16.0,
        original_max_position_embeddings=1000,
    )
    scaled = rope_inverse_frequencies(replace(BASE, head_dim=4, rope_scaling=scaling))
    assert scaled == pytest.approx((1.0, 0.01 / 8))
