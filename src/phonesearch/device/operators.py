"""Time of a graph on a machine whose operators were timed: a sum of linear terms.

Each piece of work has a few units of each term (bytes of weights, operations, elements), and
each term a cost in seconds a unit, never negative. The same units serve the fit of
`timing/calibrate.py` and the prediction. Terms differ between a decode step, for which engines
have kernels of their own, and a prompt of several tokens.

All units grow with every dimension of a model but one: `..._ragged_output` counts the outputs of
matrices whose number of blocks a row is no multiple of the four that the kernel takes at a time,
and there a row a little longer can cost less. Left out, the error is that of the kernel: with
MatMulNBits of ONNX Runtime 1.32 on an AMD EPYC (Zen 5), a single row against 1024 outputs takes
38 us at 960 inputs and 30 us at 1024.

Source: units follow what the kernels loop over in ONNX Runtime 1.32, CPU. `MatMulNBits` rounds
its input to int8, reads packed weights block by block and deals outputs out to threads.
`GroupQueryAttention` deals query heads out to threads, and for each computes scores, a softmax
and a weighted sum over all positions up to the newest.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from phonesearch.device.work import CATEGORIES, Attention, Category, ElementWise, GraphWork, Work

_ELEMENT_WISE: Final = tuple(
    f"{kind}_{unit}" for kind in ("norm", "silu", "gelu", "copy") for unit in ("call", "byte")
)
STEP_TERMS: Final[tuple[str, ...]] = (
    "step_run",
    "step_uncached_call",
    "step_far_call",
    "matvec_call",
    "matvec_input",
    "matvec_output",
    "matvec_ragged_output",
    "matvec_byte",
    "matvec_uncached_byte",
    "matvec_far_byte",
    "step_attention_call",
    "step_attention_head",
    "step_attention_key_value_head",
    "step_attention_score",
    "step_attention_operation",
    "step_attention_byte",
    "step_attention_uncached_byte",
    "step_attention_far_byte",
    *(f"step_{term}" for term in _ELEMENT_WISE),
)
"""Of decode steps; a prompt has a few of these too, as only its last token goes through the head.
"""
PROMPT_TERMS: Final[tuple[str, ...]] = (
    "prompt_run",
    "matmul_call",
    "matmul_input",
    "matmul_output",
    "matmul_ragged_output",
    "matmul_operation",
    "prompt_attention_call",
    "prompt_attention_head",
    "prompt_attention_score",
    "prompt_attention_operation",
    "prompt_attention_element",
    *(f"prompt_{term}" for term in _ELEMENT_WISE),
)
TERMS: Final = (*STEP_TERMS, *PROMPT_TERMS)
"""What a unit is: a run, a call, an element in or out, a byte, one multiplication or addition,
a head, a score (one head, one query, one position). `uncached` and `far` units are those that
find nothing in the last cache, or in three times as much (see `uncached_share`)."""

FAR: Final = 3.0
"""Working sets some times the cache cost more again, as translations of addresses and the
runtime's own structures no longer stay near either. Chosen once on one machine, where 2, 3 and 4
did as well."""

_KIND: Final = {
    "SimplifiedLayerNormalization": "norm",
    "SkipSimplifiedLayerNormalization": "norm",
    "QuickGelu": "silu",
    "Gelu": "gelu",
}
_BLOCK_SIZE: Final = 32
_BLOCKS_AT_A_TIME: Final = 4
"""Source: blocks of 32 weights that the int8 kernels of MLAS take in their inner loop on x86-64
(AVX2 and AVX-512); measured here, see above."""
_FORESEEN_BLOCKS: Final = 28
"""A shorter inner loop of a single row costs the same with a rest as without: measured with 8 to
162 blocks, the cost of a rest sets in at 29, where the end of the loop is no longer foreseen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRates:
    """Costs of a calibrated machine, as bare numbers."""

    num_threads: int
    cache_bytes: float
    """What of the last cache one process gets, as `uncached_share` counts it."""
    seconds: Mapping[str, float]
    """A unit of each term; one that is missing costs nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a graph on a machine, as far as its units depend on it."""

    new_tokens: int
    """Tokens that go through the graph, at least 1."""
    past_tokens: int
    """Tokens already in the cache."""
    num_threads: int
    uncached: float
    """Share of weights and cache that is read from memory."""
    far: float
    """The same for a cache `FAR` times as large."""


_CACHE_SPREAD: Final = (0.8, 1.0, 1.25)
"""Times what one process gets of the last cache on average: other programs and tenants come and
go. Chosen once on one machine, where no spread predicted steps near the edge worse."""


@lru_cache(maxsize=4096)
def uncached_share(working_bytes: float, cache_bytes: float) -> float:
    """Share of what a step reads that comes from memory, 0 to 1, rising with `working_bytes`.

    Every step reads the same bytes in the same order. Where a full cache gives up a line at
    random, a line survives the m r lines read anew before its next use, of r times the cache,
    with the chance exp(-m r), so that the share m of misses solves m = 1 - exp(-m r): none up
    to a full cache, 80 % at twice that. The mean over `_CACHE_SPREAD` is taken.

    Source: own derivation; caches that give up the line longest unused would miss all from a
    full cache on, which the measurements do not show.
    """
    shares = [_missed(working_bytes / (cache_bytes * spread)) for spread in _CACHE_SPREAD]
    return math.fsum(shares) / len(shares)


