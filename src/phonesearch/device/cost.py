"""Predicted time of an exported graph on a profiled device, by the terms of `device/operators.py`.

Source:
    Bounds by bytes and by operations: Williams, Waterman, Patterson, "Roofline", CACM 52(4),
    2009. A cost per call beside the bandwidth: on the rows of `device/data/measurements.csv`
    bandwidth alone misses models left out of the fit by 35 % (snapdragon8gen3,
    ExecuTorch, root mean square of the log error), with a cost per call by 14 %.
    Other forms were tried on all sixteen groups of at least four models at once, by the root mean
    square of the log error of decode on models left out; the form above gives 20 %, and 22 % on
    the eight of ExecuTorch. None was better on the whole:

    * the larger of call and weight bytes of each product in place of their sum, 24 %; their
      hypotenuse, 22 %; a cost per matrix alone, 21 %; on ExecuTorch, a cost per layer, a constant
      a step, rates of their own for head, vocabulary or rows of products, 22 to 25 %;
    * a cost of each query head, each KV head or of longer caches (up to 4096 positions read each
      step), 22 to 27 % on ExecuTorch and 18 to 32 % instead of 18 on the others; q and k norms
      at 2 to 9 calls instead of 1, 20 to 21 %, but only as they mark Qwen3 among the rows;
    * a rate of its own for element-wise work in proportion to the call, 19 %, but at 10 to 25 ns
      an operation the elements alone would take 1.4 to 2.5 times the published prefill;
    * heads at 8 bits where the size of a file shows them, 23 %; coefficients drawn towards those
      of the engine's other devices, 22 % at any strength; rows weighted by how coarsely they are
      printed, the same.

    What helped is to tell builds of ExecuTorch apart (`device/engine_plans.py`). At 4 bits on
    Android, files of Meta's recipes stream 48 GB/s and those that others exported 31
    (snapdragon8gen3; tensor_g5 22 and 15): 14 and 18 % became 8 and 9 %. On iPhones the two
    differ by less than a tenth and stay together. At 16 bits on snapdragon8gen3, the 2026 edition
    of a table prints a fifth less than the editions before it for the same models: 15 % became 9.
"""

from __future__ import annotations

import math
from typing import Final

import onnx

from phonesearch.device.estimate import LatencyEstimate
from phonesearch.device.operators import BasicRates, Rates, run_seconds, seen_by_all
from phonesearch.device.profile import DeviceProfile, Engine
from phonesearch.device.speed import Span, Speed
from phonesearch.device.work import Attention, GraphWork, at_width, graph_work
from phonesearch.errors import ProfileError

_SHAPE_BITS: Final = 4
"""Width of the deployment graph as it is built by default; only its shape counts then."""


def rates(engine: Engine) -> Rates:
    """What an engine spends on each term, without the sources."""
    costs = engine.operators
    if costs is not None:
        return Rates(
            seconds={term: number.value for term, number in costs.seconds.items()},
            num_threads=costs.num_threads,
            cache_bytes=costs.cache_bytes.value,
            far_bytes=costs.far_bytes.value,
        )
    known = engine.fitted
    return BasicRates(
        memory_bandwidth_bytes_per_s=known.memory_bandwidth_bytes_per_s.value,
        seconds_per_call=known.seconds_per_call.value,
        matmul_ops_per_s=known.matmul_ops_per_s.value,
        attention_ops_per_s=known.attention_ops_per_s.value,
        matmul_tile_rows=known.matmul_tile_rows.value,
    ).terms()


