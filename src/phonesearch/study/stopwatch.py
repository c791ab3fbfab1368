"""The time of one candidate: predicted from its graph, or measured where the device is real."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import peak_memory_bytes
from phonesearch.device.cost import predict
from phonesearch.device.estimate import LatencyEstimate
from phonesearch.device.profile import DeviceProfile
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.host import HostBackend


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


def measured(
    candidate: Candidate, *, turn: Turn, folder: Path | None = None, seed: int = 0
) -> Measurement:
    """Run the turn on this machine with ONNX Runtime, on random int4 weights.

    Args:
        candidate: Architecture.
        turn: What is timed.
        folder: Where the exported model lies meanwhile (about as large as its weights); None
            is the system's folder for temporary files.
        seed: Of the weights, which do not change the time.

    Raises:
        ExportError: If there is no room for the model.
        TimingError: If it could not be timed.
    """
    with tempfile.TemporaryDirectory(prefix=".timing-", dir=folder) as name:
        model = export(candidate, Path(name), GraphSettings(), seed=seed)
        return HostBackend().time(
            model.path,
            TimingSettings(prompt_tokens=turn.prompt_tokens, generate_tokens=turn.generate_tokens),
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
