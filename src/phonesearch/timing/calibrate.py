"""Finds what each operator costs on this machine, and how wrong that is on whole candidates.

Costs are a non-negative least squares fit of the relative error over probes of one operator
each; candidates are measured as a search measures them, after the fit, and change nothing in it
but the interval that is stated.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy import stats
from scipy.optimize import nnls

from phonesearch.candidate.config import Candidate
from phonesearch.device.operators import TERMS, OperatorRates, operator_run_seconds
from phonesearch.device.work import graph_work
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.host import HostBackend
from phonesearch.timing.probe_run import ProbeRecord
from phonesearch.timing.probes import Probe, probe_units

PROMPT_TOKENS: Final = 128
CONTEXTS: Final = (128, 1024)
"""Tokens in the cache at which decode steps of candidates are measured, about."""
_DEFAULT_CACHE_BYTES: Final = 32 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTime:
    """One run of one probe: the lower of its rounds' medians, and all that was seen."""

    probe: Probe
    new_tokens: int
    past_tokens: int
    seconds: float
    spread: float
    """Largest over smallest median of its rounds, less one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTime:
    """One time of a whole candidate that no fit had seen."""

    phase: str
    """`decode` or `prefill`."""
    context: int
    measured_s: float
    predicted_s: float
    repeat_spread: float
    """Half of what lies between the 10th and 90th percentile of the samples, over the median."""

    @property
    def error(self) -> float:
        """Predicted over measured seconds, less one."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckScore:
    """How wrong one phase was at one context (None: at all)."""

    phase: str
    context: int | None
    num_candidates: int
    median_error: float
    within_10: float
    kendall_tau: float | None
    median_repeat_spread: float
    rms_log_error: float


def last_cache_bytes() -> int:
    """Size of the last cache of the first core; 32 MiB where the system does not tell."""
    sizes = [
        int(text[:-1]) * 1024
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        if (text := path.read_text(encoding="ascii").strip()).endswith("K")
    ]
    return max(sizes, default=_DEFAULT_CACHE_BYTES)


def probe_times(probes: Sequence[Probe], records: Sequence[ProbeRecord]) -> list[ProbeTime]:
    """One time for each run of each probe, disturbed rounds dropped.

    Other work on a machine only ever adds time, so that of the medians of the rounds the lowest
    is taken; their spread is kept beside it.
    """
    found = []
    for probe in probes:
        own = [record for record in records if record.probe == probe.name]
        for place, (new_tokens, past_tokens) in enumerate(probe.runs):
            medians = [statistics.median(record.samples_s[place]) for record in own]
            found.append(
                ProbeTime(
                    probe=probe,
                    new_tokens=new_tokens,
                    past_tokens=past_tokens,
                    seconds=min(medians),
                    spread=max(medians) / min(medians) - 1,
                )
            )
    return found


def fit_operators(times: Sequence[ProbeTime], *, cache_bytes: float) -> OperatorRates:
    """Costs of all terms, none negative, with the least squared relative error of `times`."""
    rows = [
        probe_units(time.probe, time.new_tokens, time.past_tokens, cache_bytes=cache_bytes)
        for time in times
    ]
    matrix = np.array(
        [
            [row.get(term, 0.0) / time.seconds for term in TERMS]
            for row, time in zip(rows, times, strict=True)
        ]
    )
    scale = np.maximum(np.abs(matrix).max(axis=0), np.finfo(float).tiny)
    found, _ = nnls(matrix / scale, np.ones(len(rows)))
    seconds = {
        term: float(value) for term, value in zip(TERMS, found / scale, strict=True) if value > 0
    }
    return OperatorRates(cache_bytes=cache_bytes, seconds=seconds)


def check(
    candidates: Sequence[Candidate],
    known: OperatorRates,
    *,
    num_threads: int,
    progress: Callable[[str], None],
) -> list[CheckedTime]:
    """Measure candidates whole, and predict them from `known`.

    Raises:
        ExportError: If there is no room for a model.
        TimingError: If one could not be timed.
    """
    found: list[CheckedTime] = []
    for place, candidate in enumerate(candidates):
        progress(f"unseen candidates: {place + 1} of {len(candidates)}")
        work = graph_work(build_structure(candidate, GraphSettings()))

        def predicted_s(new: int, past: int, work=work) -> float:  # type: ignore[no-untyped-def]
            seconds = operator_run_seconds(work, known, new_tokens=new, past_tokens=past)
            return math.fsum(seconds.values())

        with tempfile.TemporaryDirectory(prefix=".timing-") as folder:
            model = export(candidate, Path(folder), GraphSettings(), seed=place)
            for context in CONTEXTS:
                measured = HostBackend().time(
                    model.path, _settings(context, num_threads, is_first=context == CONTEXTS[0])
                )
                if context == CONTEXTS[0]:
                    found.append(_checked("prefill", 0, measured, predicted_s(PROMPT_TOKENS, 0)))
                found.append(_checked("decode", context, measured, predicted_s(1, context)))
    return found


def score(checked: Sequence[CheckedTime], phase: str, context: int | None = None) -> CheckScore:
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
        num_candidates=len(own) if context is not None else len(own) // _times_each(phase),
        median_error=statistics.median(errors),
        within_10=statistics.fmean(error <= 0.1 for error in errors),
        kendall_tau=tau,
        median_repeat_spread=statistics.median(one.repeat_spread for one in own),
        rms_log_error=math.sqrt(
            statistics.fmean(math.log(one.predicted_s / one.measured_s) ** 2 for one in own)
        ),
    )


def averages(times: Sequence[ProbeTime], known: Mapping[str, float]) -> dict[str, float]:
    """The five coefficients that other profiles have, as averages over the probes."""
    calls = max(known.get("call", 0.0), 1e-9)
    bytes_s = _ratio(times, "matmul", 1, "matvec_byte")
    return {
        "memory_bandwidth_bytes_per_s": bytes_s,
        "seconds_per_call": calls,
        "matmul_ops_per_s": _ratio(times, "matmul", PROMPT_TOKENS, "matmul_operation"),
        "attention_ops_per_s": _ratio(
            times, "attention", PROMPT_TOKENS, "prompt_attention_operation"
        ),
        "matmul_tile_rows": 1.0,
    }


def _ratio(times: Sequence[ProbeTime], kind: str, new_tokens: int, term: str) -> float:
    own = [time for time in times if time.probe.kind == kind and time.new_tokens == new_tokens]
    amounts = [
        probe_units(time.probe, time.new_tokens, time.past_tokens, cache_bytes=1.0)[term]
        for time in own
    ]
    return math.fsum(amounts) / math.fsum(time.seconds for time in own)


def _times_each(phase: str) -> int:
    return len(CONTEXTS) if phase == "decode" else 1


def _settings(context: int, num_threads: int, *, is_first: bool) -> TimingSettings:
    """Decode steps around `context`; the prompt is timed well only once."""
    return TimingSettings(
        prompt_tokens=PROMPT_TOKENS,
        generate_tokens=max(2 * (context - PROMPT_TOKENS), 2),
        num_threads=num_threads,
        warmup_runs=1,
        repetitions=5 if is_first else 2,
        decode_steps=16,
    )


def _checked(phase: str, context: int, measured: Measurement, predicted_s: float) -> CheckedTime:
    span = measured.speed.ttft if phase == "prefill" else measured.speed.tpot
    return CheckedTime(
        phase=phase,
        context=context,
        measured_s=span.value_s,
        predicted_s=predicted_s,
        repeat_spread=(span.high_s - span.low_s) / 2 / span.value_s,
    )