def predict(
    structure: onnx.ModelProto,
    profile: DeviceProfile,
    *,
    engine: str | None,
    prompt_tokens: int,
    generate_tokens: int,
) -> LatencyEstimate:
    """Predict the times of one turn at batch size 1, with intervals.

    Args:
        structure: Deployment graph, with or without its weights.
        profile: Device to time it on.
        engine: Name of one of the profile's engines; None is its default.
        prompt_tokens: Length of the prompt, at least 1.
        generate_tokens: Tokens generated after it, at least 1; the prefill gives the first.

    Raises:
        ProfileError: If the profile has no such engine, the graph is neither the 4-bit one,
            which stands for the shape at any width, nor of the engine's width, holds nodes
            that cannot be timed, or a length is below 1.
    """
    if prompt_tokens < 1 or generate_tokens < 1:
        raise ProfileError(
            "A turn has at least 1 prompt token and 1 generated token, got "
            f"{prompt_tokens} and {generate_tokens}."
        )
    name, chosen = profile.engine(engine)
    work = graph_work(structure)
    if work.weight_bits not in ((_SHAPE_BITS,), (chosen.weight_bits,)):
        widths = ", ".join(str(bits) for bits in work.weight_bits)
        raise ProfileError(
            f"Engine {name!r} of device {profile.name!r} was fitted on {chosen.weight_bits}-bit "
            f"weights and the graph has {widths or 'no'}-bit ones. Export it with "
            f"weight_bits={_SHAPE_BITS}, which stands for its shape at any width, or choose "
            "another engine."
        )
    work = at_width(work, chosen.weight_bits)
    known = rates(chosen)
    prefill = run_seconds(work, known, new_tokens=prompt_tokens, past_tokens=0)
    middle = prompt_tokens + generate_tokens // 2
    decode = run_seconds(work, known, new_tokens=1, past_tokens=middle)
    ttft = _span(sum(prefill.values()), chosen.prefill.interval_log_half_width)
    tpot_s = sum(decode.values())
    tpot = _span(tpot_s, chosen.decode.interval_log_half_width)
    steps_s = _all_steps_seconds(work, known, tpot_s, middle, prompt_tokens, generate_tokens)
    steps = _span(steps_s, chosen.decode.interval_log_half_width)
    return LatencyEstimate(
        speed=Speed(
            prompt_tokens=prompt_tokens,
            generate_tokens=generate_tokens,
            ttft=ttft,
            tpot=tpot,
            # NOTE the two errors are taken to go together (one device, one bandwidth), which
            # is wider than adding them in quadrature.
            turn=Span(
                value_s=ttft.value_s + steps.value_s,
                low_s=ttft.low_s + steps.low_s,
                high_s=ttft.high_s + steps.high_s,
            ),
            coverage=profile.coverage,
        ),
        prefill_seconds_by_operator=prefill,
        decode_seconds_by_operator=decode,
        device=profile.name,
        engine=name,
        profile_sha256=profile.sha256,
    )


def _all_steps_seconds(
    work: GraphWork,
    known: Rates,
    tpot_s: float,
    middle: int,
    prompt_tokens: int,
    generate_tokens: int,
) -> float:
    """Seconds of all decode steps of a turn, each at its own context.

    Only attention depends on the context, and is linear in the positions seen; where caches
    count, what leaves them is not, and Simpson's rule over the turn is close.
    """
    steps = generate_tokens - 1
    if steps < 1:
        return 0.0
    if not math.isinf(known.cache_bytes):
        first, last = (
            sum(run_seconds(work, known, new_tokens=1, past_tokens=past).values())
            for past in (prompt_tokens, prompt_tokens + steps - 1)
        )
        return steps * (first + 4 * tpot_s + last) / 6
    seconds = steps * tpot_s
    price = known.seconds
    for item, count in work.items:
        if isinstance(item, Attention):
            a_position = (
                item.cache_bytes_per_position * price.get("step_attention_byte", 0.0)
                + 4 * item.num_heads * item.head_dim * price.get("step_attention_operation", 0.0)
                + item.num_heads * price.get("step_attention_score", 0.0)
            )
            seen = seen_by_all(item, prompt_tokens, prompt_tokens + steps)
            seconds += count * a_position * (seen - steps * item.seen(middle + 1, 1))
    return seconds


def _span(value_s: float, log_half_width: float) -> Span:
    factor = math.exp(log_half_width)
    return Span(value_s=value_s, low_s=value_s / factor, high_s=value_s * factor)
