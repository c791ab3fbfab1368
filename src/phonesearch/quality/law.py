"""The law of final loss in size, training and depth-to-width ratio.

    log loss = log(E + A (N / 1e8)^-alpha + B (D / 1e10)^-beta) + k (log(d / L) - mu)^2
    mu       = m0 + m1 log(N / 1e9) + m2 log((D / N) / 100)

with N parameters, D training tokens, d the width, L the layers, natural logarithms, loss in nats
a token. A penalty of 0.01 is one percent of loss.

Source: the first term is Hoffmann et al., arXiv 2203.15556, eq. 2. The second is this project's;
Bian et al., arXiv 2501.18107, have a power of d/L instead, whose best d/L is zero, while both
published suites have an optimum that drifts with size and length of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARAMETERS_UNIT: Final = 1e8
TOKENS_UNIT: Final = 1e10
ASPECT_PARAMETERS_UNIT: Final = 1e9
ASPECT_HORIZON_UNIT: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLaw:
    """Loss at the best depth-to-width ratio; a suite's own, as it counts size and text."""

    irreducible: float
    """E, nats a token."""
    parameters_scale: float
    """A, nats a token at 1e8 parameters."""
    parameters_exponent: float
    """alpha."""
    tokens_scale: float
    """B, nats a token at 1e10 tokens."""
    tokens_exponent: float
    """beta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectLaw:
    """What a depth-to-width ratio costs."""

    curvature: float
    """k, log loss for each squared unit of log(d/L)."""
    optimum: float
    """m0, best log(d/L) at 1e9 parameters and 100 tokens for each."""
    per_log_parameters: float
    """m1."""
    per_log_horizon: float
    """m2."""


def aspect_drivers(parameters: float, tokens: float) -> tuple[float, float, float]:
    """What m0, m1 and m2 are multiplied with: 1, log(N / 1e9), log((D / N) / 100)."""
    return (
        1.0,
        math.log(parameters / ASPECT_PARAMETERS_UNIT),
        math.log(tokens / parameters / ASPECT_HORIZON_UNIT),
    )


def log_best_aspect(law: AspectLaw, *, parameters: float, tokens: float) -> float:
    """mu: natural log of the best `hidden_size / num_hidden_layers`."""
    one, size, horizon = aspect_drivers(parameters, tokens)
    return law.optimum * one + law.per_log_parameters * size + law.per_log_horizon * horizon


def aspect_penalty(law: AspectLaw, log_aspect: float, *, parameters: float, tokens: float) -> float:
    """Log loss that a log(d/L) costs above the best one."""
    off = log_aspect - log_best_aspect(law, parameters=parameters, tokens=tokens)
    return law.curvature * off**2


def base_loss(law: BaseLaw, *, parameters: float, tokens: float) -> float:
    """Nats a token at the best depth-to-width ratio."""
    by_size = law.parameters_scale * (parameters / PARAMETERS_UNIT) ** -law.parameters_exponent
    by_tokens = law.tokens_scale * (tokens / TOKENS_UNIT) ** -law.tokens_exponent
    return float(law.irreducible + by_size + by_tokens)


def size_elasticity(law: BaseLaw, *, parameters: float, tokens: float) -> float:
    """d log loss / d log N at a given number of tokens; below zero."""
    part = law.parameters_scale * (parameters / PARAMETERS_UNIT) ** -law.parameters_exponent
    loss = base_loss(law, parameters=parameters, tokens=tokens)
    return float(-law.parameters_exponent * part / loss)


def penalties(law: AspectLaw, parameters: Array, tokens: Array, log_aspect: Array) -> Array:
    """`aspect_penalty` of many shapes; all of one length."""
    best = (
        law.optimum
        + law.per_log_parameters * np.log(parameters / ASPECT_PARAMETERS_UNIT)
        + law.per_log_horizon * np.log(tokens / parameters / ASPECT_HORIZON_UNIT)
    )
    return np.asarray(law.curvature * (log_aspect - best) ** 2)


def log_base_losses(law: BaseLaw, parameters: Array, tokens: Array) -> Array:
    """Log of `base_loss` of many sizes; both of one length."""
    return np.asarray(
        np.log(
            law.irreducible
            + law.parameters_scale * (parameters / PARAMETERS_UNIT) ** -law.parameters_exponent
            + law.tokens_scale * (tokens / TOKENS_UNIT) ** -law.tokens_exponent
        )
    )
