"""One evaluated candidate, as every later room reads it.

Predicted and measured figures stand apart; a failed candidate keeps its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phonesearch.candidate.config import Candidate
from phonesearch.device.speed import Speed
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.score import Score

RecordState = Literal["complete", "infeasible", "dropped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was known of a candidate when its own training was given up."""

    tokens: int
    """That it had seen."""
    of_tokens: int
    """Of a whole training."""
    log_loss: float
    """What its score was expected to be, as `Score.log_loss`."""
    sd: float
    """Standard deviation of that against the one that it is beaten by, as what the training would
    have ended at is not known."""
    behind: float
    """How much higher that is than the score of the one that it is beaten by."""
    behind_at_best: float
    """The same had its training come out at the good end of what it might; not below zero."""
    confidence: float
    """That it would not have come out better than that good end."""
    beaten_by: int
    """Number of that trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One candidate with all that was found out about it."""

    number: int
    """Number of the Optuna trial, from 0."""
    state: RecordState
    """`infeasible`: breaks a constraint of the run, so it was timed but not trained. `dropped`: its
    own training was given up, as it could not be on the front."""
    reason: str | None
    """Why it failed, was dropped or is infeasible; None when complete."""
    candidate: Candidate
    candidate_id: str
    num_parameters: int
    num_non_embedding_parameters: int
    weight_bytes: int
    peak_memory_bytes: int
    """Counted, not measured: `candidate.count.peak_memory_bytes` at the end of the turn."""
    predicted: Speed | None
    measured: Speed | None
    prefill_seconds_by_operator: dict[str, float] | None
    """From the prediction; None where the candidate was measured."""
    decode_seconds_by_operator: dict[str, float] | None
    score: Score | None
    """What it is ranked by; None where it failed or breaks a constraint."""
    proxy: ProxyLoss | None
    """Its own short training, in runs that give it one."""
    longer: ProxyLoss | None = None
    """Its proxy trained on for longer, see `study.early`; its score rests on both."""
    dropped: Dropped | None = None
    """What was known of it when it was given up."""
    started_at: str
    """ISO 8601 in UTC."""
    seconds: float
    """Wall time of the whole evaluation."""

    @property
    def speed(self) -> Speed | None:
        """The measured figures where there are any, else the predicted ones."""
        return self.measured or self.predicted
