"""The anchors chosen are the best, where all sets can be tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from phonesearch.errors import QualityError
from phonesearch.quality.anchors import choose_anchors, log_information


@pytest.mark.parametrize("seed", range(6))
def test_small_designs_are_optimal(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(10, 3))
    prior = np.diag([0.5, 1.0, 2.0])
    chosen = choose_anchors(rows, 4, prior, noise_sd=0.3)

    def worth(indices: tuple[int, ...]) -> float:
        return log_information(rows[list(indices)], prior, noise_sd=0.3)

    best = max(itertools.combinations(range(10), 4), key=worth)
    assert worth(chosen) == pytest.approx(worth(best), rel=1e-9)


def test_anchors_do_not_repeat_and_are_always_the_same() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 6))
    found = choose_anchors(rows, 20, np.eye(6), noise_sd=0.1)
    assert len(set(found)) == 20
    assert list(found) == sorted(found)
    assert choose_anchors(rows, 20, np.eye(6), noise_sd=0.1) == found
    of_random = [
        log_information(
            rows[np.random.default_rng(s).permutation(200)[:20]], np.eye(6), noise_sd=0.1
        )
        for s in range(50)
    ]
    assert log_information(rows[list(found)], np.eye(6), noise_sd=0.1) > max(of_random)


def test_ends_of_a_range_tell_most() -> None:
    """One coefficient with a free intercept: 0 and 5, worked out as the largest spread."""
    rows = np.arange(6.0)[:, None]
    assert choose_anchors(rows, 2, np.eye(1), noise_sd=1.0) == (0, 5)


def test_all_rows_can_be_chosen_and_no_more() -> None:
    rows = np.eye(3)
    assert choose_anchors(rows, 3, np.eye(3), noise_sd=1.0) == (0, 1, 2)
    with pytest.raises(QualityError, match="4 anchors among 3 architectures; ask for 1 to 3"):
        choose_anchors(rows, 4, np.eye(3), noise_sd=1.0)
    with pytest.raises(QualityError, match="`noise_sd` must be above 0"):
        choose_anchors(rows, 1, np.eye(3), noise_sd=0.0)
