"""Time of a graph on a machine whose operators were timed alone: a sum of linear terms.

Each piece of work has a few units of each term (bytes of weights, operations, elements), and
each term a cost in seconds a unit, never negative. The same units serve the fit of
`timing/calibrate.py` and the prediction. All grow with every dimension of a model.

Terms differ between a single row, for which engines have a kernel of its own, and more.
`matvec_uncached_byte` counts the weights read from memory because those of the whole graph do
not stay in the last cache: none below a quarter of the cache, all from three quarters on (a
cache keeps activations too, and drops what is read in turn before it is full), linear between.

Source: units follow what the kernels loop over in ONNX Runtime 1.32, CPU: `MatMulNBits` reads
packed weights and rounds its input to int8; `GroupQueryAttention` computes scores, softmax and
a weighted sum for each head, over all positions up to the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from phonesearch.device.work import CATEGORIES, Attention, ElementWise, GraphWork, Work

TERMS: Final[tuple[str, ...]] = (
    "run",
    "call",
    "matvec_call",
    "matvec_byte",
    "matvec_uncached_byte",
    "matvec_output",
    "matvec_input",
    "matmul_call",
    "matmul_operation",
    "matmul_weight_byte",
    "matmul_input",
    "matmul_output",
    "step_attention_call",
    "step_attention_head",
    "step_attention_operation",
    "step_attention_cache_byte",
    "step_attention_score",
    "prompt_attention_call",
    "prompt_attention_operation",
    "prompt_attention_score",
    "prompt_attention_element",
    "norm_byte",
    "silu_byte",
    "gelu_byte",
    "copy_byte",
)
"""What a unit is: a run, a call, a byte, one multiplication or addition, an element in or out,
a score (one head, one query, one position)."""

_BYTE_TERM: Final = {
    "SimplifiedLayerNormalization": "norm_byte",
    "SkipSimplifiedLayerNormalization": "norm_byte",
    "QuickGelu": "silu_byte",
    "Gelu": "gelu_byte",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRates:
    """Costs of a calibrated machine, as bare numbers."""

    cache_bytes: float
    seconds: Mapping[str, float]
    """A unit of each term; one that is missing costs nothing."""


def uncached_share(weight_bytes: float, cache_bytes: float) -> float:
    """Share of a graph's weights that each run reads from memory, 0 to 1."""
    return min(max(2 * weight_bytes / cache_bytes - 0.5, 0.0), 1.0)


def units(item: Work, *, new_tokens: int, past_tokens: int, uncached: float) -> dict[str, float]:
    """Units of each term in one piece of work, its call included.

    Args:
        item: One node.
        new_tokens: Tokens that go through the graph in this run, at least 1.
        past_tokens: Tokens already in the cache.
        uncached: Share of the graph's weights that is read from memory.
    """
    if isinstance(item, Attention):
        return _attention_units(item, new_tokens, past_tokens + new_tokens)
    rows = 1 if item.last_token_only else new_tokens
    if isinstance(item, ElementWise):
        term = _BYTE_TERM.get(item.operator, "copy_byte")
        return {"call": 1, term: rows * item.bytes_per_token}
    if rows == 1:
        return {
            "call": 1,
            "matvec_call": 1,
            "matvec_byte": item.weight_bytes,
            "matvec_uncached_byte": item.weight_bytes * uncached,
            "matvec_output": item.rows,
            "matvec_input": item.columns,
        }
    return {
        "call": 1,
        "matmul_call": 1,
        "matmul_operation": 2 * rows * item.rows * item.columns,
        "matmul_weight_byte": item.weight_bytes,
        "matmul_input": rows * item.columns,
        "matmul_output": rows * item.rows,
    }


def operator_run_seconds(
    work: GraphWork, known: OperatorRates, *, new_tokens: int, past_tokens: int
) -> dict[str, float]:
    """Seconds of one run of the graph, by category of work.

    Args:
        work: The graph's work, from `graph_work`.
        known: Costs of the engine.
        new_tokens: Tokens that go through the graph in this run, at least 1.
        past_tokens: Tokens already in the cache.

    Returns:
        Seconds, one entry for each of `work.CATEGORIES`.
    """
    price = known.seconds
    seconds: dict[str, float] = dict.fromkeys(CATEGORIES, 0.0)
    call_s = price.get("call", 0.0)
    seconds["dispatch"] = price.get("run", 0.0) + work.num_calls * call_s
    uncached = uncached_share(work.weight_bytes, known.cache_bytes)
    for item, count in work.items:
        found = units(item, new_tokens=new_tokens, past_tokens=past_tokens, uncached=uncached)
        one = sum(n * price.get(term, 0.0) for term, n in found.items() if term != "call")
        seconds["attention" if isinstance(item, Attention) else item.category] += count * one
    return seconds


def _attention_units(item: Attention, new_tokens: int, total: int) -> dict[str, float]:
    seen = item.seen(total, new_tokens)
    scores = item.num_heads * new_tokens * seen
    if new_tokens == 1:
        return {
            "call": 1,
            "step_attention_call": 1,
            "step_attention_head": item.num_heads,
            "step_attention_operation": 4 * scores * item.head_dim,
            "step_attention_cache_byte": item.cache_bytes_per_position * seen,
            "step_attention_score": scores,
        }
    return {
        "call": 1,
        "prompt_attention_call": 1,
        "prompt_attention_operation": 4 * scores * item.head_dim,
        "prompt_attention_score": scores,
        "prompt_attention_element": new_tokens * item.num_heads * item.head_dim,
    }
