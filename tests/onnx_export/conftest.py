"""The kinds of candidate that every graph form must express."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch.candidate.config import Candidate, RopeScaling

BASE = Candidate(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=64,
)
VARIANTS = {
    "grouped heads": BASE,
    "multi-head": replace(BASE, num_key_value_heads=4),
    "multi-query": replace(BASE, num_key_value_heads=1),
    "untied": replace(BASE, tie_word_embeddings=False),
    "all biases": replace(BASE, attention_bias=True, attention_out_bias=True, mlp_bias=True),
    "qkv bias": replace(BASE, attention_bias=True),
    "q/k norm": replace(BASE, qk_norm=True, attention_bias=True),
    "sliding window": replace(BASE, sliding_window=5),
    "plain gelu": replace(BASE, ffn_type="plain", hidden_act="gelu"),
    "plain relu2 with bias": replace(BASE, ffn_type="plain", hidden_act="relu2", mlp_bias=True),
    "gated relu": replace(BASE, hidden_act="relu"),
    "stretched rotary": replace(
        BASE,
        rope_scaling=RopeScaling(
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
    ),
    "widths that blocks do not divide": replace(
        BASE, hidden_size=72, intermediate_size=100, head_dim=48
    ),
    "one layer": replace(BASE, num_hidden_layers=1),
    "twelve layers": replace(BASE, num_hidden_layers=12),
}


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Candidate:
    return VARIANTS[request.param]
