"""How well the law says what short training cannot: the suites against each other.

Compared are size-corrected losses: log loss less its quadratic fit in log N over the shapes of
one checkpoint. What is left is what the shape does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from phonesearch.errors import QualityError
from phonesearch.quality.law import Array, AspectLaw, BaseLaw, log_base_losses, penalties
from phonesearch.quality.suites import Suite

ALIKE: Final = 1.2
"""Ratio of parameters up to which two shapes make a pair."""
_FEWEST: Final = 3
_SIZES: Final = (("50M", 40e6, 60e6), ("100M", 90e6, 120e6), ("0.5B", 4e8, 6e8))
_LARGER_SIZES: Final = (("1B", 9e8, 1.2e9), ("2B", 1.8e9, 2.2e9))
GEMSTONES_SIZES: Final = _SIZES + _LARGER_SIZES
"""Name, fewest and most parameters; 66.8M stands alone and is in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRun:
    """What a checkpoint says of the last one's size-corrected losses, by three scores."""

    tokens: float
    pairs_right: float
    """Share of pairs of like size that the checkpoint's own losses put in order."""
    pairs_right_shifted: float
    """The same with the law's change of penalty from the checkpoint to the end added."""
    spearman: float
    """Over all shapes, of size-corrected losses."""
    kendall: float
    spearman_shifted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRanks:
    """What a law fitted elsewhere says of the losses at the end of a suite's training."""

    by_size: tuple[tuple[str, float], ...]
    """Name of a size, and Spearman of the whole law with the losses of its shapes."""
    spearman: float
    """Of size-corrected penalties with size-corrected losses, over all shapes."""
    pairs: int
    pairs_right: float
    """Share of pairs of like size that the penalty alone puts in order."""
    scatter: float
    """Standard deviation of the size-corrected log losses about the penalty."""
    scatter_without_law: float
    """The same about nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRanks:
    """What an aspect law fitted elsewhere says within groups of one size and training."""

    groups: int
    shapes: int
    """Over all groups."""
    mean_spearman: float


def final_ranks(suite: Suite, base: BaseLaw, aspect: AspectLaw) -> FinalRanks:
    """Hold a law against the last checkpoint of a suite that it was not fitted on.

    Args:
        suite: Of shapes with the same checkpoints, as Gemstones.
        base: Base term of the law, of another suite.
        aspect: Aspect term of the same law.
    """
    last = _checkpoint(suite, max(suite.tokens))
    penalty = penalties(aspect, last.parameters, last.tokens, last.log_aspect)
    whole = penalty + log_base_losses(base, last.parameters, last.tokens)
    truth = size_corrected(last.log_loss, last.parameters)
    said = size_corrected(penalty, last.parameters)
    pairs = _pairs(last.parameters)
    by_size = []
    for name, fewest, most in GEMSTONES_SIZES:
        own = (last.parameters >= fewest) & (last.parameters <= most)
        if own.sum() > 1:
            by_size.append((name, _spearman(whole[own], last.log_loss[own])))
    # Three degrees of freedom went into the quadratic.
    spread = math.sqrt(len(truth) / (len(truth) - 3))
    return FinalRanks(
        by_size=tuple(by_size),
        spearman=_spearman(said, truth),
        pairs=len(pairs),
        pairs_right=_right(said, truth, pairs),
        scatter=float(np.sqrt(np.mean((truth - said) ** 2))) * spread,
        scatter_without_law=float(np.sqrt(np.mean(truth**2))) * spread,
    )


def short_runs(suite: Suite, aspect: AspectLaw) -> tuple[ShortRun, ...]:
    """Every checkpoint but the last, as a prediction of the last, with and without the law.

    Shifted is log loss at t plus [penalty at the end - penalty at t]: the bias of short training
    that the law expects is taken off before shapes are compared.
    """
    ends = max(suite.tokens)
    last = _checkpoint(suite, ends)
    truth = size_corrected(last.log_loss, last.parameters)
    pairs = _pairs(last.parameters)
    at_end = penalties(aspect, last.parameters, last.tokens, last.log_aspect)
    found = []
    for tokens in sorted(set(suite.tokens.tolist()) - {ends}):
        early = _checkpoint(suite, tokens)
        if early.shapes != last.shapes:
            raise QualityError(
                f"The checkpoints of {suite.name} at {tokens / 1e9:g}B and {ends / 1e9:g}B tokens "
                "must be of the same shapes in the same order."
            )
        then = penalties(aspect, early.parameters, early.tokens, early.log_aspect)
        plain = size_corrected(early.log_loss, early.parameters)
        shifted = size_corrected(early.log_loss + at_end - then, early.parameters)
        found.append(
            ShortRun(
                tokens=tokens,
                pairs_right=_right(plain, truth, pairs),
                pairs_right_shifted=_right(shifted, truth, pairs),
                spearman=_spearman(plain, truth),
                kendall=float(stats.kendalltau(plain, truth).statistic),
                spearman_shifted=_spearman(shifted, truth),
            )
        )
    return tuple(found)


def group_ranks(suite: Suite, aspect: AspectLaw) -> GroupRanks:
    """Hold an aspect law against a suite within its groups of at least three shapes."""
    penalty = penalties(aspect, suite.parameters, suite.tokens, suite.log_aspect)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(suite.groups):
        members.setdefault(group, []).append(index)
    enough = [own for own in members.values() if len(own) >= _FEWEST]
    if not enough:
        raise QualityError(f"No group of {suite.name} has {_FEWEST} shapes to rank.")
    ranks = [_spearman(penalty[own], suite.log_loss[own]) for own in enough]
    return GroupRanks(
        groups=len(enough),
        shapes=sum(len(own) for own in enough),
        mean_spearman=float(np.mean(ranks)),
    )


def size_corrected(values: Array, parameters: Array) -> Array:
    """`values` less their least-squares quadratic in log parameters."""
    size = np.log(parameters / 1e9)
    design = np.stack([np.ones_like(size), size, size**2], axis=1)
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    return np.asarray(values - design @ solution)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Checkpoint:
    shapes: tuple[str, ...]
    parameters: Array
    tokens: Array
    log_aspect: Array
    log_loss: Array


def _checkpoint(suite: Suite, tokens: float) -> _Checkpoint:
    own = np.flatnonzero(suite.tokens == tokens)
    return _Checkpoint(
        shapes=tuple(suite.shapes[index] for index in own),
        parameters=suite.parameters[own],
        tokens=suite.tokens[own],
        log_aspect=suite.log_aspect[own],
        log_loss=suite.log_loss[own],
    )


def _pairs(parameters: Array) -> list[tuple[int, int]]:
    logs = np.log(parameters)
    return [
        (one, other)
        for one, other in itertools.combinations(range(len(logs)), 2)
        if abs(logs[one] - logs[other]) <= math.log(ALIKE)
    ]


def _right(score: Array, truth: Array, pairs: Sequence[tuple[int, int]]) -> float:
    right = [(score[i] - score[j]) * (truth[i] - truth[j]) > 0 for i, j in pairs]
    return float(np.mean(right))


def _spearman(one: Array, other: Array) -> float:
    return float(stats.spearmanr(one, other).statistic)
