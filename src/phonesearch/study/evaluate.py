"""One candidate through the run: its counts and its time, then its loss, then a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import non_embedding_parameters, total_parameters, weight_bytes
from phonesearch.device.estimate import LatencyEstimate
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.speed import Speed
from phonesearch.errors import PhoneError, PhoneSearchError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.judge import Judge, own_trainings, scores_of_own
from phonesearch.study.meter import Meter
from phonesearch.study.record import Dropped, RecordState, TrialRecord
from phonesearch.study.score import Score
from phonesearch.study.settings import RunSettings
from phonesearch.study.stopwatch import (
    Turn,
    predicted,
    turn_memory_bytes,
    weight_bits,
)
from phonesearch.timing.base import Measurement
from phonesearch.units import format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A candidate that was timed, or why it could not be."""

    number: int
    candidate: Candidate
    estimate: LatencyEstimate | None
    measurement: Measurement | None
    weight_bytes: int
    peak_memory_bytes: int
    error: PhoneSearchError | None
    started_at: str
    seconds: float
    """Wall time of the timing."""

    @property
    def speed(self) -> Speed | None:
        """The measured times where there are any, else the predicted ones."""
        if self.measurement is not None:
            return self.measurement.speed
        return self.estimate.speed if self.estimate is not None else None


def time_candidate(
    number: int,
    candidate: Candidate,
    *,
    settings: RunSettings,
    profile: DeviceProfile,
    meter: Meter | None,
) -> Timed:
    """Predict or measure a candidate's turn. An expected failure is part of the answer.

    Args:
        number: Of the trial.
        candidate: Architecture.
        settings: Of the run.
        profile: Of the device.
        meter: Measures on it; None where the profile predicts.

    Raises:
        PhoneError: If the phone is gone, or cannot be measured now.
    """
    started_s = time.monotonic()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    turn = Turn(prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens)
    bits = weight_bits(profile, settings.engine)
    estimate, measurement, error = None, None, None
    try:
        if meter is not None:
            measurement = meter.measure(candidate, turn, seed=settings.seed)
        else:
            estimate = predicted(candidate, profile, engine=settings.engine, turn=turn)
    except PhoneSearchError as raised:
        if isinstance(raised, PhoneError) and not raised.is_of_candidate:
            raise  # no candidate would fare better; --resume times this one again
        error = raised
    return Timed(
        number=number,
        candidate=candidate,
        estimate=estimate,
        measurement=measurement,
        weight_bytes=weight_bytes(candidate, weight_bits=bits),
        peak_memory_bytes=turn_memory_bytes(candidate, turn, weight_bits=bits),
        error=error,
        started_at=started_at,
        seconds=time.monotonic() - started_s,
    )


Outcome = Score | ProxyLoss | Dropped | PhoneSearchError | tuple[str, ...]
"""What became of a candidate: its score, if it was judged by anchors or priors; a short training of
its own; why that was given up; the error that it failed with; or the constraints that it breaks."""


def record_of(
    timed: Timed, outcome: Outcome, *, judge: Judge, earlier: Sequence[TrialRecord] = ()
) -> TrialRecord:
    """All that was found out about a candidate.

    Args:
        timed: Its timing.
        outcome: What became of it.
        judge: Makes the score of a training of its own.
        earlier: Trials whose own trainings are known, if it has one; later ones will move its
            score, see `judge.rejudged`.
    """
    state: RecordState = "complete"
    reason, proxy, score, dropped = None, None, None, None
    if isinstance(outcome, PhoneSearchError):
        state, reason = "failed", str(outcome)
    elif isinstance(outcome, tuple):
        state, reason = "infeasible", "; ".join(outcome)
    elif isinstance(outcome, Dropped):
        state, reason, dropped = "dropped", why_dropped(outcome), outcome
    elif isinstance(outcome, Score):
        score = outcome
    else:
        known = own_trainings(earlier) | {timed.number: (timed.candidate, outcome)}
        proxy, score = outcome, scores_of_own(judge, known)[timed.number]
    estimate = timed.estimate
    trained_s = 0.0 if proxy is None or proxy.from_cache else proxy.seconds
    return TrialRecord(
        number=timed.number,
        state=state,
        reason=reason,
        candidate=timed.candidate,
        candidate_id=candidate_id(timed.candidate),
        num_parameters=total_parameters(timed.candidate),
        num_non_embedding_parameters=non_embedding_parameters(timed.candidate),
        weight_bytes=timed.weight_bytes,
        peak_memory_bytes=timed.peak_memory_bytes,
        predicted=estimate.speed if estimate else None,
        measured=timed.measurement.speed if timed.measurement else None,
        prefill_seconds_by_operator=estimate.prefill_seconds_by_operator if estimate else None,
        decode_seconds_by_operator=estimate.decode_seconds_by_operator if estimate else None,
        score=score,
        proxy=proxy,
        dropped=dropped,
        started_at=timed.started_at,
        seconds=timed.seconds + trained_s,
    )


def why_dropped(dropped: Dropped) -> str:
    """In words."""
    return (
        f"given up after {format_count(dropped.tokens)} of {format_count(dropped.of_tokens)} "
        f"tokens: its expected loss is {dropped.behind:.1%} above that of trial "
        f"{dropped.beaten_by}, which is as fast or faster, and {dropped.behind_at_best:.1%} above "
        f"it at the good end of what may come ({dropped.confidence:.0%} confidence)"
    )
