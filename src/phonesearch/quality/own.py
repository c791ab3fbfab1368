"""What a short training of an architecture says of that architecture itself.

A regression on features takes what is particular to an architecture for noise. Where the
architecture that is judged was trained itself, that part is known a little: it is one more
coefficient, for this architecture alone, with the residual's deviation as its prior. How much of a
loss is particular to the architecture and how much is luck of the training follows from the two
deviations; the mean is drawn towards what the features say.

Source: best linear unbiased prediction with random effects, as in Robinson, Statistical Science
6(1), 1991, section 2; here with priors on the other coefficients too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phonesearch.quality.law import Array
from phonesearch.quality.model import Coefficients
from phonesearch.quality.update import Observations, update


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnBeliefs:
    """Of the coefficients of all features, then of one residual for each architecture trained."""

    coefficients: Coefficients
    architectures: tuple[str, ...]

    def rows(self, features: Array, architectures: Sequence[str | None], *, share: float) -> Array:
        """Features with those of the residuals, (n, terms + architectures).

        Args:
            features: Of the trainings that are asked for, (n, terms).
            architectures: Which was trained for each; None if none was.
            share: Correlation of the residual there with that in the short training.
        """
        own = np.zeros((len(features), len(self.architectures)))
        for place, name in enumerate(architectures):
            if name is not None:
                own[place, self.architectures.index(name)] = share
        return np.hstack([features, own])


def own_beliefs(
    prior: Coefficients, observations: Observations, *, residual_sd: float
) -> OwnBeliefs:
    """What is believed after the trainings, residuals included.

    Args:
        prior: Of the features' coefficients.
        observations: Trainings, with the residual in their noise, as `observation_noise` makes it.
        residual_sd: Deviation that it was put in with.
    """
    names = tuple(dict.fromkeys(observations.architectures))
    held = np.array(observations.architectures)
    own = (held[:, None] == np.array(names)[None, :]).astype(np.float64)
    known = len(prior.mean)
    covariance = np.zeros((known + len(names), known + len(names)))
    covariance[:known, :known] = prior.covariance
    covariance[known:, known:] = residual_sd**2 * np.eye(len(names))
    before = Coefficients(
        mean=np.concatenate([prior.mean, np.zeros(len(names))]), covariance=covariance
    )
    apart = replace(
        observations,
        rows=np.hstack([observations.rows, own]),
        noise=observations.noise - residual_sd**2 * (own @ own.T),
    )
    return OwnBeliefs(coefficients=update(before, apart), architectures=names)
