"""How many trained architectures a regression on shape needs, from LiteTransformerSearch's logs.

Ridge regression of log perplexity on eight log features of the shape (`suites.AnchorSet`),
fitted on some random architectures and held against the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.errors import QualityError
from phonesearch.quality.law import Array
from phonesearch.quality.suites import AnchorSet

ANCHOR_SETS: Final = (
    "lts/random_GPT2_lm1b",
    "lts/random_GPT2_wt103",
    "lts/random_TransXL_lm1b",
    "lts/random_TransXL_wt103_homogeneous",
)
ANCHOR_COUNTS: Final = (10, 20, 40)
SPLITS: Final = 20
_ALIKE_LOG: Final = 0.1
_PENALTIES: Final = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorScore:
    """What a regression on `anchors` architectures says of the others; means over splits."""

    dataset: str
    architectures: int
    anchors: int
    pairs_right: float
    """Share of pairs within 0.1 in log parameters, neither an anchor, put in order."""
    pairs_right_by_size: float
    """The same by parameters alone, more being better."""
    residual_sd: float
    """Of log perplexity, over the architectures that are not anchors."""


def anchor_scores(
    anchors: AnchorSet, counts: Sequence[int] = ANCHOR_COUNTS, *, splits: int = SPLITS
) -> tuple[AnchorScore, ...]:
    """Accuracy for each number of anchors, over splits drawn with the seeds 0, 1, ...

    The ridge penalty (on standardised features) is the one with the least leave-one-out error
    on the anchors themselves.
    """
    total = len(anchors.log_perplexity)
    if total <= max(counts) + 1:
        raise QualityError(
            f"Dataset {anchors.name!r} has {total} rows, too few for {max(counts)} anchors."
        )
    first, second = np.triu_indices(total, 1)
    size, truth = anchors.log_parameters, anchors.log_perplexity
    alike = np.abs(size[first] - size[second]) < _ALIKE_LOG
    first, second = first[alike], second[alike]
    worse = truth[first] - truth[second]
    by_size = (size[second] - size[first]) * worse > 0
    found = []
    for count in counts:
        right, right_by_size, spread = [], [], []
        for seed in range(splits):
            chosen = np.random.default_rng(seed).permutation(total)[:count]
            held_out = np.ones(total, dtype=bool)
            held_out[chosen] = False
            said = _ridge(anchors.features, truth, chosen)
            both = held_out[first] & held_out[second]
            right.append(np.mean(((said[first] - said[second]) * worse > 0)[both]))
            right_by_size.append(np.mean(by_size[both]))
            spread.append(np.std((truth - said)[held_out]))
        found.append(
            AnchorScore(
                dataset=anchors.name,
                architectures=total,
                anchors=count,
                pairs_right=float(np.mean(right)),
                pairs_right_by_size=float(np.mean(right_by_size)),
                residual_sd=float(np.mean(spread)),
            )
        )
    return tuple(found)


def _ridge(features: Array, truth: Array, chosen: NDArray[np.int64]) -> Array:
    """Predictions for all rows of a regression on the chosen ones."""
    middle, spread = features[chosen].mean(axis=0), features[chosen].std(axis=0)
    standard = (features - middle) / np.where(spread > 0, spread, 1.0)
    own, target = standard[chosen], truth[chosen]
    left, values, right = np.linalg.svd(own, full_matrices=False)
    best, best_error = None, np.inf
    for penalty in _PENALTIES:
        shrunk = values / (values**2 + penalty)
        hat = (left * (values * shrunk)) @ left.T + 1 / len(chosen)
        residuals = target - target.mean() - (left * (values * shrunk)) @ (left.T @ target)
        error = float(np.mean((residuals / (1 - np.diag(hat))) ** 2))
        if error < best_error:
            best, best_error = right.T @ (shrunk * (left.T @ target)), error
    return np.asarray(standard @ best + target.mean())
