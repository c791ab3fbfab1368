"""What of a turn is timed, and whether a graph can be: the same on the host and on a phone."""

from __future__ import annotations

from pathlib import Path

import onnx

from phonesearch.errors import TimingError
from phonesearch.timing.base import TimingSettings
from phonesearch.timing.exchange import Stretch


def check_settings(settings: TimingSettings) -> None:
    """Refuse lengths and counts that mean nothing.

    Raises:
        TimingError: If one is out of range.
    """
    for name, least in (
        ("prompt_tokens", 1),
        ("generate_tokens", 1),
        ("warmup_runs", 0),
        ("repetitions", 1),
        ("decode_steps", 1),
        ("settling_steps", 0),
    ):
        if getattr(settings, name) < least:
            raise TimingError(f"`{name}` must be at least {least}, got {getattr(settings, name)}.")
    if settings.num_threads is not None and settings.num_threads < 1:
        raise TimingError(f"`num_threads` must be at least 1, got {settings.num_threads}.")


def turn_stretches(settings: TimingSettings) -> tuple[Stretch, Stretch]:
    """A prefill, and decode steps around the middle of the generation."""
    middle = settings.prompt_tokens + settings.generate_tokens // 2
    prefill = Stretch(new_tokens=settings.prompt_tokens, past_tokens=0)
    decode = Stretch(
        new_tokens=1,
        past_tokens=max(middle - settings.decode_steps // 2, 1),
        steps=settings.decode_steps,
        settling_steps=settings.settling_steps,
    )
    return prefill, decode


def inspect_graph(model_path: Path, settings: TimingSettings) -> str:
    """`int4` or `int8`, from the graph; its weights need not be there.

    Raises:
        TimingError: If it cannot be read, is not of the deployment form, or the turn is longer
            than its rotary tables.
    """
    try:
        model = onnx.load(model_path, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors have no common base
        raise TimingError(f"{model_path} cannot be read as an ONNX model: {error}") from error
    kinds = {node.op_type for node in model.graph.node}
    widths = {
        attribute.i
        for node in model.graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    if "GroupQueryAttention" not in kinds or not widths:
        raise TimingError(
            f"{model_path} is not a deployment graph (no GroupQueryAttention or MatMulNBits "
            "nodes). Export the candidate with `GraphSettings(form='deployment')`."
        )
    longest = settings.prompt_tokens + settings.generate_tokens // 2 + settings.decode_steps
    for tensor in model.graph.initializer:
        if tensor.name == "cos_cache" and tensor.dims[0] < longest:
            raise TimingError(
                f"{model_path} has rotary tables for {tensor.dims[0]} positions and the turn "
                f"needs {longest}. Shorten the prompt or the generation, or export the candidate "
                "with a larger `max_position_embeddings`."
            )
    return "+".join(f"int{bits}" for bits in sorted(widths))
