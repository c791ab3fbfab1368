"""Finds the coefficients of an engine from the speeds of whole models.

The cost model of `device/cost.py` is fitted as it stands: non-negative least squares of the log
of predicted over measured time, every distinct architecture with the same weight however many
rows it has, second-hand rows half as much. Error is found by leaving out one architecture at a
time.

What the rows cannot tell is given: the matmul rate where no row has a prefill, the cost of a
call where the architectures are too few, or too alike in size, to tell it from the bandwidth.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import least_squares

from phonesearch.candidate.config import Candidate
from phonesearch.device.operators import BasicRates, run_seconds
from phonesearch.device.work import GraphWork, at_width, graph_work
from phonesearch.errors import ProfileError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

Phase = Literal["decode", "prefill"]

ASSUMED_PROMPT_TOKENS: Final = 64
ASSUMED_GENERATE_TOKENS: Final = 128
"""Where a source gives no lengths: those of the ExecuTorch Llama tables. At such contexts
attention is a few percent of a decode step, so that this matters little."""

LEAST_SECONDS_PER_CALL: Final = 1e-6
"""No fit goes below: waking a pool of threads alone takes a microsecond."""

MIN_OWN_ARCHITECTURES: Final = 4
"""A phase with fewer cannot tell its own spread between architectures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One whole-model speed to fit on."""

    id: int
    candidate: Candidate
    block_size: int = 32
    prompt_tokens: int | None = None
    generate_tokens: int | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    weight: float = 1.0
    """How much it counts beside other rows, above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """What a fit takes as given."""

    attention_share: float
    """`attention_ops_per_s` over `matmul_ops_per_s`."""
    matmul_tile_rows: float
    matmul_ops_per_s: float | None = None
    """Used where no row has a prefill; ignored otherwise."""
    seconds_per_call: float | None = None
    """Taken as it is where given; None fits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseError:
    """Error of one phase on architectures left out of the fit."""

    num_models: int
    rows: tuple[int, ...]
    log_errors: tuple[float, ...]
    """Natural log of predicted over measured time, row by row, each from a fit without any
    row of that architecture; empty where there is no other."""
    rms_log_error: float
    """Root mean square of these, every architecture weighing the same; 0 where there are
    none."""
    median_error: float | None
    """Median of |predicted / measured time - 1| over the rows; None where there are none."""
    kendall_tau: float | None
    """Rank correlation of predicted and measured time between architectures (medians of
    their rows); None for fewer than three."""

    def share_within(self, limit: float) -> float | None:
        """Share of the rows whose absolute relative error is at most `limit`; None of none."""
        if not self.log_errors:
            return None
        return statistics.fmean(abs(math.expm1(log)) <= limit for log in self.log_errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFit:
    """Coefficients with their errors."""

    rates: BasicRates
    decode: PhaseError
    prefill: PhaseError | None
    """None where no row has a prefill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One measured time with the work it took."""

    row: int
    architecture: Candidate
    phase: Phase
    work: GraphWork
    new_tokens: int
    past_tokens: int
    measured_s: float
    weight: float

    def log_error(self, known: BasicRates) -> float:
        return math.log(self.seconds(known) / self.measured_s)

    def seconds(self, known: BasicRates) -> float:
        """What `known` predicts."""
        predicted = run_seconds(
            self.work, known.terms(), new_tokens=self.new_tokens, past_tokens=self.past_tokens
        )
        return sum(predicted.values())


def fit_engine(rows: Sequence[SpeedRow], priors: Priors, *, weight_bits: int) -> EngineFit:
    """Fit bandwidth, seconds per call and, where rows have a prefill, the matmul rate.

    Args:
        rows: Speeds of one engine on one device, of at least three architectures with decode;
            one is enough where `priors` gives the seconds per call.
        priors: What the rows cannot tell.
        weight_bits: Width of the weights in the rows.

    Raises:
        ProfileError: If there are too few architectures, or no prefill and no prior for it.
    """
    cases = _cases(rows, weight_bits)
    decoded = {case.architecture for case in cases if case.phase == "decode"}
    needed = 3 if priors.seconds_per_call is None else 1
    if len(decoded) < needed:
        raise ProfileError(
            f"A fit needs decode speeds of at least {needed} different architectures, got "
            f"{len(decoded)}. Add rows, or take the profile of a like device."
        )
    prefilled = any(case.phase == "prefill" for case in cases)
    if not prefilled and priors.matmul_ops_per_s is None:
        raise ProfileError(
            "No row has a prefill speed, so `matmul_ops_per_s` must be given as a prior."
        )
    errors: dict[tuple[int, Phase], float] = {}
    for left_out in dict.fromkeys(case.architecture for case in cases) if len(decoded) > 1 else ():
        kept = [case for case in cases if case.architecture != left_out]
        known = _solve(kept, priors)
        for case in cases:
            if case.architecture == left_out:
                errors[case.row, case.phase] = case.log_error(known)
    return EngineFit(
        rates=_solve(cases, priors),
        decode=_phase_error(cases, errors, "decode"),
        prefill=_phase_error(cases, errors, "prefill") if prefilled else None,
    )


def interval_log_half_width(fit: EngineFit, phase: Phase, *, coverage: float) -> float:
    """Half the log width of an interval that holds about `coverage` of unseen architectures.

    The root mean square of the errors on architectures left out, times Student's t for as many
    degrees of freedom as there are architectures less one. A phase with fewer than four takes
    the larger of its own and the decode error, with the degrees of freedom of decode.

    Infinite where there is one architecture, so that nothing is known.

    Raises:
        ProfileError: If the phase was not fitted.
    """
    own = fit.decode if phase == "decode" else fit.prefill
    if own is None:
        raise ProfileError("No prefill was fitted, so it has no error of its own.")
    rms, num_models = own.rms_log_error, own.num_models
    if num_models < MIN_OWN_ARCHITECTURES:
        rms = max(rms, fit.decode.rms_log_error)
        num_models = fit.decode.num_models
    if num_models < 2:
        return math.inf
    return float(stats.t.ppf(0.5 + coverage / 2, num_models - 1)) * rms


def borrows_decode_error(fit: EngineFit) -> bool:
    """Whether the interval of prefill rests on the error of decode."""
    return fit.prefill is not None and fit.prefill.num_models < MIN_OWN_ARCHITECTURES


@lru_cache(maxsize=256)
def _work(candidate: Candidate, block_size: int) -> GraphWork:
    """Work of the 4-bit deployment graph."""
    return graph_work(build_structure(candidate, GraphSettings(block_size=block_size)))


def _cases(rows: Sequence[SpeedRow], weight_bits: int) -> list[_Case]:
    cases = []
    for row in rows:
        work = at_width(_work(row.candidate, row.block_size), weight_bits)
        # The rotary base changes no time: models that differ in it are one architecture.
        architecture = replace(row.candidate, rope_theta=10000.0, rope_scaling=None)
        prompt = row.prompt_tokens or ASSUMED_PROMPT_TOKENS
        generate = row.generate_tokens or ASSUMED_GENERATE_TOKENS
        if row.decode_tokens_per_s is not None:
            cases.append(
                _Case(
                    row=row.id,
                    architecture=architecture,
                    phase="decode",
                    work=work,
                    new_tokens=1,
                    past_tokens=prompt + generate // 2,
                    measured_s=1 / row.decode_tokens_per_s,
                    weight=row.weight,
                )
            )
        if row.prefill_tokens_per_s is not None:
            cases.append(
                _Case(
                    row=row.id,
                    architecture=architecture,
                    phase="prefill",
                    work=work,
                    new_tokens=prompt,
                    past_tokens=0,
                    measured_s=prompt / row.prefill_tokens_per_s,
                    weight=row.weight,
                )
            )
    return cases


def _solve(cases: Sequence[_Case], priors: Priors) -> BasicRates:
    """Coefficients that fit `cases` best."""
    share = [
        case.weight
        / sum(
            one.weight
            for one in cases
            if one.architecture == case.architecture and one.phase == case.phase
        )
        * max(
            one.weight
            for one in cases
            if one.architecture == case.architecture and one.phase == case.phase
        )
        for case in cases
    ]
    weights: NDArray[np.float64] = np.sqrt(np.array(share))
    fit_matmul = any(case.phase == "prefill" for case in cases)
    fit_calls = priors.seconds_per_call is None

    def as_rates(byte_s: float, call_s: float, operation_s: float) -> BasicRates:
        return BasicRates(
            memory_bandwidth_bytes_per_s=1 / byte_s,
            seconds_per_call=call_s,
            matmul_ops_per_s=1 / operation_s,
            attention_ops_per_s=priors.attention_share / operation_s,
            matmul_tile_rows=priors.matmul_tile_rows,
        )

    # Time is linear in the three costs, so that three predictions tell all others. Scales bring
    # them to order 1: seconds per 10 GB, per 10 000 calls, per 100 G operations.
    scale = np.array((1e-10, 1e-4, 1e-11))
    none = 1e-40
    parts = np.array(
        [
            [
                case.seconds(as_rates(*(own if place == one else none for place in range(3))))
                for one, own in enumerate(scale)
            ]
            for case in cases
        ]
    )
    measured = np.array([case.measured_s for case in cases])
    costs = np.array((0.3, 0.5, 0.3))
    lowest = np.array((1e-3, LEAST_SECONDS_PER_CALL / scale[1], 1e-3))
    free = np.array((True, fit_calls, fit_matmul))
    if not fit_calls and priors.seconds_per_call is not None:
        costs[1] = priors.seconds_per_call / scale[1]
    if not fit_matmul:
        if priors.matmul_ops_per_s is None:
            raise ProfileError(
                "Only one architecture has a prefill speed, so `matmul_ops_per_s` must be given "
                "as a prior."
            )
        costs[2] = 1 / priors.matmul_ops_per_s / scale[2]

    def residuals(wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        tried = costs.copy()
        tried[free] = wanted
        return np.asarray(np.log(parts @ tried / measured) * weights, dtype=np.float64)

    found = least_squares(
        residuals, costs[free], bounds=(lowest[free], np.inf), xtol=1e-12, ftol=1e-12
    )
    costs[free] = found.x
    known = as_rates(*(costs * scale))
    # What was given stays as it was given, to the last digit.
    if priors.seconds_per_call is not None:
        known = replace(known, seconds_per_call=priors.seconds_per_call)
    if not fit_matmul and priors.matmul_ops_per_s is not None:
        known = replace(
            known,
            matmul_ops_per_s=priors.matmul_ops_per_s,
            attention_ops_per_s=priors.matmul_ops_per_s * priors.attention_share,
        )
    return known


def _phase_error(
    cases: Sequence[_Case], errors: dict[tuple[int, Phase], float], phase: Phase
) -> PhaseError:
    own = [case for case in cases if case.phase == phase]
    if not errors:
        return PhaseError(
            num_models=1,
            rows=tuple(case.row for case in own),
            log_errors=(),
            rms_log_error=0.0,
            median_error=None,
            kendall_tau=None,
        )
    logs = [errors[case.row, phase] for case in own]
    by_architecture: dict[Candidate, list[tuple[float, float]]] = {}
    for case, log in zip(own, logs, strict=True):
        by_architecture.setdefault(case.architecture, []).append((case.measured_s, log))
    groups = list(by_architecture.values())
    mean_square = statistics.fmean(
        statistics.fmean(log * log for _, log in group) for group in groups
    )
    tau = None
    if len(groups) > 2:
        tau = float(
            stats.kendalltau(
                [statistics.median(time_s * math.exp(log) for time_s, log in g) for g in groups],
                [statistics.median(time_s for time_s, _ in g) for g in groups],
            ).statistic
        )
    return PhaseError(
        num_models=len(groups),
        rows=tuple(case.row for case in own),
        log_errors=tuple(logs),
        rms_log_error=math.sqrt(mean_square),
        median_error=statistics.median(abs(math.expm1(log)) for log in logs),
        kendall_tau=tau,
    )
