"""How far effects in small and in short trainings are from those they stand for, from a study.

Both are found by restricted likelihood, with the level of every seed taken out, as in
`quality.update`: a seed is an order of the same text, and may have a level that all share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from phonesearch.candidate.config import candidate_id
from phonesearch.quality.features import Training, feature_rows
from phonesearch.quality.law import Array
from phonesearch.quality.model import prior_model
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.study_table import StudyRow
from phonesearch.quality.update import ASSUMED_TRANSFER_SDS, observation_noise

_SCALES: Final = np.arange(0, 20.5, 0.5)


def likeliest_transfer_scale(rows: Sequence[StudyRow]) -> float:
    """How many times `Term.transfer_sd` the effects in small models are off the priors.

    The value, to a half, under which the losses of the long trainings are likeliest.
    """
    longest = max(row.longer for row in rows)
    long = [row for row in rows if row.longer == longest]
    training = _training(long)
    model = prior_model(shipped_law(), training)
    candidates = [row.proxy for row in long]
    features = feature_rows(candidates, training, model.aspect)
    noise = observation_noise(
        features,
        tuple(candidate_id(one) for one in candidates),
        training_sd=_training_sd(long),
        residual_sd=model.residual_sd,
        transfer_sds=np.zeros_like(ASSUMED_TRANSFER_SDS),
    )
    return _likeliest_scale(
        np.log([row.bits_per_byte for row in long]) - features @ model.prior.mean,
        features,
        features @ model.prior.covariance @ features.T + noise,
        [row.seed for row in long],
    )


def likeliest_length_scale(rows: Sequence[StudyRow]) -> float:
    """How many times `Term.transfer_sd` effects in short trainings are off those in long ones.

    The value, to a half, under which the differences between the long and the short training of
    each architecture and seed are likeliest, of those whose short one is past the guard. What is
    particular to an architecture is in both.
    """
    longest = max(row.longer for row in rows)
    short = {(row.name, row.seed): row for row in rows if row.longer == 1 and row.passed_transition}
    pairs = [
        (short[row.name, row.seed], row)
        for row in rows
        if row.longer == longest and (row.name, row.seed) in short
    ]
    first, last = [one for one, _ in pairs], [other for _, other in pairs]
    aspect = prior_model(shipped_law(), _training(last)).aspect
    before, after = (
        feature_rows([row.proxy for row in side], _training(side), aspect) for side in (first, last)
    )
    model = prior_model(shipped_law(), _training(last))
    moved = after - before
    losses = np.log([row.bits_per_byte for row in last])
    losses = losses - np.log([row.bits_per_byte for row in first]) - moved @ model.prior.mean
    noise = (_training_sd(first) ** 2 + _training_sd(last) ** 2) * np.eye(len(pairs))
    seeds = [row.seed for row in last]
    return _likeliest_scale(losses, after, moved @ model.prior.covariance @ moved.T + noise, seeds)


def _likeliest_scale(losses: Array, features: Array, certain: Array, seeds: Sequence[int]) -> float:
    """The scale of `ASSUMED_TRANSFER_SDS` that makes the losses likeliest, levels taken out.

    Args:
        losses: Less what is expected of them, (n,).
        features: What effects are of, (n, terms).
        certain: Covariance without them, (n, n).
        seeds: What a level is of, n.
    """
    levels = np.array([[one == seed for seed in sorted(set(seeds))] for one in seeds], dtype=float)

    def log_likelihood(scale: float) -> float:
        effects = features * (scale * ASSUMED_TRANSFER_SDS)
        covariance = certain + effects @ effects.T
        inverse = np.linalg.inv(covariance)
        of_levels = levels.T @ inverse @ levels
        off = losses - levels @ np.linalg.solve(of_levels, levels.T @ inverse @ losses)
        determinants = sum(
            float(np.linalg.slogdet(matrix).logabsdet) for matrix in (covariance, of_levels)
        )
        return -0.5 * (float(off @ inverse @ off) + determinants)

    return float(max(_SCALES, key=log_likelihood))


def _training(rows: Sequence[StudyRow]) -> Training:
    size = float(np.median([row.parameters for row in rows]))
    return Training(
        reference_parameters=size, tokens_per_parameter=rows[0].tokens / size, is_short=True
    )


def _training_sd(rows: Sequence[StudyRow]) -> float:
    """Of log loss, between seeds."""
    return float(np.median([row.standard_error / row.bits_per_byte for row in rows]))
