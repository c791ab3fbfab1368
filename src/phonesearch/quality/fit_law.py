"""Fits the law of `quality/law.py` to suites of trained shapes, with standard errors.

Weighted least squares of log loss. Suites fitted together share k and mu and have a base term
each; every suite counts by the inverse variance of its own residuals when fitted alone, as they
differ in what their losses scatter by.

Standard errors: sandwich, by shape. Points of one shape share its luck (and for checkpoints its
very training), so the residuals of a shape are summed before they are squared: with J the
weighted Jacobian, r the weighted residuals, C = (J'J)^-1 [sum over shapes of J_s' r_s r_s' J_s]
(J'J)^-1, times G / (G - p) for G shapes and p coefficients. Resampling shapes was left out: some
samples hold too few sizes for the base term to have an optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from scipy import optimize

from phonesearch.errors import QualityError
from phonesearch.quality.law import (
    Array,
    AspectLaw,
    BaseLaw,
    log_base_losses,
    penalties,
)
from phonesearch.quality.suites import Suite

_START_BASE: Final = (2.0, 1.0, 0.5, 0.3, 0.4)
"""E, A, B, alpha, beta."""
_START_ASPECT: Final = (0.007, 3.8, 0.3, -0.25)
_START_IRREDUCIBLE: Final = (2.0, 2.8, 1.2)
"""Fits are begun from each; the best is kept, the first of equals."""
_NUM_BASE: Final = 5
_TOLERANCE: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedBase:
    """Base term of one suite, with its standard errors in the same fields."""

    suite: str
    law: BaseLaw
    standard_error: BaseLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A law fitted to one suite or several."""

    aspect: AspectLaw
    aspect_standard_error: AspectLaw
    bases: tuple[FittedBase, ...]
    """One a suite, in order."""
    num_points: int
    num_shapes: int
    rms_log_error: float
    """Weighted root mean square of the residuals of log loss, over all points."""

    def base(self, suite: str) -> BaseLaw:
        """The base term of the suite of that name."""
        return next(base.law for base in self.bases if base.suite == suite)


def fit_law(*suites: Suite) -> LawFit:
    """Fit the law to one suite, or to several that share the aspect term.

    Deterministic: the same tables give the same coefficients, to about six digits on any machine.

    Raises:
        QualityError: If a fit does not converge.
    """
    if len(suites) == 1:
        return _described(suites, *_solve(suites, [1.0]))
    scales = []
    for suite in suites:
        _, residuals, _ = _solve([suite], [1.0])
        free = len(residuals) - _NUM_BASE - len(fields(AspectLaw))
        scales.append(1 / float(np.sqrt(np.sum(residuals**2) / free)))
    return _described(suites, *_solve(suites, scales))


def _solve(suites: Sequence[Suite], scales: Sequence[float]) -> tuple[Array, Array, Array]:
    """Best coefficients (logs of E, A, B), weighted residuals there, and their Jacobian."""

    def residuals(point: Array) -> Array:
        aspect = _aspect(point)
        parts = []
        for index, (suite, scale) in enumerate(zip(suites, scales, strict=True)):
            expected = log_base_losses(_base(point, index), suite.parameters, suite.tokens)
            expected = expected + penalties(
                aspect, suite.parameters, suite.tokens, suite.log_aspect
            )
            parts.append((expected - suite.log_loss) * np.sqrt(suite.weights) * scale)
        return np.concatenate(parts)

    best: Any = None
    for irreducible in _START_IRREDUCIBLE:
        base = [*np.log([irreducible, *_START_BASE[1:3]]), *_START_BASE[3:]]
        found = optimize.least_squares(
            residuals,
            np.array([*(base * len(suites)), *_START_ASPECT]),
            jac="3-point",
            x_scale="jac",
            ftol=_TOLERANCE,
            xtol=_TOLERANCE,
            gtol=_TOLERANCE,
            max_nfev=5000,
        )
        if found.success and (best is None or found.cost < best.cost * (1 - 1e-6)):
            best = found
    if best is None:
        names = " and ".join(suite.name for suite in suites)
        raise QualityError(f"The law does not converge on {names}. Use the whole table.")
    return best.x, best.fun, best.jac


def _base(point: Array, index: int) -> BaseLaw:
    start = index * _NUM_BASE
    log_e, log_a, log_b, alpha, beta = (float(v) for v in point[start : start + _NUM_BASE])
    with np.errstate(over="ignore"):
        return BaseLaw(
            irreducible=float(np.exp(log_e)),
            parameters_scale=float(np.exp(log_a)),
            parameters_exponent=alpha,
            tokens_scale=float(np.exp(log_b)),
            tokens_exponent=beta,
        )


def _aspect(point: Array) -> AspectLaw:
    k, m0, m1, m2 = (float(value) for value in point[-4:])
    return AspectLaw(curvature=k, optimum=m0, per_log_parameters=m1, per_log_horizon=m2)


def _described(suites: Sequence[Suite], point: Array, residuals: Array, jacobian: Array) -> LawFit:
    shapes = [f"{suite.name} {shape}" for suite in suites for shape in suite.shapes]
    errors = np.sqrt(np.diag(sandwich(jacobian, residuals, shapes)))
    bases = []
    for index, suite in enumerate(suites):
        law = _base(point, index)
        own = errors[index * _NUM_BASE : (index + 1) * _NUM_BASE]
        spread = BaseLaw(
            irreducible=float(own[0]) * law.irreducible,
            parameters_scale=float(own[1]) * law.parameters_scale,
            parameters_exponent=float(own[3]),
            tokens_scale=float(own[2]) * law.tokens_scale,
            tokens_exponent=float(own[4]),
        )
        bases.append(FittedBase(suite=suite.name, law=law, standard_error=spread))
    aspect = _aspect(point)
    return LawFit(
        aspect=aspect,
        aspect_standard_error=_aspect(errors),
        bases=tuple(bases),
        num_points=len(residuals),
        num_shapes=len(set(shapes)),
        rms_log_error=_rms(aspect, [base.law for base in bases], suites),
    )


def _rms(aspect: AspectLaw, bases: Sequence[BaseLaw], suites: Sequence[Suite]) -> float:
    squares, weights = 0.0, 0.0
    for base, suite in zip(bases, suites, strict=True):
        expected = log_base_losses(base, suite.parameters, suite.tokens)
        expected = expected + penalties(aspect, suite.parameters, suite.tokens, suite.log_aspect)
        squares += float(np.sum(suite.weights * (expected - suite.log_loss) ** 2))
        weights += float(np.sum(suite.weights))
    return float(np.sqrt(squares / weights))


def sandwich(jacobian: Array, residuals: Array, shapes: Sequence[str]) -> Array:
    """Covariance of least-squares coefficients whose residuals hang together within a shape.

    Args:
        jacobian: Of the weighted residuals, (points, coefficients).
        residuals: Weighted, (points,).
        shapes: Which shape each point is of.
    """
    names = sorted(set(shapes))
    count, wanted = len(names), jacobian.shape[1]
    if count <= wanted:
        raise QualityError(
            f"Standard errors need more shapes than coefficients, got {count} and {wanted}."
        )
    index = np.array([names.index(shape) for shape in shapes])
    scores = np.zeros((count, wanted))
    np.add.at(scores, index, jacobian * residuals[:, None])
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    return np.asarray(bread @ (scores.T @ scores) @ bread * count / (count - wanted))
