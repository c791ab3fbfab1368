"""The cost model: time of one run of a graph as a sum of linear terms.

Each piece of work has a few units of each term (bytes of weights, operations, elements, calls),
and an engine on a processor a cost in seconds for a unit of each, never negative:

    seconds = sum over nodes, sum over terms: units(node, run) * cost(term)

A machine that can be measured has a cost for each term (`timing/calibrate.py`). Of a phone of
which only whole-model speeds are published, rows tell two or three numbers, which stand for all
terms that move bytes, that call, or that multiply (`BasicRates`). Terms differ between a
decode step, for which engines have kernels of their own, and a prompt of several tokens.

For M tokens in a run and a weight matrix of N rows and K columns:

* product with weights: bytes of the matrix; 2 M' K N operations, where M' is M rounded up to
  whole tiles; M K inputs, M N outputs, one call. Of several threads each has its share
  (`threads_of`), and a call that hands work to them is a `parallel` one;
* attention: bytes of the keys and values seen; 4 heads head_dim (sum of the positions that each
  query sees) operations, for the products of scores and of values; a score each; heads go to
  threads whole;
* embedding lookup, norms, activations, sums: bytes in and out, one call;
* every node that touches activations: one call more, whatever it does; every run: one run.

Weight bytes are those of the engine, which may hold other widths than the graph: a matrix of N
rows and K columns has N K b / 8 bytes at the b bits of the engine, plus the graph's scales (a
float32 each block of weights) below 16 bits and none from there on.

All units grow with every dimension of a model and with M, but one: `..._ragged_output` counts the
outputs of matrices whose number of blocks a row is no multiple of the four that a kernel takes at
a time, and there a row a little longer can cost less. Only calibrated machines have that term.
With MatMulNBits of ONNX Runtime 1.32 on an AMD EPYC (Zen 5), a single row against 1024 outputs
takes 38 us at 960 inputs and 30 us at 1024.

Left out: sampling, tokenisation, throttling, first-run costs.

Source: bounds by bytes and by operations: Williams, Waterman, Patterson, "Roofline", CACM 52(4),
2009; their sum in place of the larger, as on CPUs loads and products of one core overlap in
part only. Finer units follow what the kernels loop over in ONNX Runtime 1.32, CPU: `MatMulNBits`
rounds its input to int8, reads packed weights block by block and deals outputs out to threads;
`GroupQueryAttention` deals query heads out to threads, and for each computes scores, a softmax
and a weighted sum.
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
    "step_call",
    "step_uncached_call",
    "step_far_call",
    "matvec_call",
    "matvec_parallel_call",
    "matvec_uncached_call",
    "matvec_input",
    "matvec_output",
    "matvec_ragged_output",
    "matvec_byte",
    "matvec_uncached_byte",
    "matvec_far_byte",
    "step_attention_call",
    "step_attention_parallel_call",
    "step_attention_head",
    "step_attention_key_value_head",
    "step_attention_uncached_key_value_head",
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
    "prompt_call",
    "matmul_call",
    "matmul_input",
    "matmul_output",
    "matmul_ragged_output",
    "matmul_operation",
    "matmul_byte",
    "prompt_attention_call",
    "prompt_attention_head",
    "prompt_attention_score",
    "prompt_attention_operation",
    "prompt_attention_byte",
    "prompt_attention_element",
    *(f"prompt_{term}" for term in _ELEMENT_WISE),
)
TERMS: Final = (*STEP_TERMS, *PROMPT_TERMS)
"""What a unit is: a run, a call, an element in or out, a byte, one multiplication or addition,
a head, a score (one head, one query, one position). A `parallel` call hands work to more than
one thread. `uncached` and `far` units are those that find nothing near: in the last cache, or
within the larger `far_bytes`, beyond which addresses and the runtime's own structures cost more
(see `uncached_share`)."""

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
_PIECE_OPERATIONS: Final = 65536
_FORESEEN_BLOCKS: Final = 28
"""A shorter inner loop of a single row costs the same with a rest as without: measured with 8 to
162 blocks, the cost of a rest sets in at 29, where the end of the loop is no longer foreseen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Costs of an engine on a processor, as bare numbers."""

    seconds: Mapping[str, float]
    """A unit of each term; one that is missing costs nothing."""
    num_threads: int = 1
    """Among which work is counted as dealt out; 1 where rates are those of all together."""
    cache_bytes: float = math.inf
    """What of the last cache one process gets, as `uncached_share` counts it; infinite where no
    term tells cached from uncached."""
    far_bytes: float = math.inf
    """The same for `far` units."""
    tile_rows: float = 1.0
    """Tokens that a product takes at a time; fewer cost as much, except a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicRates:
    """The few numbers that whole-model speeds can tell, each for all terms of its kind."""

    memory_bandwidth_bytes_per_s: float
    seconds_per_call: float
    matmul_ops_per_s: float
    attention_ops_per_s: float
    matmul_tile_rows: float

    def terms(self) -> Rates:
        """As a cost of every term."""
        seconds = {
            term: 1 / self.memory_bandwidth_bytes_per_s
            for term in TERMS
            if term.endswith("_byte") and not term.endswith(("uncached_byte", "far_byte"))
        }
        seconds["step_call"] = seconds["prompt_call"] = self.seconds_per_call
        seconds["matmul_operation"] = 1 / self.matmul_ops_per_s
        seconds["step_attention_operation"] = 1 / self.attention_ops_per_s
        seconds["prompt_attention_operation"] = 1 / self.attention_ops_per_s
        return Rates(seconds=seconds, tile_rows=self.matmul_tile_rows)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a graph on a machine, as far as its units depend on it."""

    new_tokens: int
    """Tokens that go through the graph, at least 1."""
    past_tokens: int
    """Tokens already in the cache."""
    num_threads: int = 1
    tile_rows: float = 1.0
    uncached: float = 0.0
    """Share of weights and cache that is read from memory."""
    far: float = 0.0
    """The same for `far_bytes`."""


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
    threads = threads_of(item.rows, item.columns, tokens, run.num_threads)
    outputs = tokens * item.rows / threads
    if tokens == 1:
        weight_bytes = item.weight_bytes / threads
        return {
            "matvec_call": 1,
            "matvec_parallel_call": threads > 1,
            "matvec_uncached_call": run.uncached,
            "matvec_input": item.columns,
            "matvec_output": outputs,
            "matvec_ragged_output": outputs * (is_ragged and blocks > _FORESEEN_BLOCKS),
            "matvec_byte": weight_bytes,
            "matvec_uncached_byte": weight_bytes * run.uncached,
            "matvec_far_byte": weight_bytes * run.far,
        }
    return {
        "matmul_call": 1,
        "matmul_input": tokens * item.columns,
        "matmul_output": outputs,
        "matmul_ragged_output": outputs * is_ragged,
        "matmul_operation": 2
        * (math.ceil(tokens / run.tile_rows) * run.tile_rows)
        * (outputs / tokens)
        * item.columns,
        "matmul_byte": item.weight_bytes,
    }


def threads_of(rows: int, columns: int, tokens: int, num_threads: int) -> int:
    """Threads that share a product with a matrix: all, or one where it is small.

    Source: `MlasQNBitGemmBatch` of ONNX Runtime 1.32, which cuts a product into as many pieces as
    65536 goes into the product of its three sizes, and one. Seen with 2 threads: 256 outputs of
    192 inputs take as long as with 1, 256 of 256 take 1.6 us longer. That larger products are cut
    into whole pieces of 16 outputs was tried as well, and predicted no better than even shares.
    """
    return num_threads if tokens * rows * columns >= _PIECE_OPERATIONS else 1


def run_units(
    work: GraphWork, known: Rates, *, new_tokens: int, past_tokens: int
) -> dict[Category, dict[str, float]]:
    """Units of each term in one run of a graph, by category of work.

    Args:
        work: The graph's work, from `graph_work`.
        known: Whose threads, cache and tiles count; its costs do not.
        new_tokens: Tokens that go through the graph in this run, at least 1.
        past_tokens: Tokens already in the cache.
    """
    working = 0 if math.isinf(known.cache_bytes) else working_bytes(work, past_tokens)
    run = Run(
        new_tokens=new_tokens,
        past_tokens=past_tokens,
        num_threads=known.num_threads,
        tile_rows=known.tile_rows,
        uncached=uncached_share(working, known.cache_bytes),
        far=uncached_share(working, known.far_bytes),
    )
    found: dict[Category, dict[str, float]] = {
        category: defaultdict(float) for category in CATEGORIES
    }
    phase = "step" if new_tokens == 1 else "prompt"
    dispatch = found["dispatch"]
    dispatch[f"{phase}_run"] = 1
    dispatch[f"{phase}_call"] = work.num_calls
    if new_tokens == 1:
        dispatch["step_uncached_call"] = work.num_calls * run.uncached
        dispatch["step_far_call"] = work.num_calls * run.far
    for item, count in work.items:
        own = found["attention" if isinstance(item, Attention) else item.category]
        for term, amount in units(item, run).items():
            own[term] += count * amount
    return found


def run_seconds(
    work: GraphWork, known: Rates, *, new_tokens: int, past_tokens: int
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
    found = run_units(work, known, new_tokens=new_tokens, past_tokens=past_tokens)
    price = known.seconds
    return {
        category: math.fsum(amount * price.get(term, 0.0) for term, amount in own.items())
        for category, own in found.items()
    }


def seen_by_all(item: Attention, past_tokens: int, total: int) -> int:
    """Positions seen by the queries at `past_tokens` + 1 to `total`, summed."""

    def up_to(length: int) -> int:
        window = item.local_window_size
        if window < 0 or length <= window:
            return length * (length + 1) // 2
        return window * (window + 1) // 2 + (length - window) * window

    return up_to(total) - up_to(past_tokens)


def _attention_units(item: Attention, run: Run) -> dict[str, float]:
    total = run.past_tokens + run.new_tokens
    cache_bytes = item.cache_bytes_per_position * item.seen(total, run.new_tokens)
    # Heads of the busiest thread.
    heads = math.ceil(item.num_heads / run.num_threads)
    scores = heads * seen_by_all(item, run.past_tokens, total)
    if run.new_tokens == 1:
        return {
            "step_attention_call": 1,
            "step_attention_parallel_call": heads < item.num_heads,
            "step_attention_head": heads,
            "step_attention_key_value_head": item.num_key_value_heads,
            "step_attention_uncached_key_value_head": item.num_key_value_heads * run.uncached,
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
        "prompt_attention_byte": cache_bytes,
        "prompt_attention_element": run.new_tokens * item.num_heads * item.head_dim,
    }
