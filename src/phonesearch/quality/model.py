"""The quality of a candidate: mean and standard deviation of its relative log loss.

A linear model with Gaussian coefficients and an independent residual for every architecture,

    log loss = features . coefficients + residual,

relative to an architecture of the reference size at the best depth-to-width and feed-forward
ratio, with a plain gelu network, all key/value heads, and an untied head. Only differences mean
anything: what cancels between two candidates, as the common part of uncertain coefficients, is
not in the deviation of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phonesearch.candidate.config import Candidate
from phonesearch.quality.features import Training, feature_row, feature_rows
from phonesearch.quality.fit_law import LawFit
from phonesearch.quality.law import Array, AspectLaw, size_elasticity
from phonesearch.quality.shipped import ShapeLaw
from phonesearch.quality.terms import (
    ASPECT_BEYOND_SD,
    ASPECT_CURVATURE_SD,
    ASPECT_OPTIMUM_SD,
    ASPECT_PER_LOG_HORIZON_SD,
    ASPECT_PER_LOG_PARAMETERS_SD,
    LAW_TERMS,
    LEAST_SIZE_SD,
    PRIOR_TERMS,
    RESIDUAL_SD,
    TERM_NAMES,
    origin,
)

_IS_LAW = np.array([origin(name) == "law" for name in TERM_NAMES])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coefficients:
    """What is believed of all coefficients, in the order of `TERM_NAMES`."""

    mean: Array
    covariance: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityModel:
    """Beliefs before and after short trainings, and what is needed to use them."""

    training: Training
    """The planned one."""
    aspect: AspectLaw
    """Where features are linearised; the same for prior and posterior."""
    prior: Coefficients
    posterior: Coefficients
    """The prior itself until short trainings are added with `quality.update.update`."""
    residual_sd: float = RESIDUAL_SD


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Relative log loss of one candidate, and what it is made of.

    `mean` is the sum of the three means. `sd` squared is the sum of the three remaining
    variances; `removed_variance` is what short trainings took off the prior's.
    """

    mean: float
    sd: float
    law_mean: float
    """Size and depth-to-width ratio, as the published suites have them."""
    prior_mean: float
    """All other terms before any short training."""
    proxy_mean: float
    """By what short trainings moved both."""
    law_variance: float
    """Left in the coefficients of the law."""
    prior_variance: float
    """Left in the other coefficients."""
    residual_variance: float
    """Of this architecture alone."""
    removed_variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityDifference:
    """Log loss of one candidate less that of another; below zero the first is better."""

    mean: float
    sd: float

    def is_tied(self, *, deviations: float = 1.0) -> bool:
        """Whether the difference is within so many standard deviations."""
        return abs(self.mean) <= deviations * self.sd


def prior_model(law: ShapeLaw, training: Training) -> QualityModel:
    """The model before any short training.

    Coefficients of the aspect term have the mean of the joint fit, and as deviation the largest
    of its standard error, the root mean square distance of the two separate fits from it, and the
    least deviation in `quality/terms.py`. The size coefficient lies between the two suites', one
    deviation from each. Outside the suites, mu has the further deviation `ASPECT_BEYOND_SD` for
    each log unit. Coefficients are independent of each other.
    """
    suites = (law.gemstones, law.morph)
    slopes = [
        size_elasticity(
            fit.bases[0].law, parameters=training.reference_parameters, tokens=training.tokens
        )
        for fit in suites
    ]
    aspect = law.joint.aspect
    least = {
        "curvature": ASPECT_CURVATURE_SD * aspect.curvature,
        "optimum": ASPECT_OPTIMUM_SD,
        "per_log_parameters": ASPECT_PER_LOG_PARAMETERS_SD,
        "per_log_horizon": ASPECT_PER_LOG_HORIZON_SD,
    }
    means = dict.fromkeys(LAW_TERMS, 0.0)
    sds = {"aspect_beyond": ASPECT_BEYOND_SD}
    means["size"] = sum(slopes) / 2
    sds["size"] = max(abs(slopes[0] - slopes[1]) / 2, LEAST_SIZE_SD)
    # The three of mu are deviations from where the features are linearised, so of mean zero.
    means["aspect_curvature"] = aspect.curvature
    for field, smallest in least.items():
        sds[f"aspect_{field}"] = max(smallest, _spread(law.joint, suites, field))
    means |= {name: term.mean for name, term in PRIOR_TERMS.items()}
    sds |= {name: term.sd for name, term in PRIOR_TERMS.items()}
    beliefs = Coefficients(
        mean=np.array([means[name] for name in TERM_NAMES]),
        covariance=np.diag([sds[name] ** 2 for name in TERM_NAMES]),
    )
    return QualityModel(training=training, aspect=aspect, prior=beliefs, posterior=beliefs)


def quality(model: QualityModel, candidate: Candidate) -> Quality:
    """Relative log loss of one candidate after the planned training."""
    return qualities(model, [candidate])[0]


def qualities(model: QualityModel, candidates: Sequence[Candidate]) -> tuple[Quality, ...]:
    """Relative log loss of each candidate after the planned training."""
    rows = feature_rows(candidates, model.training, model.aspect)
    parts = rows * model.prior.mean
    moved = rows @ (model.posterior.mean - model.prior.mean)
    shares = rows * (rows @ model.posterior.covariance)
    before = np.einsum("ij,jk,ik->i", rows, model.prior.covariance, rows)
    residual = model.residual_sd**2
    found = []
    for part, shift, share, prior_variance in zip(parts, moved, shares, before, strict=True):
        left = float(share.sum())
        law_mean, prior_mean = float(part[_IS_LAW].sum()), float(part[~_IS_LAW].sum())
        found.append(
            Quality(
                mean=law_mean + prior_mean + float(shift),
                sd=math.sqrt(max(left, 0.0) + residual),
                law_mean=law_mean,
                prior_mean=prior_mean,
                proxy_mean=float(shift),
                law_variance=float(share[_IS_LAW].sum()),
                prior_variance=float(share[~_IS_LAW].sum()),
                residual_variance=residual,
                removed_variance=float(prior_variance) - left,
            )
        )
    return tuple(found)


def difference(model: QualityModel, one: Candidate, other: Candidate) -> QualityDifference:
    """Log loss of `one` less that of `other`; exactly nothing where they are equal."""
    if one == other:
        return QualityDifference(mean=0.0, sd=0.0)
    row = feature_row(one, model.training, model.aspect)
    row = row - feature_row(other, model.training, model.aspect)
    variance = float(row @ model.posterior.covariance @ row)
    return QualityDifference(
        mean=float(row @ model.posterior.mean),
        sd=math.sqrt(max(variance, 0.0) + 2 * model.residual_sd**2),
    )


def _spread(joint: LawFit, suites: Sequence[LawFit], field: str) -> float:
    """Standard error of a coefficient, or how far the separate fits lie from the joint one."""
    middle = float(getattr(joint.aspect, field))
    squares = [(float(getattr(fit.aspect, field)) - middle) ** 2 for fit in suites]
    apart = math.sqrt(sum(squares) / len(squares))
    return max(float(getattr(joint.aspect_standard_error, field)), apart)
