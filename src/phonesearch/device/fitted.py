"""Makes the engine of a profile from the speeds of whole models: coefficients, sources, errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from phonesearch.device.engine_plans import EnginePlan
from phonesearch.device.fit import (
    MIN_OWN_ARCHITECTURES,
    EngineFit,
    PhaseError,
    Priors,
    SpeedRow,
    borrows_decode_error,
    fit_engine,
    interval_log_half_width,
)
from phonesearch.device.profile import Accuracy, Basis, Coefficients, DeviceProfile, Engine, Number

COVERAGE: Final = 0.9
"""Share of unseen architectures that an interval is meant to hold."""
PROFILE_HEADER: Final = "Base units: seconds, bytes, operations (a multiply-add is two)."

_SIGNIFICANT_DIGITS: Final = 4
_NO_ROWS_LOG_HALF_WIDTH: Final = math.log(2)
FEW_ROWS_LOG_HALF_WIDTH: Final = math.log(1.75)
"""Half the log width that holds at least nine of ten architectures when the shipped engines with
many are fitted on two of them alike in size, with the seconds per call of another chip; a test
does it."""
_FEW: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A coefficient that the rows cannot tell, and where it is taken from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedEngine:
    """An engine of a profile with the fit behind it."""

    engine: Engine
    fit: EngineFit


def fitted_engine(
    rows: Sequence[SpeedRow],
    plan: EnginePlan,
    *,
    matmul_ops_per_s: Prior | None = None,
    seconds_per_call: Prior | None = None,
) -> FittedEngine:
    """Fit one engine on one device.

    Args:
        rows: Its speeds, of at least three architectures, or one with `seconds_per_call`.
        plan: What is known of the engine apart from them.
        matmul_ops_per_s: Taken where no row has a prefill.
        seconds_per_call: Taken instead of being fitted.

    Raises:
        ProfileError: If there are too few architectures, or no prefill and no prior for it.
    """
    fit = fit_engine(
        rows,
        Priors(
            attention_share=plan.attention_share,
            matmul_tile_rows=plan.tile_rows,
            matmul_ops_per_s=None if matmul_ops_per_s is None else matmul_ops_per_s.value,
            seconds_per_call=None if seconds_per_call is None else seconds_per_call.value,
        ),
        weight_bits=plan.weight_bits,
    )
    fitted = (
        f"fit on {len(fit.decode.rows)} decode"
        f"{f' and {len(fit.prefill.rows)} prefill' if fit.prefill else ''} speeds of "
        f"{fit.decode.num_models} architectures; rows listed below"
    )
    matmul_source = fitted
    if fit.prefill is None and matmul_ops_per_s is not None:
        matmul_source = matmul_ops_per_s.source
    known = fit.rates
    calls_fitted = seconds_per_call is None
    few = not calls_fitted or fit.decode.num_models < MIN_OWN_ARCHITECTURES
    engine = Engine(
        description=plan.description,
        processor=plan.processor,
        weight_bits=plan.weight_bits,
        assumptions=plan.assumptions,
        coefficients=Coefficients(
            memory_bandwidth_bytes_per_s=_number(known.memory_bandwidth_bytes_per_s, fitted),
            seconds_per_call=_number(
                known.seconds_per_call,
                fitted if seconds_per_call is None else seconds_per_call.source,
            ),
            matmul_ops_per_s=_number(known.matmul_ops_per_s, matmul_source),
            attention_ops_per_s=_number(known.attention_ops_per_s, plan.attention_source),
            matmul_tile_rows=_number(plan.tile_rows, plan.tile_source),
        ),
        decode=_accuracy(fit, fit.decode, few=few, basis="fit" if calls_fitted else "prior"),
        prefill=_prefill_accuracy(fit, few=few),
    )
    return FittedEngine(engine=engine, fit=fit)


def profile_content(profile: DeviceProfile) -> dict[str, Any]:
    """What is written of a profile to its YAML."""
    content = asdict(profile)
    del content["sha256"]
    for engine in content["engines"].values():
        for name in ("coefficients", "operators"):
            if engine[name] is None:
                del engine[name]
    return {key: value for key, value in content.items() if value not in (None, {}, ())}


def _prefill_accuracy(fit: EngineFit, *, few: bool) -> Accuracy:
    if fit.prefill is not None:
        return _accuracy(fit, fit.prefill, few=few, basis="fit")
    return Accuracy(
        basis="prior",
        num_models=0,
        rows=(),
        median_error=None,
        kendall_tau=None,
        interval_log_half_width=_rounded(_NO_ROWS_LOG_HALF_WIDTH),
        source="assumption: a rate of another chip or build is right to within a factor of 2",
    )


def _accuracy(fit: EngineFit, error: PhaseError, *, few: bool, basis: Basis) -> Accuracy:
    is_prefill = error is fit.prefill
    source = (
        "each architecture predicted by a fit without it; interval: Student's t times the root "
        "mean square of those log errors"
    )
    if is_prefill and borrows_decode_error(fit):
        source += (
            f"; with {error.num_models} architectures the spread between architectures cannot "
            "be seen, so the interval is that of decode"
        )
    width = interval_log_half_width(fit, "prefill" if is_prefill else "decode", coverage=COVERAGE)
    if few:
        own = width if error.num_models > _FEW else 2 * error.rms_log_error
        least = FEW_ROWS_LOG_HALF_WIDTH if error.log_errors else _NO_ROWS_LOG_HALF_WIDTH
        width = max(own, least)
        source = (
            "each architecture predicted by a fit without it; these are too few or too alike to "
            "show the spread, so the interval is at least a factor of 1.75, which held nine of "
            "ten where engines with many architectures were fitted on two"
            if error.log_errors
            else "assumption: a fit on one architecture is right to within a factor of 2"
        )
    return Accuracy(
        basis=basis,
        num_models=error.num_models,
        rows=error.rows,
        median_error=None if error.median_error is None else _rounded(error.median_error),
        kendall_tau=None if error.kendall_tau is None else _rounded(error.kendall_tau),
        interval_log_half_width=_rounded(width),
        source=source,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _number(value: float, source: str) -> Number:
    return Number(value=_rounded(value), source=source)
