"""Scores candidates: by law and priors, moved by short trainings of anchors, or by their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.proxy.result import ProxyLoss
from phonesearch.quality.features import Training, feature_row
from phonesearch.quality.law import Array
from phonesearch.quality.model import QualityModel, prior_model, quality
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.terms import LAW_TERMS, TERM_NAMES
from phonesearch.quality.update import (
    TRANSFER_SDS,
    LeftOut,
    Observations,
    leave_one_out,
    observation_noise,
    updated,
)
from phonesearch.study.score import Score, ScoreKind
from phonesearch.study.settings import RunSettings

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


def score_of_own(judge: Judge, candidate: Candidate, trained: ProxyLoss) -> Score:
    """The score of a candidate from a short training of its own, corrected to the horizon.

    To the log loss of the training is added what law and priors say that the planned training of
    the candidate differs by from the short one of its proxy. Most of it cancels, as the proxy was
    made alike; what is left are the parameters' worth and what rounding changed.

    Args:
        judge: Of the run.
        candidate: At full size.
        trained: Its proxy's training.
    """
    model = judge.model
    full = feature_row(candidate, model.training, model.aspect)
    row = full - feature_row(_candidate(trained), judge.short, model.aspect)
    parts = row * model.prior.mean
    law, prior = float(parts[_OF_LAW].sum()), float(parts[~_OF_LAW].sum())
    log_loss = math.log(trained.bits_per_byte)
    return Score(
        kind="each",
        log_loss=log_loss + law + prior,
        law=law,
        prior=prior,
        proxy=log_loss,
        shared=tuple(float(part) for part in (*(row @ judge.loadings), *(full * TRANSFER_SDS))),
        own_sd=math.hypot(model.residual_sd, trained.standard_error / trained.bits_per_byte),
    )


def _after(short: Training, tokens: int) -> Training:
    """A short training of so many tokens: some are gone on with for longer."""
    return replace(short, tokens_per_parameter=tokens / short.reference_parameters)


def _candidate(trained: ProxyLoss) -> Candidate:
    """What was trained; a proxy has no stretched rotary frequencies, the one nested field."""
    return Candidate(**trained.proxy)
