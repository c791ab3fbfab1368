"""Exact counts of one architecture: parameters, bytes, floating-point operations.

Every function is a pure quantity of a `Candidate`; `tests/candidate/test_count.py` holds them
against the built torch model and the exported graph.
"""

from __future__ import annotations

from typing import Literal

from phonesearch.candidate.config import Candidate

Counting = Literal["total", "non-embedding"]
COUNTINGS: tuple[Counting, ...] = ("total", "non-embedding")


def attention_parameters_per_layer(candidate: Candidate) -> int:
    """Weights, biases and q/k-norm gains of one attention block."""
    query = candidate.num_attention_heads * candidate.head_dim
    key_value = candidate.num_key_value_heads * candidate.head_dim
    count = candidate.hidden_size * (2 * query + 2 * key_value)
    if candidate.attention_bias:
        count += query + 2 * key_value
    if candidate.attention_out_bias:
        count += candidate.hidden_size
    if candidate.qk_norm:
        count += 2 * candidate.head_dim
    return count


def ffn_matrices(candidate: Candidate) -> int:
    """Weight matrices of one feed-forward network: 3 where it is gated, else 2."""
    return 3 if candidate.ffn_type == "gated" else 2


def ffn_parameters_per_layer(candidate: Candidate) -> int:
    """Weights and biases of one feed-forward network."""
    matrices = ffn_matrices(candidate)
    count = matrices * candidate.hidden_size * candidate.intermediate_size
    if candidate.mlp_bias:
        count += (matrices - 1) * candidate.intermediate_size + candidate.hidden_size
    return count


def embedding_parameters(candidate: Candidate) -> int:
    """Input table and output head; a tied table counts once."""
    tables = 1 if candidate.tie_word_embeddings else 2
    return tables * candidate.vocab_size * candidate.hidden_size


def non_embedding_parameters(candidate: Candidate) -> int:
    """Everything but the input table and the head: blocks and norms."""
    per_layer = (
        attention_parameters_per_layer(candidate)
        + ffn_parameters_per_layer(candidate)
        + 2 * candidate.hidden_size
    )
    return candidate.num_hidden_layers * per_layer + candidate.hidden_size


def total_parameters(candidate: Candidate) -> int:
    """All parameters; a tied table counts once, as `numel` over `Module.parameters()` does."""
    return non_embedding_parameters(candidate) + embedding_parameters(candidate)


def num_parameters(candidate: Candidate, counting: Counting = "total") -> int:
    """Parameters in the convention asked for."""
    if counting == "total":
        return total_parameters(candidate)
    return non_embedding_parameters(candidate)


def matmul_parameters(candidate: Candidate) -> int:
    """Weights of matrix products that one token passes through: blocks and head, no norms,
    no biases, and no input table, which is looked up, not multiplied."""
    query = candidate.num_attention_heads * candidate.head_dim
    key_value = candidate.num_key_value_heads * candidate.head_dim
    per_layer = candidate.hidden_size * (
        2 * query + 2 * key_value + ffn_matrices(candidate) * candidate.intermediate_size
    )
    head = candidate.vocab_size * candidate.hidden_size
    return candidate.num_hidden_layers * per_layer + head


