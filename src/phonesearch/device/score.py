"""How wrong predictions were: figures over cases that were both predicted and measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from phonesearch.candidate.config import Candidate
from phonesearch.device.fit import Phase

PHASES: tuple[Phase, ...] = ("decode", "prefill")

Exposure = Literal["fitted figure", "fitted model", "unseen"]
"""What the fit had seen of a case. `fitted figure`: this very measurement was fitted on.
`fitted model`: another figure of the same architecture on this device and engine was.
`unseen`: no figure of this architecture. Only the last says how wrong a prediction of
something new is."""
EXPOSURES: tuple[Exposure, ...] = ("fitted figure", "fitted model", "unseen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One phase of one row, measured by somebody and predicted by us, in tokens a second."""

    row: int
    """`id` in its table."""
    device: str
    model: str
    architecture: Candidate
    """Rows that agree in it are one model: fine-tunes and renamed copies cost the same."""
    processor: str
    engine: str
    """Name of the profile's engine."""
    weight_bits: int
    phase: Phase
    prompt_tokens: int
    generate_tokens: int
    lengths_assumed: bool
    """Whether a length that the phase depends on is not in the source."""
    measured_tokens_per_s: float
    predicted_tokens_per_s: float
    predicted_low_tokens_per_s: float
    predicted_high_tokens_per_s: float
    exposure: Exposure
    doubt: str
    """Why the row is in no fit though the package carries it; empty for others."""
    confidence: str
    source: str

    @property
    def error(self) -> float:
        """Predicted over measured tokens a second, less one; above 0 is too fast."""
        return self.predicted_tokens_per_s / self.measured_tokens_per_s - 1

    @property
    def is_inside(self) -> bool:
        """Whether the measurement lies in the interval of the prediction."""
        low, high = self.predicted_low_tokens_per_s, self.predicted_high_tokens_per_s
        return low <= self.measured_tokens_per_s <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Figures over some cases; None where there are too few for one. Shares are fractions."""

    rows: int
    models: int
    """Distinct architectures."""
    median_error: float | None
    """Median of the absolute relative error of tokens a second."""
    p90_error: float | None
    """Nine in ten absolute errors are below it, linear between two."""
    within_10: float | None
    """Share of rows off by at most 10 %."""
    within_20: float | None
    kendall_tau: float | None
    """Rank correlation (tau-b) of predicted and measured tokens a second between the models
    of each group, each model at the median of its rows; None below three models."""
    interval_coverage: float | None
    """Share of rows whose measurement lies in the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All cases of one engine."""

    processor: str
    engine: str
    weight_bits: int
    cases: tuple[Case, ...]


def score(cases: Iterable[Case]) -> Score:
    """Figures over `cases`, every row weighing the same."""
    chosen = list(cases)
    if not chosen:
        return Score(
            rows=0,
            models=0,
            median_error=None,
            p90_error=None,
            within_10=None,
            within_20=None,
            kendall_tau=None,
            interval_coverage=None,
        )
    errors = np.abs([case.error for case in chosen])
    return Score(
        rows=len(chosen),
        models=len({case.architecture for case in chosen}),
        median_error=float(np.median(errors)),
        p90_error=float(np.percentile(errors, 90)),
        within_10=float(np.mean(errors <= 0.1)),
        within_20=float(np.mean(errors <= 0.2)),
        kendall_tau=_tau(_by_model(chosen)),
        interval_coverage=statistics.fmean(case.is_inside for case in chosen),
    )


def groups(cases: Iterable[Case]) -> tuple[Group, ...]:
    """Cases by processor, engine and weight width, in the order of their first case."""
    found: dict[tuple[str, str, int], list[Case]] = {}
    for case in cases:
        found.setdefault((case.processor, case.engine, case.weight_bits), []).append(case)
    return tuple(
        Group(processor=processor, engine=engine, weight_bits=bits, cases=tuple(own))
        for (processor, engine, bits), own in found.items()
    )


def _by_model(cases: Sequence[Case]) -> list[tuple[float, float]]:
    """(predicted, measured) medians of each model of each group."""
    found: dict[tuple[str, Candidate], list[Case]] = {}
    for case in cases:
        found.setdefault((case.engine, case.architecture), []).append(case)
    return [
        (
            statistics.median(case.predicted_tokens_per_s for case in own),
            statistics.median(case.measured_tokens_per_s for case in own),
        )
        for own in found.values()
    ]


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < 3:
        return None
    found = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    return found if math.isfinite(found) else None