def _missed(ratio: float) -> float:
    """The solution m of m = 1 - exp(-m ratio) above 0, by bisection; 0 up to a ratio of 1."""
    if ratio <= 1:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 1 - math.exp(-middle * ratio) else (low, middle)
    return high


def working_bytes(work: GraphWork, past_tokens: int) -> int:
    """Weights and cache that a decode step reads, as bytes."""
    cache = sum(
        count * item.cache_bytes_per_position * item.seen(past_tokens + 1, 1)
        for item, count in work.items
        if isinstance(item, Attention)
    )
    return work.weight_bytes + cache


def units(item: Work, run: Run) -> dict[str, float]:
    """Units of each term in one piece of work."""
    if isinstance(item, Attention):
        return _attention_units(item, run)
    tokens = 1 if item.last_token_only else run.new_tokens
    if isinstance(item, ElementWise):
        name = f"{'step' if tokens == 1 else 'prompt'}_{_KIND.get(item.operator, 'copy')}"
        return {f"{name}_call": 1, f"{name}_byte": tokens * item.bytes_per_token}
    blocks = -(-item.columns // _BLOCK_SIZE)
    is_ragged = blocks % _BLOCKS_AT_A_TIME != 0
    if tokens == 1:
        return {
            "matvec_call": 1,
            "matvec_input": item.columns,
            "matvec_output": item.rows,
            "matvec_ragged_output": item.rows * (is_ragged and blocks > _FORESEEN_BLOCKS),
            "matvec_byte": item.weight_bytes,
            "matvec_uncached_byte": item.weight_bytes * run.uncached,
            "matvec_far_byte": item.weight_bytes * run.far,
        }
    return {
        "matmul_call": 1,
        "matmul_input": tokens * item.columns,
        "matmul_output": tokens * item.rows,
        "matmul_ragged_output": tokens * item.rows * is_ragged,
        "matmul_operation": 2 * tokens * item.rows * item.columns,
    }


def run_units(
    work: GraphWork, *, new_tokens: int, past_tokens: int, num_threads: int, cache_bytes: float
) -> dict[Category, dict[str, float]]:
    """Units of each term in one run of a graph, by category of work.

    Args:
        work: The graph's work, from `graph_work`.
        new_tokens: Tokens that go through the graph in this run, at least 1.
        past_tokens: Tokens already in the cache.
        num_threads: Threads inside an operator.
        cache_bytes: What of the last cache the process gets.
    """
    working = working_bytes(work, past_tokens)
    run = Run(
        new_tokens=new_tokens,
        past_tokens=past_tokens,
        num_threads=num_threads,
        uncached=uncached_share(working, cache_bytes),
        far=uncached_share(working, FAR * cache_bytes),
    )
    found: dict[Category, dict[str, float]] = {
        category: defaultdict(float) for category in CATEGORIES
    }
    dispatch = found["dispatch"]
    dispatch["step_run" if new_tokens == 1 else "prompt_run"] = 1
    if new_tokens == 1:
        dispatch["step_uncached_call"] = work.num_calls * run.uncached
        dispatch["step_far_call"] = work.num_calls * run.far
    for item, count in work.items:
        own = found["attention" if isinstance(item, Attention) else item.category]
        for term, amount in units(item, run).items():
            own[term] += count * amount
    return found


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
    found = run_units(
        work,
        new_tokens=new_tokens,
        past_tokens=past_tokens,
        num_threads=known.num_threads,
        cache_bytes=known.cache_bytes,
    )
    return {
        category: math.fsum(amount * known.seconds.get(term, 0.0) for term, amount in own.items())
        for category, own in found.items()
    }


def _attention_units(item: Attention, run: Run) -> dict[str, float]:
    seen = item.seen(run.past_tokens + run.new_tokens, run.new_tokens)
    # Heads of the busiest thread.
    heads = math.ceil(item.num_heads / run.num_threads)
    scores = heads * run.new_tokens * seen
    if run.new_tokens == 1:
        cache_bytes = item.cache_bytes_per_position * seen
        return {
            "step_attention_call": 1,
            "step_attention_head": heads,
            "step_attention_key_value_head": item.num_key_value_heads,
            "step_attention_score": scores,
            "step_attention_operation": 4 * scores * item.head_dim,
            "step_attention_byte": cache_bytes,
            "step_attention_uncached_byte": cache_bytes * run.uncached,
            "step_attention_far_byte": cache_bytes * run.far,
        }
    return {
        "prompt_attention_call": 1,
        "prompt_attention_head": heads,
        "prompt_attention_score": scores,
        "prompt_attention_operation": 4 * scores * item.head_dim,
        "prompt_attention_element": run.new_tokens * item.num_heads * item.head_dim,
    }
