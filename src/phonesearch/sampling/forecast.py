"""What a training will end at, from where it stands and from trainings that ended.

All trainings see the same batches, so where two curves stand after the same tokens says how they
will end, the better the later: on the exhaustive table (docs/search.md), whose losses deviate by
2.8 %, the curve alone tells the end to 2.3 % after a tenth of the tokens, to 1.6 % after four
tenths and to 0.95 % after seven (`benchmarks/replay_early_stopping.py`). The shape says something
too, and what it says is learnt from the same trainings; the two together are what lets hopeless
ones go early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.sampling.surrogate import Evaluations, Surrogate

Array = NDArray[np.float64]

_FOLDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Trainings that ended."""

    features: Array
    """Of their shapes, (trainings, features); any scale."""
    standing: Array
    """Loss of each after as many tokens as the one that is asked for has seen, (trainings,)."""
    final: Array
    """Loss of each at its end, (trainings,); at least ten."""

    def only(self, which: NDArray[np.int64]) -> Trained:
        """Some of them."""
        return Trained(
            features=self.features[which],
            standing=self.standing[which],
            final=self.final[which],
        )


def forecast(trained: Trained, *, features: Array, standing: float) -> tuple[float, float]:
    """Mean and standard deviation of the final loss of one training, its noise included.

    The deviation is that of a model fitted to few trainings, which thinks too well of itself; see
    `overconfidence`.

    Args:
        trained: Those that ended.
        features: Of the shape that is being trained, (features,).
        standing: Its loss now.
    """
    every = np.concatenate([trained.features, features[None]])
    low, span = every.min(axis=0), np.ptp(every, axis=0)
    encoded = (every[:, span > 0] - low[span > 0]) / span[span > 0]
    spread = float(trained.standing.std()) or 1.0
    stands = (np.append(trained.standing, standing) - trained.standing.mean()) / (2 * spread)
    trend = np.concatenate([2 * encoded - 1, stands[:, None]], axis=1)
    surrogate = Surrogate()
    surrogate.fit(
        Evaluations(
            encoded=encoded[:-1],
            trend=trend[:-1],
            values=trained.final,
            extra_variance=np.zeros(len(trained.final)),
        )
    )
    mean, sd = surrogate.predict(encoded[-1:], trend[-1:])
    return float(mean[0]), math.hypot(float(sd[0]), surrogate.noise_sd)


def overconfidence(trained: Trained) -> float:
    """Factor by which the deviations of `forecast` are too small, at least 1.

    From trainings that ended, each forecast from some of the others: the root mean square of error
    over deviation. As these others are fewer, it errs on the side of caution.
    """
    count = len(trained.final)
    order = np.random.default_rng(0).permutation(count)
    off = []
    for fold in range(_FOLDS):
        left_out, rest = order[fold::_FOLDS], np.delete(order, np.s_[fold::_FOLDS])
        for one in left_out:
            mean, sd = forecast(
                trained.only(rest),
                features=trained.features[one],
                standing=float(trained.standing[one]),
            )
            off.append((float(trained.final[one]) - mean) / sd)
    return max(1.0, math.sqrt(float(np.mean(np.square(off)))))
