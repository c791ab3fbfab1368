"""Finds what each operator costs on a machine, and how wrong that is on whole candidates.

Costs are a non-negative least squares fit of the relative error over probes, one fit for decode
steps and one for prompts. Candidates are measured as probes are, after the fit, and change
nothing in it but the interval that is stated.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import nnls

from phonesearch.device.operators import (
    PROMPT_TERMS,
    STEP_TERMS,
    Rates,
    run_seconds,
    run_units,
)
from phonesearch.device.work import GraphWork, graph_work
from phonesearch.timing.probe_run import ProbeRecord, round_medians
from phonesearch.timing.probes import Probe

Phase = Literal["decode", "prefill"]

_CACHE_SHARES: Final = tuple(2 ** (eighth / 8) for eighth in range(-24, 9))
"""Of the last cache, that one process may get: an eighth to twice."""
_FAR: Final = (3.0, 5.0, 10.0)
"""Times as much, beyond which more than the cache costs more."""
_LEAST_TOLERANCE: Final = 0.005
_REWEIGHTINGS: Final = 8


@dataclass(frozen=True, kw_only=True)
class ProbeTime:
    """One stretch of one probe: the round in the middle, and how rounds differed."""

    probe: str
    work: GraphWork
    new_tokens: int
    past_tokens: int
    """In the cache at the middle of the stretch."""
    seconds: float
    """Of one run."""
    spread: float
    """Median deviation of the rounds from that in the middle, relative."""
    weight: float = 1.0
    """How much it counts in a fit beside others."""

    @cached_property
    def phase(self) -> Phase:
        """Which fit it belongs to."""
        return "decode" if self.new_tokens == 1 else "prefill"

    def units(self, known: Rates) -> dict[str, float]:
        """Units of each term of `device/operators.py` in one run, by the threads of `known`."""
        total: dict[str, float] = defaultdict(float)
        found = run_units(
            self.work, known, new_tokens=self.new_tokens, past_tokens=self.past_tokens
        )
        for own in found.values():
            for term, amount in own.items():
                total[term] += amount
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTime:
    """One time of a whole candidate that no fit had seen."""

    probe: str
    phase: Phase
    context: int
    """Tokens in the cache; 0 for a prefill."""
    measured_s: float
    predicted_s: float
    repeat_spread: float
    """Median deviation of its rounds from that in the middle, relative."""

    @property
    def error(self) -> float:
        """Predicted over measured seconds, less one."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckScore:
    """How wrong one phase was at one context (None: at all)."""

    phase: Phase
    context: int | None
    num_candidates: int
    median_error: float
    within_10: float
    kendall_tau: float | None
    median_repeat_spread: float
    rms_log_error: float


def probe_times(probes: Sequence[Probe], records: Sequence[ProbeRecord]) -> list[ProbeTime]:
    """One time for each stretch of each probe: the middle one of its rounds' medians.

    Of two in the middle the lower, as other work on a machine only adds time. Not the lowest of
    all: times near the edge of a shared cache scatter to both sides.
    """
    of_probe: dict[str, list[ProbeRecord]] = defaultdict(list)
    for record in records:
        of_probe[record.probe].append(record)
    found = []
    for probe in probes:
        work = graph_work(probe.structure())
        for place, stretch in enumerate(probe.stretches):
            medians = round_medians(of_probe[probe.name], place)
            found.append(
                ProbeTime(
                    probe=probe.name,
                    work=work,
                    new_tokens=stretch.new_tokens,
                    past_tokens=stretch.past_tokens + stretch.steps // 2,
                    seconds=statistics.median_low(medians),
                    spread=statistics.median(
                        abs(one / statistics.median_low(medians) - 1) for one in medians
                    ),
                    weight=probe.weight,
                )
            )
    return found


