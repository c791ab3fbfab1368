"""Ranks by hand on losses made by a law, and pairs by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phonesearch.errors import QualityError
from phonesearch.quality.anchor_evidence import anchor_scores
from phonesearch.quality.evidence import final_ranks, group_ranks, short_runs, size_corrected
from phonesearch.quality.law import AspectLaw, BaseLaw, log_base_losses, penalties
from phonesearch.quality.shape_table import ShapeTable
from phonesearch.quality.suites import AnchorSet, Suite, anchor_set, gemstones, morph

BASE = BaseLaw(
    irreducible=2.0,
    parameters_scale=1.0,
    parameters_exponent=0.3,
    tokens_scale=0.5,
    tokens_exponent=0.5,
)
ASPECT = AspectLaw(curvature=0.01, optimum=4.0, per_log_parameters=0.3, per_log_horizon=-0.3)


@pytest.fixture
def suite() -> Suite:
    """Losses exactly by the law: 20 shapes, each after 10B and 350B tokens."""
    parameters = np.tile(np.repeat([5e7, 1e8, 5e8, 1e9, 2e9], 4), 2)
    tokens = np.repeat([1e10, 3.5e11], 20)
    aspects = np.tile(np.log([15.0, 40.0, 110.0, 300.0]), 10)
    loss = log_base_losses(BASE, parameters, tokens)
    loss = loss + penalties(ASPECT, parameters, tokens, aspects)
    names = tuple(f"shape {index % 20}" for index in range(40))
    return Suite(
        name="made",
        source="",
        licence="",
        shapes=names,
        groups=tuple(f"{n:g}, {d:g}" for n, d in zip(parameters, tokens, strict=True)),
        parameters=parameters,
        tokens=tokens,
        log_aspect=aspects,
        log_loss=loss,
        weights=np.ones(40),
    )


def test_a_law_ranks_losses_that_it_made(suite: Suite) -> None:
    found = final_ranks(suite, BASE, ASPECT)
    assert dict(found.by_size) == pytest.approx(dict.fromkeys(dict(found.by_size), 1.0))
    assert len(found.by_size) == 5
    assert found.pairs == 5 * 6
    assert found.pairs_right == 1.0
    assert found.spearman > 0.98
    assert found.scatter < 0.001 < found.scatter_without_law
    assert group_ranks(suite, ASPECT).mean_spearman == pytest.approx(1.0)
    assert group_ranks(suite, ASPECT).groups == 10


def test_the_shift_makes_a_short_run_say_what_the_long_one_does(suite: Suite) -> None:
    (run,) = short_runs(suite, ASPECT)
    assert run.tokens == 1e10
    assert run.pairs_right < 0.9
    assert run.pairs_right_shifted > 0.95
    assert run.spearman_shifted > run.spearman


def test_size_correction_takes_a_quadratic_in_log_size_out() -> None:
    size = np.geomspace(1e8, 2e9, 7)
    log = np.log(size)
    assert size_corrected(3 - 0.2 * log + 0.01 * log**2, size) == pytest.approx(np.zeros(7))


def test_groups_too_small_to_rank_and_shuffled_checkpoints_are_refused(suite: Suite) -> None:
    with pytest.raises(QualityError, match="No group of made has 3 shapes"):
        group_ranks(replace(suite, groups=tuple(str(index) for index in range(40))), ASPECT)
    with pytest.raises(QualityError, match="same shapes in the same order"):
        short_runs(replace(suite, shapes=tuple(str(index) for index in range(40))), ASPECT)


def test_a_regression_finds_what_is_linear_in_its_features() -> None:
    draw = np.random.default_rng(3)
    features = draw.normal(size=(60, 8)) * 0.2
    loss = features @ np.arange(1.0, 9.0) + 4
    made = AnchorSet(
        name="made", features=features, log_parameters=features[:, 0], log_perplexity=loss
    )
    few, many = anchor_scores(made, (10, 40), splits=5)
    assert many.pairs_right > 0.99
    assert many.residual_sd < 0.02 < loss.std()
    assert few.residual_sd > many.residual_sd
    with pytest.raises(QualityError, match="60 rows, too few for 60 anchors"):
        anchor_scores(made, (60,))


def test_checkpoints_weigh_the_tokens_they_stand_for(table: ShapeTable) -> None:
    """10, 20, 50, 100, 200 and 350B: spans of 10, 20, 40, 75, 125 and 75B."""
    suite = gemstones(table)
    weights = [float(suite.weights[suite.tokens == t][0]) for t in sorted(set(suite.tokens))]
    spans = np.array([10, 20, 40, 75, 125, 75])
    assert weights == pytest.approx(spans / spans.mean(), rel=1e-2)
    assert set(morph(table).weights) == {1.0}


def test_a_table_without_a_suite_says_so(table: ShapeTable) -> None:
    empty = ShapeTable(rows=table.rows[:3], sha256="")
    with pytest.raises(QualityError, match=r"at least 15 rows of dataset 'gemstones'.*got 0"):
        gemstones(empty)
    with pytest.raises(QualityError, match="no complete row of dataset 'lts/none'"):
        anchor_set(table, "lts/none")
