"""Values that tests of several rooms share."""

from __future__ import annotations

import pytest

from phonesearch.candidate.config import Candidate


@pytest.fixture
def tiny() -> Candidate:
    """Two layers of width 64 with grouped heads, small enough to run everywhere."""
    return Candidate(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
