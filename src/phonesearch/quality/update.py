"""Moves the quality model by losses of short trainings: conjugate, in closed form.

    y = X b + (intercept of the recipe) + noise,   b ~ N(prior),   noise ~ N(0, V)

Intercepts have flat priors, as a recipe's level of loss on its corpus says nothing of an
architecture. With P = V^-1 - V^-1 G (G' V^-1 G)^-1 G' V^-1, which takes them out (G: one column
a recipe), the posterior has the precision S^-1 + X' P X.

Source: the usual Gaussian linear model, as in Bishop, Pattern Recognition, 3.3, and for the flat
intercepts the restricted likelihood of Patterson and Thompson, Biometrika 58, 1971.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from phonesearch.errors import QualityError
from phonesearch.quality.law import Array
from phonesearch.quality.model import Coefficients, QualityModel
from phonesearch.quality.terms import LENGTH_SCALE, PRIOR_TERMS, TERM_NAMES, TRANSFER_SCALE

ASSUMED_TRANSFER_SDS: Final[Array] = np.array(
    [PRIOR_TERMS[name].transfer_sd if name in PRIOR_TERMS else 0.0 for name in TERM_NAMES]
)
"""Of each coefficient, `Term.transfer_sd`; 0 for those of the law."""
LENGTH_TRANSFER_SDS: Final[Array] = LENGTH_SCALE * ASSUMED_TRANSFER_SDS
"""How far an effect may move from a short to a long training of one small model."""
SIZE_TRANSFER_SDS: Final[Array] = TRANSFER_SCALE * ASSUMED_TRANSFER_SDS
"""The same from the long training of a small model to the planned one."""
TRANSFER_SDS: Final[Array] = np.hypot(LENGTH_TRANSFER_SDS, SIZE_TRANSFER_SDS)
"""The same from the short training of a small model to the planned one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """Losses of short trainings, n of them."""

    rows: Array
    """Features of the architectures trained, (n, terms), of their own short training; further
    columns are residuals, see `quality.own`."""
    log_losses: Array
    """Natural log of nats a token (bits a byte differ by a constant), (n,)."""
    noise: Array
    """Covariance of what neither features nor intercept explain, (n, n); see
    `observation_noise`."""
    recipes: tuple[str, ...]
    """What was trained alike: recipe and corpus. Each has an intercept of its own."""
    architectures: tuple[str, ...]
    """Trainings of one architecture, as with two seeds, are left out together."""

    def __post_init__(self) -> None:
        count = len(self.log_losses)
        shapes = (self.rows.shape, self.noise.shape)
        fit = [len(rows) == count for rows in (self.rows, self.recipes, self.architectures)]
        fit += [self.noise.shape == (count, count), self.rows.shape[-1] >= len(TERM_NAMES)]
        if not all(fit):
            raise QualityError(
                f"Observations must have one row of {len(TERM_NAMES)} features, one loss, one "
                f"recipe and one architecture each, got rows and noise of {shapes} for {count} "
                "losses."
            )
        if not all(np.isfinite(part).all() for part in (self.rows, self.log_losses, self.noise)):
            raise QualityError(
                "A loss, feature or noise is not finite; leave trainings that failed out."
            )
        if count and np.linalg.eigvalsh(self.noise).min() <= 0:
            raise QualityError(
                "The noise of observations must be a covariance with positive eigenvalues; give "
                "each training a deviation above 0."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One training, predicted from all trainings of other architectures."""

    architecture: str
    error: float
    """Observed log loss less predicted."""
    sd: float
    """Of that error, as the model expects it."""


def observation_noise(
    rows: Array,
    architectures: Sequence[str],
    *,
    training_sd: float,
    residual_sd: float,
    transfer_sds: Array = TRANSFER_SDS,
) -> Array:
    """Covariance of the noise of short trainings, (n, n).

    Three parts: what a training scatters by, each its own; what is particular to an architecture,
    shared by its trainings; and, for each coefficient, that its effect in a short training is
    not that in the planned one (`TRANSFER_SDS`), shared by all that have the feature. The
    last keeps a hundred anchors from making a coefficient more certain than a short training can.

    Args:
        rows: Features of the architectures, (n, terms).
        architectures: Which architecture each training is of.
        training_sd: Of log loss between seeds, evaluation noise included.
        residual_sd: Of log loss between architectures that the features cannot tell apart.
        transfer_sds: Of each coefficient, (terms,).
    """
    if not training_sd > 0:
        raise QualityError(f"`training_sd` must be above 0, got {training_sd}.")
    names = np.array(architectures)
    same = (names[:, None] == names[None, :]).astype(np.float64)
    moved = rows * transfer_sds
    return np.asarray(training_sd**2 * np.eye(len(names)) + residual_sd**2 * same + moved @ moved.T)


def update(prior: Coefficients, observations: Observations) -> Coefficients:
    """What is believed after the observations; the prior itself if there are none."""
    if not len(observations.log_losses):
        return prior
    rows = observations.rows
    weight = _without_intercepts(observations.noise, observations.recipes)
    precision = np.linalg.inv(prior.covariance)
    covariance = np.linalg.inv(precision + rows.T @ weight @ rows)
    covariance = (covariance + covariance.T) / 2
    seen = rows.T @ weight @ observations.log_losses
    return Coefficients(
        mean=np.asarray(covariance @ (precision @ prior.mean + seen)), covariance=covariance
    )


def updated(model: QualityModel, observations: Observations) -> QualityModel:
    """The model with its posterior moved from its prior by all the observations."""
    return replace(model, posterior=update(model.prior, observations))


def leave_one_out(prior: Coefficients, observations: Observations) -> tuple[LeftOut, ...]:
    """Every training, predicted without any of its architecture, in closed form.

    With Q the inverse covariance of the losses under the prior, intercepts taken out, and r the
    losses less their prior mean, the errors of a left-out block are (Q_bb)^-1 (Q r)_b with the
    covariance (Q_bb)^-1. Trainings whose recipe has no other architecture are not in the result:
    nothing says where their intercept is.
    """
    if not len(observations.log_losses):
        return ()
    rows = observations.rows
    whole = rows @ prior.covariance @ rows.T + observations.noise
    weight = _without_intercepts(whole, observations.recipes)
    pulled = weight @ (observations.log_losses - rows @ prior.mean)
    names = np.array(observations.architectures)
    recipes = np.array(observations.recipes)
    found = []
    for name in dict.fromkeys(observations.architectures):
        own = np.flatnonzero(names == name)
        others = set(recipes[names != name])
        if not set(recipes[own]) <= others:
            continue
        covariance = np.linalg.inv(weight[np.ix_(own, own)])
        errors = covariance @ pulled[own]
        found += [
            LeftOut(
                architecture=str(name),
                error=float(error),
                sd=math.sqrt(float(variance)),
            )
            for error, variance in zip(errors, np.diag(covariance), strict=True)
        ]
    return tuple(found)


def _without_intercepts(covariance: Array, recipes: Sequence[str]) -> Array:
    """Inverse covariance with a free intercept of each recipe taken out; singular."""
    kinds = list(dict.fromkeys(recipes))
    groups = np.array([[float(recipe == kind) for kind in kinds] for recipe in recipes])
    inverse = np.linalg.inv(covariance)
    seen = inverse @ groups
    out = inverse - seen @ np.linalg.inv(groups.T @ seen) @ seen.T
    return np.asarray((out + out.T) / 2)
