"""Writes down what a calibration found, as a profile that predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Final

from scipy import stats

from phonesearch.device.fitted import COVERAGE
from phonesearch.device.operators import Rates
from phonesearch.device.profile import (
    Accuracy,
    DeviceProfile,
    Engine,
    Fact,
    Number,
    OperatorCosts,
)
from phonesearch.timing.calibrate import CheckedTime, Phase, ProbeTime, score
from phonesearch.timing.probe_run import ProbeRecord

_NO_CHECK_LOG_HALF_WIDTH: Final = math.log(2)


def calibrated_profile(
    name: str,
    *,
    times: Sequence[ProbeTime],
    records: Sequence[ProbeRecord],
    known: Rates,
    checked: Sequence[CheckedTime],
    today: date,
    machine: str = "host",
) -> DeviceProfile:
    """The profile of a machine, one engine named after its threads.

    Args:
        name: Of the profile, the stem of its file.
        times: What was fitted.
        records: Where those times come from; at least one.
        known: Costs that the fit gave.
        checked: Whole candidates, measured and predicted.
        today: Written into the sources.
        machine: What the command was given, `host` or `adb`.
    """
    first = records[0]
    engine_name = f"onnxruntime-cpu-int4-{known.num_threads}t"
    source = (
        f"calibrated {today.isoformat()} with onnxruntime {first.onnxruntime_version} at "
        f"{known.num_threads} thread{'s' * (known.num_threads != 1)} on {first.device}: "
        f"fit on {len(times)} times of operators alone and of small decoders"
    )
    engine = Engine(
        description="ONNX Runtime, CPU provider, int4 weights in blocks of 32",
        weight_bits=4,
        assumptions=(
            "the machine is as quiet as when it was calibrated",
            "decode steps follow each other, as in a generation, so that the caches have settled",
        ),
        operators=OperatorCosts(
            num_threads=known.num_threads,
            cache_bytes=Number(
                value=_rounded(known.cache_bytes),
                source=f"share of the last cache that fits the decode steps best; {source}",
            ),
            far_bytes=Number(
                value=_rounded(known.far_bytes),
                source=f"what fits the decode steps best; {source}",
            ),
            seconds={
                term: Number(value=_rounded(value), source=source)
                for term, value in known.seconds.items()
            },
        ),
        decode=_accuracy(checked, "decode"),
        prefill=_accuracy(checked, "prefill"),
    )
    return DeviceProfile(
        name=name,
        description=f"A machine calibrated by `phonesearch device calibrate {machine}`",
        soc=first.device,
        processor="CPU",
        coverage=COVERAGE,
        hardware={"machine": Fact(value=first.device, source="read from the system")},
        default_engine=engine_name,
        engines={engine_name: engine},
    )


def _accuracy(checked: Sequence[CheckedTime], phase: Phase) -> Accuracy:
    found = score(checked, phase)
    width = _NO_CHECK_LOG_HALF_WIDTH
    if found.num_candidates > 1:
        t = float(stats.t.ppf(0.5 + COVERAGE / 2, found.num_candidates - 1))
        width = t * found.rms_log_error
    return Accuracy(
        basis="fit",
        num_models=found.num_candidates,
        rows=(),
        median_error=_rounded(found.median_error),
        kendall_tau=None if found.kendall_tau is None else _rounded(found.kendall_tau),
        interval_log_half_width=_rounded(width),
        source=(
            f"{found.num_candidates} random candidates measured whole, none of them in the fit; "
            "interval: Student's t times the root mean square of their log errors; rounds of the "
            f"measurement itself scatter by {found.median_repeat_spread:.1%} (median)"
        ),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
