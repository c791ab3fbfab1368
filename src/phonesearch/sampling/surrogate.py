"""What is believed of the costly objective, from the points where it was evaluated.

A straight trend over all features, by Bayesian regression, and a Gaussian process over the encoded
parameters for what the trend does not say. The trend starts from little, learns fast, and is what
carries a handful of evaluations to the rest of the space; an expected value that is given from
outside (published laws) is one more of its features, so that it is believed as far as the data bear
it out. The process is the one that Optuna carries (Matern 5/2, a length scale a column, noise).

Chosen by measurement (docs/search.md): on public tables it needed as many evaluations as BoTorch's
`SingleTaskGP` with a linear kernel added, at a fiftieth of the time of a choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from optuna._gp import gp, prior
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

_LEAST_NOISE: Final = 1e-6
"""Variance, of standardised residuals; below it matrices are not safely inverted."""
_TREND_ROUNDS: Final = 5
_INTERCEPT_SD: Final = 3.0
_MOST_FITTED: Final = 200
"""Evaluations from which length scales are fitted; more change them little, and cost the cube."""
_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """Points where the costly objective is known."""

    encoded: Array
    """Parameters, (evaluations, columns)."""
    trend: Array
    """Features of the trend, from about -1 to 1, (evaluations, features)."""
    values: Array
    """The costly objective, (evaluations,)."""
    extra_variance: Array
    """Of values that are known less well than the others, in their own unit, (evaluations,)."""


class Beliefs(Protocol):
    """What a sampler asks of a surrogate, so that another one can take the place of ours."""

    def fit(self, seen: Evaluations) -> None:
        """Take in all evaluations there are, at least two."""
        ...

    def take_as_seen(self, encoded: Array, trend: Array, values: Array) -> None:
        """Count further values as seen, without fitting anew."""
        ...

    def predict(self, encoded: Array, trend: Array) -> tuple[Array, Array]:
        """Mean of the costly objective without noise and its standard deviation, (points,) each."""
        ...


class Surrogate:
    """Beliefs that are fitted to evaluations, the same for the same ones.

    Args:
        noise_sd: Standard deviation of the costly objective between two evaluations of one point,
            where it is known; None has it estimated.
    """

    def __init__(self, *, noise_sd: float | None = None) -> None:
        self._noise_sd = noise_sd
        # Matrices this small only wait for threads, the more so beside trainings.
        self._threads = ThreadpoolController()
        self._process: gp.GPRegressor | None = None
        self._mean = self._sd = self._left_sd = 1.0
        self._weights: Array = np.zeros(0)
        self._covariance: Array = np.zeros((0, 0))

    def fit(self, seen: Evaluations) -> None:
        """Take in all evaluations there are, at least two."""
        with self._threads.limit(limits=1):
            self._fit(seen)

    def _fit(self, seen: Evaluations) -> None:
        self._mean = float(seen.values.mean())
        self._sd = float(seen.values.std()) or 1.0
        standard = (seen.values - self._mean) / self._sd
        extra = seen.extra_variance / self._sd**2
        self._fit_trend(seen.trend, standard, extra)
        left = standard - _with_intercept(seen.trend) @ self._weights
        self._left_sd = float(left.std()) or 1.0
        self._fit_process(seen.encoded, left / self._left_sd, extra / self._left_sd**2)

    def _fit_trend(self, trend: Array, standard: Array, extra: Array) -> None:
        rows = _with_intercept(trend)
        count, size = rows.shape
        variance = 0.1
        for _ in range(_TREND_ROUNDS):
            weighted = rows / (variance + extra)[:, None]
            precision = np.eye(size) + rows.T @ weighted
            self._covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
            self._weights = np.asarray(self._covariance @ (weighted.T @ standard), dtype=np.float64)
            left = standard - rows @ self._weights
            free = max(count - size / 2, 1.0)
            variance = max(float(left @ left) / free, 1e-3)

    def _fit_process(self, encoded: Array, left: Array, extra: Array) -> None:
        certain = np.argsort(extra, kind="stable")[:_MOST_FITTED]
        known = None
        if self._noise_sd is not None:
            known = max((self._noise_sd / (self._sd * self._left_sd)) ** 2, _LEAST_NOISE)
        self._process = gp.fit_kernel_params(
            X=encoded[certain],
            Y=left[certain],
            is_categorical=np.zeros(encoded.shape[1], dtype=bool),
            log_prior=prior.default_log_prior,
            minimum_noise=_LEAST_NOISE if known is None else known,
            deterministic_objective=False,
        )
        self._condition(encoded, left, extra)

    def take_as_seen(self, encoded: Array, trend: Array, values: Array) -> None:
        """Condition the process on further values; trend and length scales stay."""
        standard = (values - self._mean) / self._sd
        left = (standard - _with_intercept(trend) @ self._weights) / self._left_sd
        self._condition(
            np.concatenate([self._encoded, encoded]),
            np.concatenate([self._left, left]),
            np.concatenate([self._extra, np.zeros(len(left))]),
        )

    def _condition(self, encoded: Array, left: Array, extra: Array) -> None:
        """The posterior by the fitted scales, each evaluation with the noise of its own."""
        assert self._process is not None
        self._encoded, self._left, self._extra = encoded, left, extra
        self._seen = torch.from_numpy(encoded)
        with torch.no_grad():
            covariance = self._covariances(self._seen, self._seen)
            noise = float(self._process.noise_var) + torch.from_numpy(extra)
            self._factor = torch.linalg.cholesky(covariance + torch.diag(noise))
            self._solved = torch.cholesky_solve(torch.from_numpy(left)[:, None], self._factor)[:, 0]

    @property
    def noise_sd(self) -> float:
        """What an evaluation scatters by, and what is one point's alone; in the values' unit."""
        assert self._process is not None
        return math.sqrt(float(self._process.noise_var)) * self._left_sd * self._sd

    def _covariances(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """As `GPRegressor.kernel`, which holds all differences of all pairs at once."""
        assert self._process is not None
        scales = self._process.inverse_squared_lengthscales.sqrt()
        apart = torch.cdist(one * scales, other * scales).square()
        shape: torch.Tensor = gp.Matern52Kernel.apply(apart)  # type: ignore[no-untyped-call]
        return shape * self._process.kernel_scale

    def predict(self, encoded: Array, trend: Array) -> tuple[Array, Array]:
        """Mean of the costly objective without noise and its standard deviation, (points,) each."""
        assert self._process is not None
        rows = _with_intercept(trend)
        means, variances = [], []
        with torch.no_grad(), self._threads.limit(limits=1):
            for start in range(0, len(encoded), _AT_ONCE):
                part = torch.from_numpy(np.ascontiguousarray(encoded[start : start + _AT_ONCE]))
                across = self._covariances(part, self._seen)
                halves = torch.linalg.solve_triangular(self._factor, across.T, upper=False)
                means.append((across @ self._solved).numpy())
                left = float(self._process.kernel_scale) - halves.square().sum(dim=0)
                variances.append(left.clamp_min(0.0).numpy())
        of_trend = np.einsum("pi,ij,pj->p", rows, self._covariance, rows)
        variance = np.concatenate(variances) * self._left_sd**2 + of_trend
        mean = np.concatenate(means) * self._left_sd + rows @ self._weights
        return mean * self._sd + self._mean, np.sqrt(np.maximum(variance, 1e-12)) * self._sd


def _with_intercept(trend: Array) -> Array:
    return np.concatenate([np.full((len(trend), 1), _INTERCEPT_SD), trend], axis=1)
