"""Counts against the built torch model, against published models and against hand arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonesearch.candidate.config import ACTIVATIONS, FFN_TYPES, Candidate
from phonesearch.candidate.count import (
    attention_flops,
    decode_flops,
    embedding_parameters,
    kv_cache_bytes,
    matmul_parameters,
    non_embedding_parameters,
    num_parameters,
    peak_memory_bytes,
    prefill_flops,
    total_parameters,
    weight_bytes,
)
from phonesearch.model.decoder import Decoder

HAND = Candidate(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=8,
)
"""One layer: q 32x32, k and v 8x32, o 32x32 = 2,560; FFN 3 x 32 x 64 = 6,144; norms 64."""
PHONELM_1_5B = Candidate(
    vocab_size=49152,
    hidden_size=2560,
    intermediate_size=6816,
    num_hidden_layers=19,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=160,
    hidden_act="relu",
)
PHONELM_0_5B = replace(
    PHONELM_1_5B, hidden_size=1024, intermediate_size=4864, num_hidden_layers=24, head_dim=64
)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    key_value_heads = draw(st.integers(1, 4))
    return Candidate(
        vocab_size=draw(st.integers(1, 300)),
        hidden_size=draw(st.integers(1, 96)),
        intermediate_size=draw(st.integers(1, 200)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=key_value_heads * draw(st.integers(1, 4)),
        num_key_value_heads=key_value_heads,
        head_dim=2 * draw(st.integers(1, 16)),
        ffn_type=draw(st.sampled_from(FFN_TYPES)),
        hidden_act=draw(st.sampled_from(ACTIVATIONS)),
        tie_word_embeddings=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        attention_out_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None)
@given(candidates())
def test_counted_parameters_are_those_that_torch_holds(candidate: Candidate) -> None:
    sizes = {n: p.numel() for n, p in Decoder(candidate, device="meta").named_parameters()}
    tables = sum(sizes.get(n, 0) for n in ("model.embed_tokens.weight", "lm_head.weight"))
    assert total_parameters(candidate) == sum(sizes.values())
    assert embedding_parameters(candidate) == tables
    assert non_embedding_parameters(candidate) == sum(sizes.values()) - tables


@settings(max_examples=50, deadline=None)
@given(candidates())
def test_matmul_parameters_are_the_matrices_and_one_head(candidate: Candidate) -> None:
    named = Decoder(candidate, device="meta").named_parameters()
    matrices = {n: p.numel() for n, p in named if p.dim() == 2}
    head = candidate.vocab_size * candidate.hidden_size
    blocks = sum(size for n, size in matrices.items() if ".layers." in n)
    assert matmul_parameters(candidate) == blocks + head


@settings(max_examples=50, deadline=None)
@given(candidates())
def test_weight_bytes_are_those_of_every_tensor_by_itself(candidate: Candidate) -> None:
    """int4 in blocks of 32: 16 bytes and a 4-byte scale a started block; vectors as float32."""
    expected = 0
    for _, parameter in Decoder(candidate, device="meta").named_parameters():
        if parameter.dim() == 2:
            expected += parameter.shape[0] * -(-parameter.shape[1] // 32) * (16 + 4)
        else:
            expected += 4 * parameter.numel()
    assert weight_bytes(candidate, weight_bits=4) == expected


@pytest.mark.parametrize(
    ("candidate", "total", "non_embedding"),
    [
        (PHONELM_1_5B, 1_618_593_280, 1_492_764_160),
        (PHONELM_0_5B, 509_658_112, 459_326_464),
    ],
)
def test_phonelm_has_its_published_shape(
    candidate: Candidate, total: int, non_embedding: int
) -> None:
    assert num_parameters(candidate) == total_parameters(candidate) == total
    assert num_parameters(candidate, "non-embedding") == non_embedding


def test_a_tied_table_counts_once() -> None:
    untied = replace(HAND, tie_word_embeddings=False)
    assert total_parameters(untied) - total_parameters(HAND) == 100 * 32
    assert non_embedding_parameters(untied) == non_embedding_parameters(HAND)


def test_parameters_by_hand() -> None:
    """2 x (2,560 + 6,144 + 64) + last norm 32 = 17,568; table 3,200."""
    assert non_embedding_parameters(HAND) == 17_568
    assert total_parameters(HAND) == 20_768
    assert matmul_parameters(HAND) == 2 * (2_560 + 6_144) + 3_200


def test_weight_bytes_by_hand() -> None:
    """Rows of 32 weights are one block of 16 + 4 bytes at int4, rows of 64 two.

    q 32, k 8, v 8, o 32 rows of one block: 80; gate and up 64 rows of one block: 128; down 32
    rows of two: 64; so 272 blocks a layer. Table 100 blocks. (544 + 100) x 20 = 12,880 bytes.
    Norms: 5 x 32 x 4 = 640. At int8 a block is 36 bytes. At 16 bits there are no scales.
    """
    assert weight_bytes(HAND, weight_bits=4) == 12_880 + 640
    assert weight_bytes(HAND, weight_bits=8) == 644 * 36 + 640
    assert weight_bytes(HAND, weight_bits=16) == 2 * (2 * 8_704 + 3_200) + 640
    assert weight_bytes(HAND, weight_bits=32) == 4 * total_parameters(HAND)


def test_a_row_that_ends_inside_a_block_is_stored_with_the_whole_block() -> None:
    narrow = replace(HAND, hidden_size=33)
    assert weight_bytes(narrow, weight_bits=4) > weight_bytes(HAND, weight_bits=4) + 100 * 20


def test_kv_cache_bytes_by_hand() -> None:
    """2 layers x (key and value) x 1 head x 8 x 4 bytes = 128 bytes a token."""
    assert kv_cache_bytes(HAND, context_length=10, bytes_per_element=4) == 1_280
    assert kv_cache_bytes(PHONELM_1_5B, context_length=1, bytes_per_element=2) == 194_560


def test_attention_flops_count_causal_positions_only() -> None:
    """3 new tokens ending at position 5 see 3 + 4 + 5 = 12 positions; a position costs
    2 (multiply, add) x 2 (scores, values) x 4 heads x 8 = 128 a layer."""
    assert attention_flops(HAND, query_tokens=3, context_length=5) == 2 * 128 * 12
    assert attention_flops(HAND, query_tokens=1, context_length=5) == 2 * 128 * 5


def test_prefill_flops_by_hand() -> None:
    """Blocks 2 x 17,408 a token x 3, head once 2 x 3,200, attention 128 x 2 x (1 + 2 + 3)."""
    assert prefill_flops(HAND, prompt_tokens=3) == 6 * 17_408 + 6_400 + 1_536


def test_decode_flops_by_hand() -> None:
    """2 x (17,408 + 3,200) and 128 x 2 x 7 of attention."""
    assert decode_flops(HAND, context_length=7) == 2 * 20_608 + 1_792


def test_prefill_of_one_token_is_a_decode_step() -> None:
    assert prefill_flops(HAND, prompt_tokens=1) == decode_flops(HAND, context_length=1)


def test_peak_memory_holds_at_least_weights_and_cache() -> None:
    def peak(prompt_tokens: int) -> int:
        return peak_memory_bytes(
            HAND, weight_bits=4, prompt_tokens=prompt_tokens, context_length=256
        )

    least = weight_bytes(HAND, weight_bits=4) + kv_cache_bytes(
        HAND, context_length=256, bytes_per_element=4
    )
    assert least + 4 * HAND.vocab_size <= peak(1) < peak(64) < peak(128)
    assert peak(128) - peak(64) == 64 * (peak(65) - peak(64)), "activations grow with the prompt"
