"""Scores candidates: by law and priors, moved by short trainings of anchors, or by their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.proxy.result import ProxyLoss
from phonesearch.quality.features import Training, feature_row
from phonesearch.quality.law import Array
from phonesearch.quality.model import QualityModel, prior_model, quality
from phonesearch.quality.own import OwnBeliefs, own_beliefs
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.terms import LAW_TERMS, TERM_NAMES
from phonesearch.quality.update import (
    LeftOut,
    Observations,
    leave_one_out,
    observation_noise,
    updated,
)
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score, ScoreKind
from phonesearch.study.settings import RunSettings

RESIDUAL_CARRIED: Final = 0.7
"""Correlation of what is particular to an architecture between a short training of its proxy and
the planned one. Assumption: half of its variance is the same."""
_OF_LAW = np.array([name in (*LAW_TERMS, "short_size") for name in TERM_NAMES])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """What a run believes of losses."""

    kind: ScoreKind
    model: QualityModel
    short: Training
    """That of proxies."""
    loadings: Array
    """A square root of the covariance of the coefficients, (terms, terms)."""


def make_judge(settings: RunSettings, trained: Sequence[ProxyLoss] = ()) -> Judge:
    """What is believed before the search.

    Args:
        settings: Of the run: kind, budget and horizon.
        trained: Short trainings of anchors, of one recipe but for its length; those that may not be
            ranked are left out.
    """
    proxy = settings.proxy
    model = prior_model(
        shipped_law(),
        Training(
            reference_parameters=settings.budget,
            tokens_per_parameter=proxy.horizon_tokens_per_parameter,
        ),
    )
    short = Training(
        reference_parameters=proxy.parameters,
        tokens_per_parameter=proxy.tokens / proxy.parameters,
        is_short=True,
    )
    passed = [loss for loss in trained if loss.passed_transition]
    if passed:
        model = updated(model, observations(model, short, passed))
    return Judge(
        kind=settings.scored_by,
        model=model,
        short=short,
        loadings=np.asarray(np.linalg.cholesky(model.posterior.covariance), dtype=np.float64),
    )


def observations(
    model: QualityModel, short: Training, trained: Sequence[ProxyLoss]
) -> Observations:
    """Short trainings as the model takes them; those of one length have a level in common."""
    candidates = [_candidate(loss) for loss in trained]
    rows = np.stack(
        [
            feature_row(one, _after(short, loss.tokens), model.aspect)
            for one, loss in zip(candidates, trained, strict=True)
        ]
    )
    names = tuple(candidate_id(one) for one in candidates)
    relative = float(np.median([loss.standard_error / loss.bits_per_byte for loss in trained]))
    return Observations(
        rows=rows,
        log_losses=np.log([loss.bits_per_byte for loss in trained]),
        noise=observation_noise(rows, names, training_sd=relative, residual_sd=model.residual_sd),
        recipes=tuple(f"{loss.tokens} tokens" for loss in trained),
        architectures=names,
    )


def left_out(judge: Judge, trained: Sequence[ProxyLoss]) -> tuple[LeftOut, ...]:
    """Each anchor, predicted from the others; only those that may be ranked."""
    passed = [loss for loss in trained if loss.passed_transition]
    if len(passed) < 2:
        return ()
    return leave_one_out(judge.model.prior, observations(judge.model, judge.short, passed))


def score(judge: Judge, candidate: Candidate) -> Score:
    """The score of a candidate that gets no training of its own."""
    found = quality(judge.model, candidate)
    row = feature_row(candidate, judge.model.training, judge.model.aspect)
    return Score(
        kind=judge.kind,
        log_loss=found.mean,
        law=found.law_mean,
        prior=found.prior_mean,
        proxy=found.proxy_mean,
        shared=tuple(float(part) for part in row @ judge.loadings),
        own_sd=judge.model.residual_sd,
    )


def comparable(losses: Sequence[ProxyLoss]) -> tuple[ProxyLoss, ...]:
    """Those that tell something: past the transition, and not alone in their length.

    Losses after another number of tokens have a level of their own.
    """
    passed = [loss for loss in losses if loss.passed_transition]
    lengths = Counter(loss.tokens for loss in passed)
    return tuple(loss for loss in passed if lengths[loss.tokens] > 1)


def scores_of_own(
    judge: Judge,
    trained: Mapping[int, tuple[Candidate, ProxyLoss]],
    longer: Sequence[ProxyLoss] = (),
) -> dict[int, Score]:
    """Scores of candidates of which each had a short training of its own.

    All trainings together move what is believed of the features, as those of anchors do, and each
    says a little of its own candidate besides: its mean is drawn towards what the features say, by
    as much as a training is luck. Of a candidate's residual the share `RESIDUAL_CARRIED` is
    taken to be there at full size. What may not be ranked moves nothing. Residuals are taken to be
    independent once the features are known, which makes differences a little less sure than they
    are.

    Args:
        judge: Of the run, before any training.
        trained: Candidates at full size and the training of the proxy of each, by trial.
        longer: Further trainings of some of these proxies, on more tokens.
    """
    model = judge.model
    passed = {
        candidate_id(_candidate(loss)): loss
        for _, loss in trained.values()
        if loss.passed_transition
    }  # candidates whose proxies are the same share one training
    beliefs = OwnBeliefs(coefficients=model.prior, architectures=())
    if passed:
        seen = observations(model, judge.short, [*passed.values(), *comparable(longer)])
        beliefs = own_beliefs(model.prior, seen, residual_sd=model.residual_sd)
    features = np.stack(
        [feature_row(one, model.training, model.aspect) for one, _ in trained.values()]
    )
    names = tuple(
        candidate_id(_candidate(loss)) if loss.passed_transition else None
        for _, loss in trained.values()
    )
    rows = beliefs.rows(features, names, share=RESIDUAL_CARRIED)
    means = rows @ beliefs.coefficients.mean
    loadings = rows @ np.linalg.cholesky(beliefs.coefficients.covariance)
    shared, own = loadings[:, : features.shape[1]], loadings[:, features.shape[1] :]
    parts = features * model.prior.mean
    laws, priors = parts[:, _OF_LAW].sum(axis=1), parts[:, ~_OF_LAW].sum(axis=1)
    not_carried = model.residual_sd * math.sqrt(1 - RESIDUAL_CARRIED**2)
    return {
        number: Score(
            kind="each",
            log_loss=float(means[place]),
            law=float(laws[place]),
            prior=float(priors[place]),
            proxy=float(means[place] - laws[place] - priors[place]),
            shared=tuple(float(part) for part in shared[place]),
            own_sd=model.residual_sd
            if names[place] is None
            else math.hypot(not_carried, float(np.linalg.norm(own[place]))),
        )
        for place, number in enumerate(trained)
    }


def own_trainings(records: Sequence[TrialRecord]) -> dict[int, tuple[Candidate, ProxyLoss]]:
    """What `scores_of_own` takes, of the records that have it."""
    return {
        record.number: (record.candidate, record.proxy)
        for record in records
        if record.proxy is not None
    }


def rejudged(records: Sequence[TrialRecord], judge: Judge) -> tuple[TrialRecord, ...]:
    """The records of a run in which every candidate was trained, judged by all the trainings.

    What was stored with a trial is judged by those before it.
    """
    known = own_trainings(records)
    longer = [record.longer for record in records if record.longer is not None]
    scores = scores_of_own(judge, known, longer) if known else {}
    return tuple(
        replace(record, score=scores[record.number]) if record.number in scores else record
        for record in records
    )


def _after(short: Training, tokens: int) -> Training:
    """A short training of so many tokens: some are gone on with for longer."""
    return replace(short, tokens_per_parameter=tokens / short.reference_parameters)


def _candidate(trained: ProxyLoss) -> Candidate:
    """What was trained; a proxy has no stretched rotary frequencies, the one nested field."""
    return Candidate(**trained.proxy)
