"""Whether a run on a phone can be believed: limits, and what is held against them.

Pure functions over what was measured and read.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phonesearch.phone.device import PhoneReport
from phonesearch.phone.runner_output import RunReport

_LEAST_QUARTER: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond which a measurement is done anew, and for how long."""

    drift: float = 0.10
    """By which the last quarter of the samples may be slower than the first, relative."""
    spread: float = 0.05
    """By which the medians of rounds may differ, from lowest to highest, relative."""
    reference: float = 0.05
    """By which the reference may change around a measurement and since the start, relative."""
    battery_rise_c: float = 3.0
    """By which the battery may be warmer than at the start, to begin, or warm up in a run."""
    logits: float = 1e-4
    """Between logits of the phone and of the host, both in float32, absolute."""
    kernels: float = 0.10
    """Between what is timed and float32, root mean square, relative."""
    tries: int = 3
    """Of one measurement."""
    cool_poll_s: float = 10.0
    cool_patience_s: float = 300.0
    """That the phone is given to cool down, each time."""


def drift(samples_s: Sequence[float]) -> float:
    """How much slower the last quarter of the samples is than the first, by medians; 0 if there
    are fewer than 32, of which a few slow ones would decide."""
    quarter = len(samples_s) // 4
    if quarter < _LEAST_QUARTER:
        return 0.0
    return statistics.median(samples_s[-quarter:]) / statistics.median(samples_s[:quarter]) - 1


def spread(rounds_s: Sequence[Sequence[float]]) -> float:
    """How far the medians of rounds lie apart, over the median of them all."""
    medians = [statistics.median(samples) for samples in rounds_s]
    return (max(medians) - min(medians)) / statistics.median(medians)


def too_warm(now: PhoneReport, start: PhoneReport, limits: Limits) -> str | None:
    """Why a measurement cannot begin yet; None if it can."""
    status = now.heat.status
    if status:
        return f"its thermal status is {status} of 6"
    warm, first = now.battery.temperature_c, start.battery.temperature_c
    if warm is not None and first is not None and warm > first + limits.battery_rise_c:
        return f"its battery has {warm:.1f} C, and had {first:.1f} C at the start"
    return None


def slowed(
    report: RunReport, before: PhoneReport, after: PhoneReport, limits: Limits
) -> str | None:
    """Why a run is one of a phone that slowed itself down; None if it is not."""
    status = after.heat.status
    if status:
        return f"thermal status {status} of 6 at its end"
    warm, first = after.battery.temperature_c, before.battery.temperature_c
    if warm is not None and first is not None and warm >= first + limits.battery_rise_c:
        return f"the battery warmed up from {first:.1f} to {warm:.1f} C"
    slower = drift(report.all_samples_s(len(report.samples_s) - 1))
    if slower > limits.drift:
        return f"its last quarter was {slower:.0%} slower than its first"
    return None


def worst_spread(report: RunReport) -> float:
    """The largest of the spreads of its stretches."""
    return max(spread(rounds) for rounds in report.samples_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTime:
    """What the reference model took."""

    prefill_s: float
    decode_s: float

    @classmethod
    def of(cls, report: RunReport) -> ReferenceTime:
        """Medians of a prefill and of decode steps."""
        return cls(
            prefill_s=statistics.median(report.all_samples_s(0)),
            decode_s=statistics.median(report.all_samples_s(1)),
        )

    def change(self, later: ReferenceTime) -> float:
        """By how much it was another `later`: the larger of the two changes, relative, signed."""
        changes = (later.prefill_s / self.prefill_s - 1, later.decode_s / self.decode_s - 1)
        return max(changes, key=abs)