def fit_operators(
    times: Sequence[ProbeTime], *, num_threads: int, last_cache_bytes: float
) -> Rates:
    """Costs of all terms, none negative, with the least relative error of `times`.

    What of the last cache a process gets is found with the decode steps, as the share that fits
    them best (other programs, and on a shared machine other tenants, use the rest), and so is
    how much more is far.

    Args:
        times: Decode steps and prompts of probes.
        num_threads: That they ran with.
        last_cache_bytes: Size of the last cache.
    """
    steps = [time for time in times if time.phase == "decode"]
    prompts = [time for time in times if time.phase == "prefill"]
    fits = [
        _fit(
            steps,
            STEP_TERMS,
            Rates(
                seconds={},
                num_threads=num_threads,
                cache_bytes=share * last_cache_bytes,
                far_bytes=far * share * last_cache_bytes,
            ),
        )
        for share in _CACHE_SHARES
        for far in _FAR
    ]
    best = min(fits, key=lambda fit: fit.loss)
    return _fit(prompts, PROMPT_TERMS, best.rates).rates


def check(times: Sequence[ProbeTime], known: Rates) -> list[CheckedTime]:
    """Hold measured times of candidates against those predicted from `known`."""
    return [
        CheckedTime(
            probe=time.probe,
            phase=time.phase,
            context=time.past_tokens if time.phase == "decode" else 0,
            measured_s=time.seconds,
            predicted_s=math.fsum(
                run_seconds(
                    time.work, known, new_tokens=time.new_tokens, past_tokens=time.past_tokens
                ).values()
            ),
            repeat_spread=time.spread,
        )
        for time in times
    ]


def score(checked: Sequence[CheckedTime], phase: Phase, context: int | None = None) -> CheckScore:
    """Figures over the times of one phase, at one context or at all."""
    own = [one for one in checked if one.phase == phase and context in (None, one.context)]
    errors = [abs(one.error) for one in own]
    tau = None
    if len(own) > 2:
        tau = float(
            stats.kendalltau([o.predicted_s for o in own], [o.measured_s for o in own]).statistic
        )
    return CheckScore(
        phase=phase,
        context=context,
        num_candidates=len({one.probe for one in own}),
        median_error=statistics.median(errors),
        within_10=statistics.fmean(error <= 0.1 for error in errors),
        kendall_tau=tau,
        median_repeat_spread=statistics.median(one.repeat_spread for one in own),
        rms_log_error=math.sqrt(
            statistics.fmean(math.log(one.predicted_s / one.measured_s) ** 2 for one in own)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    loss: float
    """Mean relative error; one beyond 30 % counts as that."""
    rates: Rates


def _fit(times: Sequence[ProbeTime], terms: Sequence[str], known: Rates) -> _Fit:
    """Costs of `terms` besides those known: non-negative least squares of relative errors.

    Those far off count less, by Huber's weights with a tolerance of one and a half times the
    median error.

    Args:
        times: What to fit.
        terms: Whose costs are wanted.
        known: Costs of other terms, taken as they are, with threads and cache.

    Source: Lawson, Hanson, "Solving Least Squares Problems", 1974 (non-negative); Huber,
    "Robust Estimation of a Location Parameter", 1964 (weights).
    """
    rows = [time.units(known) for time in times]
    given = [
        math.fsum(amount * known.seconds.get(term, 0.0) for term, amount in row.items())
        for row in rows
    ]
    seconds = np.array([time.seconds for time in times])
    wanted = 1 - np.array(given) / seconds
    amounts = np.array([[row.get(term, 0.0) for term in terms] for row in rows])
    matrix: NDArray[np.float64] = amounts / seconds[:, None]
    scale = np.maximum(matrix.max(axis=0), np.finfo(float).tiny)
    scaled = matrix / scale
    own = np.array([time.weight for time in times])
    weights = np.ones(len(times))
    for _ in range(_REWEIGHTINGS):
        root = np.sqrt(weights * own)
        found, _ = nnls(scaled * root[:, None], wanted * root)
        errors = np.abs(scaled @ found - wanted)
        tolerance = max(1.5 * float(np.median(errors[own == own.max()])), _LEAST_TOLERANCE)
        weights = np.minimum(1.0, tolerance / np.maximum(errors, tolerance / 1e3))
    costs = {
        term: float(value) for term, value in zip(terms, found / scale, strict=True) if value > 0
    }
    return _Fit(
        loss=float(np.average(np.minimum(errors, 0.3), weights=own)),
        rates=replace(known, seconds={**known.seconds, **costs}),
    )
