"""Random candidates that a calibration is checked on."""

from __future__ import annotations

from typing import Final

import numpy as np

from phonesearch import catalog, files
from phonesearch.candidate.config import Candidate
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace

BUDGETS: Final = (25_000_000, 50_000_000, 100_000_000, 200_000_000)
"""Parameters, embeddings counted."""
_TOLERANCE: Final = 0.1


def draw_candidates(count: int, *, seed: int) -> list[Candidate]:
    """`count` architectures of the space `decoder`, the budgets in turn.

    Args:
        count: At least 1.
        seed: The same seed gives the same candidates.
    """
    space = files.read(catalog.resolve("decoder", "search_spaces"), SearchSpace)
    generator = np.random.default_rng(seed)
    drawn: dict[int, Candidate] = {}
    for offset, budget in enumerate(BUDGETS):
        places = range(offset, count, len(BUDGETS))
        if not places:
            continue
        points = at_budget(space, budget, tolerance=_TOLERANCE)
        for place, point in zip(
            places, generator.integers(0, len(points), len(places)), strict=True
        ):
            drawn[place] = points.candidate(int(point))
    return [drawn[place] for place in sorted(drawn)]
