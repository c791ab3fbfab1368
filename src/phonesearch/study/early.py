"""Gives up trainings that cannot bring a candidate onto the front.

Speed is known before a training begins. At each rung the final loss is forecast, from the curve so
far and from the trainings that ended; the candidate is scored as if it came out at the good end of
that forecast, and dropped if even so another one that is as fast or faster has the better score.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import ndtri

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.shrink import shrink
from phonesearch.quality.features import feature_rows
from phonesearch.sampling.forecast import Trained, forecast, overconfidence
from phonesearch.study.evaluate import Timed
from phonesearch.study.judge import Judge, own_trainings, scores_of_own
from phonesearch.study.record import Dropped, TrialRecord
from phonesearch.study.settings import RunSettings

CONFIDENCE: Final = 0.95
"""That a candidate which is dropped would not have been on the front."""
FEWEST_ENDED: Final = 12
"""Trainings that must have ended before one is given up."""
LONGER: Final = 2.0
"""Times the tokens of a run that members of its front are trained on to."""
LONGER_SHARE: Final = 0.5
"""Of the tokens that are left by trainings that were given up; the others go into more candidates.
Assumption: half and half."""
FEWEST_LONGER: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A training under way."""

    number: int
    candidate: Candidate
    speed_tokens_per_s: float
    tokens: int
    """Seen."""
    loss_nats: float
    """Smoothed training loss, a token."""


def hopeless(
    standing: Standing, ended: Sequence[TrialRecord], *, settings: RunSettings, judge: Judge
) -> Dropped | None:
    """What is known of a candidate that cannot be on the front any more; None where it may.

    Args:
        standing: Its training.
        ended: Records of the run; only those with a training of their own that may be ranked count.
        settings: Of the run.
        judge: Of the run.
    """
    records = [
        record
        for record in ended
        if record.proxy is not None and record.proxy.passed_transition and record.speed is not None
    ]
    curves = [dict(record.proxy.curve) for record in records if record.proxy is not None]
    if len(records) < FEWEST_ENDED or any(standing.tokens not in curve for curve in curves):
        return None
    trained = Trained(
        features=feature_rows([one.candidate for one in records], judge.short, judge.model.aspect),
        standing=np.log([curve[standing.tokens] for curve in curves]),
        final=np.log([_proxy(record).bits_per_byte for record in records]),
    )
    row = feature_rows([standing.candidate], judge.short, judge.model.aspect)[0]
    mean, sd = forecast(trained, features=row, standing=math.log(standing.loss_nats))

    def scored(log_bits: float) -> tuple[float, dict[int, float]]:
        """Its score with that final loss, and those of all that are as fast, by trial."""
        loss = replace(
            _proxy(records[0]),
            bits_per_byte=math.exp(log_bits),
            proxy=as_dict(
                shrink(standing.candidate, settings.proxy, reference_parameters=settings.budget)
            ),
        )
        known = own_trainings(records) | {standing.number: (standing.candidate, loss)}
        scores = scores_of_own(judge, known)
        return scores[standing.number].log_loss, {
            record.number: scores[record.number].log_loss
            for record in records
            if _speed(record, settings) >= standing.speed_tokens_per_s
        }

    def is_beaten(log_bits: float) -> bool:
        own, others = scored(log_bits)
        return any(other <= own for other in others.values())

    z = float(ndtri(CONFIDENCE))
    if not is_beaten(mean - z * sd):
        return None
    sd *= overconfidence(trained)  # dear, and only needed where it may be dropped
    if not is_beaten(mean - z * sd):
        return None
    at_best, others = scored(mean - z * sd)
    best = min(others, key=others.__getitem__)
    own, as_expected = scored(mean)
    behind, behind_at_best = own - as_expected[best], at_best - others[best]
    return Dropped(
        tokens=standing.tokens,
        of_tokens=settings.proxy.tokens,
        log_loss=own,
        # The difference of two scores moves by a part of what the loss of one training moves by,
        # and by nothing where the features take it all. A score alone has no level of its own.
        sd=max(behind - behind_at_best, 0.0) / z,
        behind=behind,
        behind_at_best=behind_at_best,
        confidence=CONFIDENCE,
        beaten_by=best,
    )


class Rungs:
    """Asks `hopeless` at each rung of trainings, and keeps what was known of those given up.

    Args:
        ended: Records to go by.
        settings: Of the run.
        judge: Of the run.
    """

    def __init__(
        self, ended: Sequence[TrialRecord], *, settings: RunSettings, judge: Judge
    ) -> None:
        self._ended, self._settings, self._judge = ended, settings, judge
        self.dropped: dict[int, Dropped] = {}

    def is_hopeless(self, timed: Timed, tokens: int, loss_nats: float) -> bool:
        """Whether to give up the training of a candidate after so many tokens."""
        assert timed.speed is not None
        standing = Standing(
            number=timed.number,
            candidate=timed.candidate,
            speed_tokens_per_s=timed.speed.tokens_per_s(self._settings.speed)[0],
            tokens=tokens,
            loss_nats=loss_nats,
        )
        found = hopeless(standing, self._ended, settings=self._settings, judge=self._judge)
        if found is not None:
            self.dropped[timed.number] = found
        return found is not None


def wanted_trials(settings: RunSettings, records: Iterable[TrialRecord]) -> int:
    """Trials of a run in all: as many as it was asked for, and those that the tokens pay for which
    trainings that were given up have left.

    Args:
        settings: Of the run.
        records: Of its trials so far.
    """
    return settings.trials + int((1 - LONGER_SHARE) * _left(settings, records))


def num_longer(settings: RunSettings, records: Iterable[TrialRecord]) -> int:
    """Members of the front that the rest of those tokens pays to train on.

    Losses after more tokens have a level of their own, so one alone would tell nothing.

    Args:
        settings: Of the run.
        records: Of its trials so far.
    """
    count = int(LONGER_SHARE * _left(settings, records) / _longer_cost(settings))
    return count if count >= FEWEST_LONGER else 0


def longer_s(settings: RunSettings, records: Iterable[TrialRecord]) -> float:
    """How long it takes to train one of them on, by the trainings that this run made."""
    took = [
        record.proxy.seconds
        for record in records
        if record.proxy is not None and not record.proxy.from_cache
    ]
    return _longer_cost(settings) * statistics.median(took) if took else 0.0


def longer_rounds_s(settings: RunSettings, records: Sequence[TrialRecord]) -> float:
    """How long it takes to train all of them on, as many at once as the run has jobs."""
    rounds = math.ceil(num_longer(settings, records) / settings.jobs)
    return rounds * longer_s(settings, records)


def _left(settings: RunSettings, records: Iterable[TrialRecord]) -> float:
    """What trainings that were given up have left, in whole trainings."""
    if settings.scored_by != "each" or not settings.early_stopping:
        return 0.0
    return sum(
        1 - record.dropped.tokens / record.dropped.of_tokens
        for record in records
        if record.dropped is not None
    )


def _longer_cost(settings: RunSettings) -> float:
    """Of one, in whole trainings: it goes on from where the learning rate came down. Workers, who
    may be on other machines, leave nothing to go on from."""
    return LONGER - (0.0 if settings.fleet else 1 - settings.proxy.cooldown_share)


def _proxy(record: TrialRecord) -> ProxyLoss:
    assert record.proxy is not None
    return record.proxy


def _speed(record: TrialRecord, settings: RunSettings) -> float:
    assert record.speed is not None
    return record.speed.tokens_per_s(settings.speed)[0]
