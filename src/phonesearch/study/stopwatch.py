"""The time of one candidate, predicted from its graph; `study/meter.py` measures."""

from __future__ import annotations

from dataclasses import dataclass

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import peak_memory_bytes
from phonesearch.device.cost import predict
from phonesearch.device.estimate import LatencyEstimate
from phonesearch.device.profile import DeviceProfile
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is timed: one prompt read, one answer generated, at batch size 1."""

    prompt_tokens: int = 128
    generate_tokens: int = 128


def predicted(
    candidate: Candidate, profile: DeviceProfile, *, engine: str | None, turn: Turn
) -> LatencyEstimate:
    """Predict the turn from the candidate's deployment graph.

    Args:
        candidate: Architecture.
        profile: Device, not one that is measured.
        engine: Inference engine of the profile; None is its default.
        turn: What is timed.

    Raises:
        ProfileError: If the profile cannot tell.
    """
    return predict(
        build_structure(candidate, GraphSettings()),
        profile,
        engine=engine,
        prompt_tokens=turn.prompt_tokens,
        generate_tokens=turn.generate_tokens,
    )


def weight_bits(profile: DeviceProfile, engine: str | None) -> int:
    """Width at which the device holds the weights: that of the engine, or of what is measured.

    Raises:
        ProfileError: If the profile has no such engine.
    """
    if profile.measured:
        return GraphSettings().weight_bits
    return profile.engine(engine)[1].weight_bits


def turn_memory_bytes(candidate: Candidate, turn: Turn, *, weight_bits: int) -> int:
    """Counted peak memory of the turn, with weights of that width and a float32 cache."""
    return peak_memory_bytes(
        candidate,
        weight_bits=weight_bits,
        prompt_tokens=turn.prompt_tokens,
        context_length=turn.prompt_tokens + turn.generate_tokens,
    )
