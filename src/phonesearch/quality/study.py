"""How well small models that were trained long are ranked by what is known before.

The truth is the loss of the same small architectures after several times the tokens. It shows
whether short trainings, law and priors together put architectures in order at that scale; that
they do at full size, no such study can show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import stats

from phonesearch.candidate.config import candidate_id
from phonesearch.errors import QualityError
from phonesearch.quality.features import Training, feature_rows
from phonesearch.quality.law import Array
from phonesearch.quality.model import Coefficients, QualityModel, prior_model
from phonesearch.quality.own import own_beliefs
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.study_table import StudyRow
from phonesearch.quality.transfer_fit import likeliest_length_scale, likeliest_transfer_scale
from phonesearch.quality.update import (
    LENGTH_TRANSFER_SDS,
    SIZE_TRANSFER_SDS,
    Observations,
    observation_noise,
    update,
)

COVERAGE: Final = 0.90
"""Of the intervals that are held against the truth."""
_BY_PRIORS: Final = "law and priors"
BY_FEATURES: Final = "law, priors and short losses"
_WITH_OWN: Final = "these, and its own short loss"
_FEWEST: Final = 4
_ALONG: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of a long training, before its cooldown, at which its training loss is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How something ranks the truth: Spearman's coefficient."""

    what: str
    overall: float
    """Over all architectures."""
    one_depth: float
    """Over those of one depth."""
    held: float | None = None
    """Share of the truths in its intervals of `COVERAGE`; None where it gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongTheWay:
    """How the training loss of the long trainings, at some point of them, ranks their end."""

    tokens: int
    overall: float
    one_depth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What the study says."""

    tokens: int
    """Of a short training."""

    num_architectures: int
    num_of_one_depth: int
    num_short: int
    num_passed: int
    """Short trainings past the transition; the others are not used."""
    longer: int
    rankings: tuple[Ranking, ...]
    """By the short losses alone, and by the quality model: before them, after them by features
    alone as candidates are judged by anchors, and with what each says of its own architecture."""
    seed_difference: float
    """Median difference of two seeds of the truth, in log loss; not a number without any."""
    truth_sd: float
    """Standard deviation of the truths, in log loss."""
    ceiling: float
    """What the truths as they would be without scatter over seeds would correlate with the truths
    as they were trained: root of one less the share of scatter in their variance. Nothing that is
    known before can be expected to rank them better."""
    transfer_scale: float
    """See `likeliest_transfer_scale`."""
    length_scale: float
    """See `likeliest_length_scale`."""
    along: tuple[AlongTheWay, ...]
    """From early to late; empty where no curves are known."""


def judge_study(rows: Sequence[StudyRow]) -> StudyResult:
    """Hold what is known after the short trainings against the long ones.

    The intervals are of each architecture's log loss about the mean of all, as no more than
    differences are known; the truth's own scatter over seeds is in them.

    Raises:
        QualityError: If the study has too few architectures with both trainings.
    """
    longest = max((row.longer for row in rows), default=1)
    truth: dict[str, list[float]] = {}
    if longest > 1:
        long_rows = [row for row in rows if row.longer == longest]
        for row, loss in zip(long_rows, _without_seeds(long_rows), strict=True):
            truth.setdefault(row.name, []).append(loss)
    shorts = [row for row in rows if row.longer == 1 and row.name in truth]
    first = {row.name: row for row in reversed(shorts)}
    names = [name for name in first if name in truth]
    if len(names) < _FEWEST:
        raise QualityError(
            f"The study has {len(names)} architectures with both trainings, and needs {_FEWEST}. "
            "Go on with it: python benchmarks/proxy_study.py train"
        )
    used = [row for row in shorts if row.passed_transition]
    noise = float(np.median([row.standard_error / row.bits_per_byte for row in shorts]))
    truths = _Truths(
        ids=tuple(candidate_id(first[name].proxy) for name in names),
        losses=np.array([np.mean(truth[name]) for name in names]),
        variances=np.array([noise**2 / len(truth[name]) for name in names]),
        is_neutral=np.array([first[name].is_neutral for name in names]),
    )
    prior, long = _before(shorts, longest)
    features = feature_rows([first[name].proxy for name in names], long, prior.aspect)
    seen = _seen(shorts, used, prior, noise)
    short_losses = np.log([first[name].bits_per_byte for name in names])
    rankings = [
        truths.ranked("short loss alone", short_losses),
        truths.judged(_BY_PRIORS, features, prior.prior, prior.residual_sd),
    ]
    if seen is not None:
        after = update(prior.prior, seen)
        rankings.append(truths.judged(BY_FEATURES, features, after, prior.residual_sd))
        beliefs = own_beliefs(prior.prior, seen, residual_sd=prior.residual_sd)
        owners = [one if one in beliefs.architectures else None for one in truths.ids]
        with_own = beliefs.rows(features, owners, share=1.0)
        rankings.append(truths.judged(_WITH_OWN, with_own, beliefs.coefficients, 0.0))
    pairs = [abs(values[0] - values[1]) for values in truth.values() if len(values) > 1]
    return StudyResult(
        tokens=shorts[0].tokens,
        num_architectures=len(names),
        num_of_one_depth=int(truths.is_neutral.sum()),
        num_short=len(shorts),
        num_passed=len(used),
        longer=longest,
        rankings=tuple(rankings),
        seed_difference=float(np.median(pairs)) if pairs else math.nan,
        truth_sd=float(truths.losses.std(ddof=1)),
        ceiling=math.sqrt(max(0.0, 1 - float(truths.variances.mean() / truths.losses.var(ddof=1)))),
        transfer_scale=likeliest_transfer_scale(rows),
        length_scale=likeliest_length_scale(rows),
        along=_along([row for row in rows if row.longer == longest and row.curve]),
    )


