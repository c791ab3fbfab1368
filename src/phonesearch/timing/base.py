"""What a measurement is, and the seam that every stopwatch fits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from phonesearch.device.speed import Span, Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSettings:
    """What to time and how often."""

    prompt_tokens: int = 128
    generate_tokens: int = 128
    num_threads: int | None = None
    """Threads inside an operator; None lets the backend choose (physical cores on the host)."""
    warmup_runs: int = 2
    repetitions: int = 5
    decode_steps: int = 16
    """Decode steps timed a repetition, around the middle of the generation."""
    settling_steps: int = 16
    """Decode steps before these that are not timed, as the prefill before them leaves other data
    in the processor's caches than a generation finds at its middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Wall-clock times of one model on one device. Raw samples are kept, not only a median."""

    prompt_tokens: int
    generate_tokens: int
    prefill_samples_s: tuple[float, ...]
    """Whole prefills, in order, warm-up excluded."""
    decode_samples_s: tuple[float, ...]
    """Single decode steps around the middle of the generation, in order, warm-up excluded."""
    warmup_runs: int
    num_threads: int
    device: str
    """Fingerprint of the machine that ran it, not the profile that was asked for."""
    engine: str
    """Runtime and version, with the weight width."""
    peak_memory_bytes: int | None
    """Highest resident memory of the measuring process, where the system tells it."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """How it was measured and in what state the device was, for whoever doubts it; plain JSON.
    Empty on the host."""

    @property
    def speed(self) -> Speed:
        """Medians, with the spread of the samples as the interval."""
        ttft = _spread(self.prefill_samples_s)
        tpot = _spread(self.decode_samples_s)
        steps = self.generate_tokens - 1
        return Speed(
            prompt_tokens=self.prompt_tokens,
            generate_tokens=self.generate_tokens,
            ttft=ttft,
            tpot=tpot,
            turn=Span(
                value_s=ttft.value_s + steps * tpot.value_s,
                low_s=ttft.low_s + steps * tpot.low_s,
                high_s=ttft.high_s + steps * tpot.high_s,
            ),
            coverage=0.8,
        )


def _spread(samples_s: Sequence[float]) -> Span:
    """Median with the 10th and 90th percentile of the samples."""
    ordered = sorted(samples_s)
    if len(ordered) == 1:
        return Span(value_s=ordered[0], low_s=ordered[0], high_s=ordered[0])
    deciles = statistics.quantiles(ordered, n=10, method="inclusive")
    return Span(value_s=statistics.median(ordered), low_s=deciles[0], high_s=deciles[-1])


class TimingBackend(Protocol):
    """Runs an exported deployment graph somewhere and says how long it took."""

    def time(self, model_path: Path, settings: TimingSettings) -> Measurement:
        """Time the graph at `model_path`, its weights beside it.

        Raises:
            TimingError: Rather than return a doubtful number.
        """
        ...
