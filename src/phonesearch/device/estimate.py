"""What a prediction is: times with intervals, and where they go by operator."""

from __future__ import annotations

from dataclasses import dataclass

from phonesearch.device.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyEstimate:
    """Predicted times of one exported graph on one device profile. Never a measurement."""

    speed: Speed
    prefill_seconds_by_operator: dict[str, float]
    """Seconds of TTFT by kind of work (`attention projections`, `attention`, `ffn`, `head`,
    `embedding`, `norms and element-wise`, `dispatch`, ...); they add up to `speed.ttft`."""
    decode_seconds_by_operator: dict[str, float]
    """The same for one decode step; they add up to `speed.tpot`."""
    device: str
    """Name of the profile."""
    engine: str
    """Key of the profile's engine, which names its weight width too."""
    profile_sha256: str
    """Hash of the profile file, so that a number can be traced to its coefficients."""
