"""Which architectures to train so that the coefficients become as certain as they can."""

from __future__ import annotations

from typing import Final

import numpy as np

from phonesearch.errors import QualityError
from phonesearch.quality.law import Array

_FLAT_PRECISION: Final = 1e-6
"""Of the common intercept: a deviation of 1000 in log loss."""
_MAX_ROUNDS: Final = 100
_GAIN: Final = 1e-9
_STARTS: Final = 12


def choose_anchors(
    rows: Array, count: int, prior_covariance: Array, *, noise_sd: float
) -> tuple[int, ...]:
    """Indices of the `count` rows that tell most, in ascending order (D-optimal).

    Maximises the log determinant of the posterior precision of the coefficients, of a common
    intercept too. Chosen one by one first, then each is exchanged for any other row as long as
    one gains. Deterministic: the earlier of equal rows is taken. A local optimum, in small cases
    the global one.

    Args:
        rows: Features of what could be trained, (candidates, terms).
        count: How many to train; at most as many as there are rows.
        prior_covariance: Of the coefficients, (terms, terms).
        noise_sd: Of one training's log loss, independent of others.

    Raises:
        QualityError: If there are fewer rows than wanted.
    """
    if not 1 <= count <= len(rows):
        raise QualityError(
            f"Cannot choose {count} anchors among {len(rows)} architectures; ask for 1 to "
            f"{len(rows)}."
        )
    if not noise_sd > 0:
        raise QualityError(f"`noise_sd` must be above 0, got {noise_sd}.")
    scaled = np.hstack([np.ones((len(rows), 1)), rows]) / noise_sd
    terms = scaled.shape[1]
    precision = np.zeros((terms, terms))
    precision[0, 0] = _FLAT_PRECISION
    precision[1:, 1:] = np.linalg.inv(prior_covariance)
    most, _ = _most_telling(scaled, precision, [])
    spread = np.linspace(0, len(rows) - 1, min(_STARTS, len(rows))).round().astype(int)
    best: tuple[int, ...] = ()
    best_worth = -np.inf
    for first in dict.fromkeys((most, *spread.tolist())):
        chosen, worth = _exchanged(scaled, precision, first, count)
        if worth > best_worth + _GAIN:
            best, best_worth = chosen, worth
    return best


def _exchanged(
    scaled: Array, precision: Array, first: int, count: int
) -> tuple[tuple[int, ...], float]:
    """The set that exchanges from one first row end in, and its log determinant."""
    chosen = [first]
    precision = precision + np.outer(scaled[first], scaled[first])
    while len(chosen) < count:
        best, _ = _most_telling(scaled, precision, chosen)
        chosen.append(best)
        precision = precision + np.outer(scaled[best], scaled[best])
    for _ in range(_MAX_ROUNDS):
        exchanged = False
        for place, index in enumerate(chosen):
            others = [other for other in chosen if other != index]
            without = precision - np.outer(scaled[index], scaled[index])
            best, gains = _most_telling(scaled, without, others)
            if gains[best] > gains[index] + _GAIN * max(1.0, gains[index]):
                chosen[place] = best
                precision = without + np.outer(scaled[best], scaled[best])
                exchanged = True
        if not exchanged:
            break
    return tuple(sorted(chosen)), float(np.linalg.slogdet(precision)[1])


def log_information(rows: Array, prior_covariance: Array, *, noise_sd: float) -> float:
    """What `choose_anchors` maximises, for a set of rows."""
    scaled = np.hstack([np.ones((len(rows), 1)), rows]) / noise_sd
    precision = scaled.T @ scaled
    precision[0, 0] += _FLAT_PRECISION
    precision[1:, 1:] += np.linalg.inv(prior_covariance)
    return float(np.linalg.slogdet(precision)[1])


def _most_telling(scaled: Array, precision: Array, taken: list[int]) -> tuple[int, Array]:
    """The row with the greatest x' precision^-1 x that is not taken, and that of all rows."""
    gains = np.einsum("ij,jk,ik->i", scaled, np.linalg.inv(precision), scaled)
    allowed = gains.copy()
    allowed[taken] = -np.inf
    return int(np.argmax(allowed)), gains
