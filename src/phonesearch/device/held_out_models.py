"""Models that stay out of every fit, predicted with every engine of their phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from phonesearch.device.cost import predict
from phonesearch.device.data import model_shapes, published_speeds
from phonesearch.device.fit import ASSUMED_GENERATE_TOKENS, ASSUMED_PROMPT_TOKENS
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.work import at_width, graph_work
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

_HELD_OUT: Final = "held out of every fit"
"""What `left_out_because` begins with for such a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutDecode:
    """Decode of one held-out model with one engine, beside what was published."""

    row: int
    """`id` in `device/data/measurements.csv`."""
    model: str
    measured_with: str
    """Engine of the published figure."""
    confidence: str
    source: str
    engine: str
    """Engine of the prediction."""
    measured_tokens_per_s: float
    predicted_tokens_per_s: float
    predicted_low_tokens_per_s: float
    predicted_high_tokens_per_s: float
    calls_share: float
    """Share of the predicted step that goes to costs per call."""
    bandwidth_bytes_per_s: float
    """What the engine streams, as fitted."""
    needed_bytes_per_s: float
    """Weight bytes of a token, at the engine's width, times the published rate: what an engine
    would have to stream to reach it if nothing else took time."""

    @property
    def error(self) -> float:
        """Predicted over published tokens a second, less one."""
        return self.predicted_tokens_per_s / self.measured_tokens_per_s - 1


def held_out_decodes(profile: DeviceProfile) -> tuple[HeldOutDecode, ...]:
    """The held-out models of a profile's device, each with every engine of the profile."""
    found = []
    shapes = model_shapes()
    for speed in published_speeds():
        measured = speed.decode_tokens_per_s
        held_out = speed.left_out_because.startswith(_HELD_OUT)
        if speed.soc_id != profile.name or not held_out or measured is None:
            continue
        shape = shapes[speed.model_id]
        structure = build_structure(shape.candidate, GraphSettings(block_size=speed.block_size))
        for name, engine in profile.engines.items():
            estimate = predict(
                structure,
                profile,
                engine=name,
                prompt_tokens=speed.prompt_tokens or ASSUMED_PROMPT_TOKENS,
                generate_tokens=speed.generate_tokens or ASSUMED_GENERATE_TOKENS,
            )
            value, low, high = estimate.speed.tokens_per_s("decode")
            steps = estimate.decode_seconds_by_operator
            work = at_width(graph_work(structure), engine.weight_bits)
            found.append(
                HeldOutDecode(
                    row=speed.id,
                    model=shape.name,
                    measured_with=speed.engine,
                    confidence=speed.confidence,
                    source=speed.source,
                    engine=name,
                    measured_tokens_per_s=measured,
                    predicted_tokens_per_s=value,
                    predicted_low_tokens_per_s=low,
                    predicted_high_tokens_per_s=high,
                    calls_share=steps["dispatch"] / sum(steps.values()),
                    bandwidth_bytes_per_s=engine.fitted.memory_bandwidth_bytes_per_s.value,
                    needed_bytes_per_s=work.weight_bytes * measured,
                )
            )
    return tuple(found)