def _without_seeds(rows: Sequence[StudyRow]) -> list[float]:
    """Log losses with the level of each seed brought to that of the first.

    A seed is an order of the text, and one may be better for all. By least squares of architecture
    and seed, to which those with several seeds alone contribute; architectures with one seed
    would otherwise be better or worse for it.
    """
    names = sorted({row.name for row in rows})
    seeds = sorted({row.seed for row in rows})[1:]
    losses = np.log([row.bits_per_byte for row in rows])
    columns = [[row.name == name for name in names] for row in rows]
    levels = np.array([[row.seed == seed for seed in seeds] for row in rows], dtype=float)
    levels = levels.reshape(len(rows), len(seeds))
    both = np.hstack([np.array(columns, dtype=float), levels])
    found = np.linalg.lstsq(both, losses)[0][len(names) :]
    return list(losses - levels @ found)


def _along(rows: Sequence[StudyRow]) -> tuple[AlongTheWay, ...]:
    """Over all long trainings of the study, each seed its own."""
    if len(rows) < _FEWEST:
        return ()
    end = np.array([row.bits_per_byte for row in rows])
    neutral = np.array([row.is_neutral for row in rows])
    found = []
    for share in _ALONG:
        at = min(rows[0].curve, key=lambda point: abs(point[0] - share * rows[0].tokens))[0]
        nats = np.array([min(row.curve, key=lambda point: abs(point[0] - at))[1] for row in rows])
        found.append(
            AlongTheWay(
                tokens=at,
                overall=_spearman(nats, end),
                one_depth=_spearman(nats[neutral], end[neutral]),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Truths:
    """Long trainings, an architecture each."""

    ids: tuple[str, ...]
    losses: Array
    """Log loss, the mean over seeds, (n,)."""
    variances: Array
    """Of the seeds, (n,)."""
    is_neutral: Array

    def ranked(self, what: str, said: Array, held: float | None = None) -> Ranking:
        neutral = self.is_neutral
        return Ranking(
            what=what,
            overall=_spearman(said, self.losses),
            one_depth=_spearman(said[neutral], self.losses[neutral]),
            held=held,
        )

    def judged(self, what: str, rows: Array, beliefs: Coefficients, residual_sd: float) -> Ranking:
        """Losses about the mean of all, as no more than differences are known."""
        said = rows @ beliefs.mean
        covariance = rows @ beliefs.covariance @ rows.T
        covariance = covariance + np.diag(residual_sd**2 + self.variances)
        centre = np.eye(len(said)) - 1 / len(said)
        sds = np.sqrt(np.diag(centre @ covariance @ centre))
        errors = centre @ (self.losses - said)
        inside = np.abs(errors) <= stats.norm.ppf(0.5 + COVERAGE / 2) * sds
        return self.ranked(what, said, float(inside.mean()))


def _before(shorts: Sequence[StudyRow], longest: int) -> tuple[QualityModel, Training]:
    """The model before the short trainings, and the long training.

    What is believed of small models is what is believed of large ones, less sharply: their effects
    may be off by what transfers badly. Short and long differ only by the length.
    """
    size = float(np.median([row.parameters for row in shorts]))
    long = Training(
        reference_parameters=size,
        tokens_per_parameter=longest * shorts[0].tokens / size,
        is_short=True,
    )
    prior = prior_model(shipped_law(), long)
    beliefs = Coefficients(
        mean=prior.prior.mean, covariance=prior.prior.covariance + np.diag(SIZE_TRANSFER_SDS**2)
    )
    return replace(prior, prior=beliefs, posterior=beliefs), long


def _seen(
    shorts: Sequence[StudyRow], used: Sequence[StudyRow], prior: QualityModel, noise: float
) -> Observations | None:
    """The short trainings that may be used; None where there are none."""
    if not used:
        return None
    size = float(np.median([row.parameters for row in shorts]))
    short = Training(
        reference_parameters=size, tokens_per_parameter=shorts[0].tokens / size, is_short=True
    )
    candidates = [row.proxy for row in used]
    features = feature_rows(candidates, short, prior.aspect)
    names = tuple(candidate_id(one) for one in candidates)
    return Observations(
        rows=features,
        log_losses=np.log([row.bits_per_byte for row in used]),
        noise=observation_noise(
            features,
            names,
            training_sd=noise,
            residual_sd=prior.residual_sd,
            transfer_sds=LENGTH_TRANSFER_SDS,
        ),
        recipes=tuple(f"seed {row.seed}" for row in used),
        architectures=names,
    )


def _spearman(one: Array, other: Array) -> float:
    return float(stats.spearmanr(one, other).statistic)
