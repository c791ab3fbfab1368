"""The work counted from a graph, against hand arithmetic and the counts of the candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import kv_cache_bytes, matmul_parameters
from phonesearch.device.work import Attention, ElementWise, MatMul, at_width, graph_work
from phonesearch.errors import ProfileError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

SHAPE = Candidate(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)
VARIANTS = {
    "gated": SHAPE,
    "plain": replace(SHAPE, ffn_type="plain", hidden_act="relu2"),
    "untied": replace(SHAPE, tie_word_embeddings=False),
    "qk norm": replace(SHAPE, qk_norm=True),
    "bias": replace(SHAPE, attention_bias=True, attention_out_bias=True, mlp_bias=True),
    "padded width": replace(SHAPE, hidden_size=80),
    "window": replace(SHAPE, sliding_window=8),
    "gelu": replace(SHAPE, hidden_act="gelu"),
}


def work_of(candidate: Candidate, **settings):
    return graph_work(build_structure(candidate, GraphSettings(**settings)))


@pytest.mark.parametrize("candidate", VARIANTS.values(), ids=list(VARIANTS))
def test_the_weights_of_all_products_are_those_of_the_candidate(candidate: Candidate) -> None:
    """`matmul_parameters` counts them from the fields, here they come from the nodes."""
    items = [(item, n) for item, n in work_of(candidate).items if isinstance(item, MatMul)]

    assert sum(item.rows * item.columns * n for item, n in items) == matmul_parameters(candidate)


@pytest.mark.parametrize("candidate", VARIANTS.values(), ids=list(VARIANTS))
def test_the_cache_is_that_of_the_candidate(candidate: Candidate) -> None:
    items = [(item, n) for item, n in work_of(candidate).items if isinstance(item, Attention)]

    assert sum(n for _, n in items) == candidate.num_hidden_layers
    assert sum(item.cache_bytes_per_position * n for item, n in items) == kv_cache_bytes(
        candidate, context_length=1
    )


def test_bytes_of_a_4_bit_matrix_are_nibbles_and_a_scale_a_block() -> None:
    """192 x 64: 6144 bytes of nibbles and 384 scales of 4 bytes."""
    gate = next(
        item
        for item, _ in work_of(SHAPE).items
        if isinstance(item, MatMul) and (item.rows, item.columns) == (192, 64)
    )

    assert gate.category == "ffn"
    assert gate.weight_bytes == 192 * 64 // 2 + 192 * 2 * 4
    assert gate.weight_bits == 4


def test_8_bit_weights_are_twice_the_4_bit_ones_without_their_scales() -> None:
    """Scales are 4 of 20 bytes of a block of 32 in 4 bits, 4 of 36 in 8."""
    four, eight = work_of(SHAPE), work_of(SHAPE, weight_bits=8)

    assert eight.weight_bytes / four.weight_bytes == pytest.approx(36 / 20)
    assert (four.weight_bits, eight.weight_bits) == ((4,), (8,))


@pytest.mark.parametrize("candidate", VARIANTS.values(), ids=list(VARIANTS))
def test_the_work_at_8_bits_is_that_of_the_8_bit_graph(candidate: Candidate) -> None:
    """But for widths that are no whole number of blocks, whose padding is counted as it was."""
    found = at_width(work_of(candidate), 8)

    assert found.weight_bits == (8,)
    assert found.num_calls == work_of(candidate).num_calls
    padding = 0.2 if candidate.hidden_size % 32 else 0
    assert found.weight_bytes == pytest.approx(
        work_of(candidate, weight_bits=8).weight_bytes, rel=padding
    )


def test_16_bit_weights_are_2_bytes_without_scales_and_keep_their_bias() -> None:
    bias = 4 * 3 * (64 + 2 * 2 * 16)  # float32 of q, k and v in three layers
    candidate = replace(SHAPE, attention_bias=True)

    assert at_width(work_of(candidate), 16).weight_bytes == 2 * matmul_parameters(candidate) + bias


def test_the_work_at_its_own_width_is_itself() -> None:
    assert at_width(work_of(SHAPE), 4) == work_of(SHAPE)


def test_the_head_works_on_the_last_token_alone_only_where_it_is_pruned() -> None:
    def head(**settings) -> MatMul:
        return next(
            item
            for item, _ in work_of(SHAPE, **settings).items
            if isinstance(item, MatMul) and item.category == "head"
        )

    assert head().last_token_only
    assert not head(logits="all").last_token_only


def test_norms_and_activations_are_counted_by_their_bytes() -> None:
    """A layer: two skip norms (2 in, 2 out of 64), the activation (192, 1 in, 1 out) and its
    product with the other branch (2 in, 1 out), in float32. The first norm of the model has one
    input and one output, the last two and one."""
    moved = sum(
        item.bytes_per_token * n
        for item, n in work_of(SHAPE).items
        if isinstance(item, ElementWise) and item.category == "norms and element-wise"
    )

    layer = 4 * (2 * 4 * 64 + 2 * 192 + 3 * 192)
    first_and_last = 4 * (2 * 64 + 3 * 64) - 4 * 4 * 64
    assert moved == 3 * layer + first_and_last


def test_an_embedding_row_is_read_and_written_at_its_unpadded_width() -> None:
    """Width 80 in blocks of 32 is 3 blocks: 48 bytes, 3 scales; then 96 floats out, trimmed."""
    moved = next(
        item.bytes_per_token
        for item, _ in work_of(replace(SHAPE, hidden_size=80)).items
        if isinstance(item, ElementWise) and item.category == "embedding"
    )

    assert moved == 48 + 3 * 4 + 96 * 4


def test_nodes_that_only_handle_lengths_are_no_calls() -> None:
    """A layer: 2 norms, 5 products (q, k and v in one), attention, activation and its product.
    Around them: embedding, last norm, choice of the last token, head."""
    assert work_of(SHAPE).num_calls == 3 * 10 + 4
    # Two norms more a layer, each between two reshapes, and q, k and v apart.
    assert work_of(replace(SHAPE, qk_norm=True)).num_calls == 3 * 18 + 4
    # The trim of a padded embedding belongs to its lookup.
    assert work_of(replace(SHAPE, hidden_size=80)).num_calls == 3 * 10 + 4


def test_a_window_hides_old_positions_from_a_query() -> None:
    item = next(i for i, _ in work_of(VARIANTS["window"]).items if isinstance(i, Attention))

    assert item.seen(total=5, queries=1) == 5
    assert item.seen(total=100, queries=1) == 8
    assert item.seen(total=100, queries=10) == 17


def test_the_portable_form_cannot_be_timed_and_says_which_node() -> None:
    structure = build_structure(SHAPE, GraphSettings(form="portable", weight_bits=32))

    with pytest.raises(ProfileError, match="deployment form"):
        graph_work(structure)


def test_a_renamed_matrix_is_refused_by_name() -> None:
    structure = build_structure(SHAPE, GraphSettings())
    structure.graph.node[-1].name = "classifier"

    with pytest.raises(ProfileError, match="classifier"):
        graph_work(structure)
