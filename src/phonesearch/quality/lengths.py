"""How trainings of one length rank those of a longer one, over the tables of studies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from phonesearch.quality.study_table import StudyRow

_FEWEST: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPair:
    """How trainings of one length rank those of a longer one, of the same architectures."""

    tokens: int
    longer_tokens: int
    num_architectures: int
    overall: float
    one_depth: float


def across_lengths(rows: Sequence[StudyRow]) -> tuple[LengthPair, ...]:
    """Every pair of lengths in the rows, of one study or of several; learning rates came down.

    Losses of several seeds are averaged. Pairs of fewer than four architectures are left out.
    """
    found: dict[int, dict[str, list[float]]] = {}
    neutral = {row.name for row in rows if row.is_neutral}
    for row in rows:
        of_length = found.setdefault(row.tokens, {})
        of_length.setdefault(row.name, []).append(math.log(row.bits_per_byte))
    pairs = []
    for tokens, longer in itertools.combinations(sorted(found), 2):
        names = sorted(found[tokens].keys() & found[longer].keys())
        if len(names) < _FEWEST:
            continue
        one, other = (
            np.array([np.mean(found[length][name]) for name in names])
            for length in (tokens, longer)
        )
        alike = np.array([name in neutral for name in names])
        pairs.append(
            LengthPair(
                tokens=tokens,
                longer_tokens=longer,
                num_architectures=len(names),
                overall=float(stats.spearmanr(one, other).statistic),
                one_depth=float(stats.spearmanr(one[alike], other[alike]).statistic),
            )
        )
    return tuple(pairs)