def weight_bytes(
    candidate: Candidate, *, weight_bits: int, block_size: int = 32, scale_bytes: int = 4
) -> int:
    """Bytes of the deployment form's weights.

    Matrices and tables at `weight_bits` a weight, with one scale of `scale_bytes` a block of
    `block_size` inputs when quantised (fewer than 16 bits; symmetric, no zero points); norms
    and biases as float32. A tied table is stored once.

    Args:
        candidate: Architecture to count.
        weight_bits: 4, 8, 16 or 32.
        block_size: Weights of one row that share a scale.
        scale_bytes: Bytes of one scale.
    """

    def matrix_bytes(rows: int, columns: int) -> int:
        if weight_bits >= 16:
            return rows * columns * weight_bits // 8
        blocks = -(-columns // block_size)
        return rows * blocks * (block_size * weight_bits // 8 + scale_bytes)

    hidden = candidate.hidden_size
    query = candidate.num_attention_heads * candidate.head_dim
    key_value = candidate.num_key_value_heads * candidate.head_dim
    ffn_inputs = ffn_matrices(candidate) - 1
    per_layer = (
        matrix_bytes(query + 2 * key_value, hidden)
        + matrix_bytes(hidden, query)
        + ffn_inputs * matrix_bytes(candidate.intermediate_size, hidden)
        + matrix_bytes(hidden, candidate.intermediate_size)
    )
    tables = 1 if candidate.tie_word_embeddings else 2
    matrices = candidate.num_hidden_layers * per_layer
    matrices += tables * matrix_bytes(candidate.vocab_size, hidden)
    multiplied = matmul_parameters(candidate) - candidate.vocab_size * hidden
    small = non_embedding_parameters(candidate) - multiplied
    return matrices + 4 * small


def kv_cache_bytes(candidate: Candidate, *, context_length: int, bytes_per_element: int = 4) -> int:
    """Bytes of keys and values of one sequence of `context_length` tokens.

    Args:
        candidate: Architecture to count.
        context_length: Tokens in the cache; a sliding window is not cut off, as runtimes
            here keep the whole cache.
        bytes_per_element: 4 for the float32 cache of ONNX Runtime on a CPU, 2 for float16.
    """
    per_token = 2 * candidate.num_key_value_heads * candidate.head_dim * bytes_per_element
    return candidate.num_hidden_layers * per_token * context_length


def attention_flops(candidate: Candidate, *, query_tokens: int, context_length: int) -> int:
    """Operations of scores and weighted values over all layers, causal positions only.

    `query_tokens` new tokens, the last of which sees `context_length` positions. Two
    operations a multiply-add; softmax and masks are left out.
    """
    first = context_length - query_tokens + 1
    seen = query_tokens * (first + context_length) // 2
    per_position = 2 * 2 * candidate.num_attention_heads * candidate.head_dim
    return candidate.num_hidden_layers * per_position * seen


def prefill_flops(candidate: Candidate, *, prompt_tokens: int) -> int:
    """Operations to read a prompt and give the logits of its last token.

    2 operations a weight and token for the blocks, the head once, causal attention; norms,
    activations and the table look-up are left out.

    Source: Kaplan et al., arXiv 2001.08361, table 1 (forward pass), with causal attention
    counted at the positions really seen.
    """
    head = candidate.vocab_size * candidate.hidden_size
    blocks = matmul_parameters(candidate) - head
    attention = attention_flops(candidate, query_tokens=prompt_tokens, context_length=prompt_tokens)
    return 2 * blocks * prompt_tokens + 2 * head + attention


def decode_flops(candidate: Candidate, *, context_length: int) -> int:
    """Operations of one decode step whose token sees `context_length` positions.

    Source: as `prefill_flops`.
    """
    attention = attention_flops(candidate, query_tokens=1, context_length=context_length)
    return 2 * matmul_parameters(candidate) + attention


def peak_memory_bytes(
    candidate: Candidate,
    *,
    weight_bits: int,
    prompt_tokens: int,
    context_length: int,
    kv_bytes_per_element: int = 4,
) -> int:
    """Bytes that a turn needs at its peak: weights, the cache, and prefill's activations.

    Activations are the widest moment of one block at float32 for all prompt tokens: residual
    stream, its norm, and either queries, keys, values and the attention output, or the
    branches of the feed-forward network; or the logits of one token, where these are more.
    What the runtime itself holds (its code, packed copies of weights) is left out, so a
    process is larger.

    Source: counted from the deployment graph of `phonesearch.onnx_export`.
    """
    hidden = candidate.hidden_size
    query = candidate.num_attention_heads * candidate.head_dim
    key_value = candidate.num_key_value_heads * candidate.head_dim
    attention = 2 * query + 2 * key_value
    ffn = ffn_matrices(candidate) * candidate.intermediate_size
    activations = 4 * prompt_tokens * (2 * hidden + max(attention, ffn))
    logits = 4 * candidate.vocab_size
    return (
        weight_bytes(candidate, weight_bits=weight_bits)
        + kv_cache_bytes(
            candidate, context_length=context_length, bytes_per_element=kv_bytes_per_element
        )
        + max(activations, logits)
    )
