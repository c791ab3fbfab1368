"""The law by hand, and its fit on losses that are made by a known law."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from phonesearch.errors import QualityError
from phonesearch.proxy.shrink import log_best_aspect as log_best_aspect_of_shrink
from phonesearch.quality.fit_law import fit_law, sandwich
from phonesearch.quality.law import (
    AspectLaw,
    BaseLaw,
    aspect_penalty,
    base_loss,
    log_base_losses,
    log_best_aspect,
    penalties,
    size_elasticity,
)
from phonesearch.quality.suites import Suite

BASE = BaseLaw(
    irreducible=2.0,
    parameters_scale=1.0,
    parameters_exponent=0.5,
    tokens_scale=0.5,
    tokens_exponent=0.5,
)
ASPECT = AspectLaw(curvature=0.01, optimum=4.0, per_log_parameters=0.3, per_log_horizon=-0.3)


def test_base_loss_by_hand() -> None:
    """N = 4e8, D = 25e10: 2 + 1 / 2 + 0.5 / 5 = 2.6; elasticity -0.5 x 0.5 / 2.6."""
    assert base_loss(BASE, parameters=4e8, tokens=25e10) == pytest.approx(2.6)
    assert size_elasticity(BASE, parameters=4e8, tokens=25e10) == pytest.approx(-0.25 / 2.6)


def test_the_elasticity_is_the_slope_of_log_loss() -> None:
    losses = [base_loss(BASE, parameters=1e9 * s, tokens=1e11) for s in (0.999, 1.001)]
    slope = math.log(losses[1] / losses[0]) / math.log(1.001 / 0.999)
    assert size_elasticity(BASE, parameters=1e9, tokens=1e11) == pytest.approx(slope, rel=1e-5)


def test_the_penalty_by_hand() -> None:
    """At e times 1e9 parameters and 100 tokens each, mu = 4.3; one unit off costs k."""
    size = {"parameters": math.e * 1e9, "tokens": math.e * 1e11}
    assert log_best_aspect(ASPECT, **size) == pytest.approx(4.3)
    assert aspect_penalty(ASPECT, 5.3, **size) == pytest.approx(0.01)
    assert aspect_penalty(ASPECT, 4.3, **size) == pytest.approx(0.0)


def test_one_shape_and_many_agree() -> None:
    parameters, tokens = np.array([1e8, 3e9]), np.array([2e10, 3e11])
    aspects = np.array([3.0, 5.0])
    pairs = list(zip(parameters, tokens, aspects, strict=True))
    one = [aspect_penalty(ASPECT, a, parameters=n, tokens=d) for n, d, a in pairs]
    assert penalties(ASPECT, parameters, tokens, aspects) == pytest.approx(one)
    base = [math.log(base_loss(BASE, parameters=n, tokens=d)) for n, d, _ in pairs]
    assert log_base_losses(BASE, parameters, tokens) == pytest.approx(base)


def test_shrinking_follows_a_law_within_the_errors_of_the_shipped_one() -> None:
    """`proxy/shrink.py` keeps the rounded coefficients that its recipe was measured with."""
    from phonesearch.quality.shipped import shipped_law

    joint = shipped_law().joint.aspect
    for parameters, horizon in ((1.5e9, 100.0), (1.5e9, 700.0), (1e8, 20.0)):
        mine = log_best_aspect(joint, parameters=parameters, tokens=parameters * horizon)
        theirs = log_best_aspect_of_shrink(parameters, tokens_per_parameter=horizon)
        assert mine == pytest.approx(theirs, abs=0.1)


def suite(
    name: str, base: BaseLaw, aspect: AspectLaw, *, noise: float = 0.0, seed: int = 0
) -> Suite:
    draw = np.random.default_rng(seed)
    sizes = np.repeat(np.geomspace(5e7, 2e9, 10), 3 * 4)
    aspects = np.tile(np.repeat(np.log([20.0, 60.0, 180.0]), 4), 10)
    tokens = np.tile(np.array([1e10, 3e10, 1e11, 3.5e11]), 30)
    shapes = tuple(f"shape {index // 4}" for index in range(len(sizes)))
    loss = log_base_losses(base, sizes, tokens) + penalties(aspect, sizes, tokens, aspects)
    luck = np.repeat(draw.normal(0, noise, 30), 4) if noise else np.zeros(len(sizes))
    return Suite(
        name=name,
        source="made here",
        licence="none",
        shapes=shapes,
        groups=shapes,
        parameters=sizes,
        tokens=tokens,
        log_aspect=aspects,
        log_loss=loss + luck,
        weights=np.ones(len(sizes)),
    )


def test_a_fit_recovers_the_law_that_made_the_losses() -> None:
    fit = fit_law(suite("one", BASE, ASPECT))

    assert astuple(fit.aspect) == pytest.approx(astuple(ASPECT), rel=1e-4)
    assert astuple(fit.base("one")) == pytest.approx(astuple(BASE), rel=1e-4)
    assert (fit.num_points, fit.num_shapes) == (120, 30)
    assert fit.rms_log_error < 1e-8


def test_suites_fitted_together_share_the_aspect_term_only() -> None:
    other = BaseLaw(
        irreducible=1.5,
        parameters_scale=0.7,
        parameters_exponent=0.4,
        tokens_scale=0.8,
        tokens_exponent=0.3,
    )
    fit = fit_law(
        suite("one", BASE, ASPECT, noise=1e-4), suite("two", other, ASPECT, noise=1e-4, seed=1)
    )
    assert astuple(fit.aspect) == pytest.approx(astuple(ASPECT), rel=0.05)
    assert fit.base("one").irreducible == pytest.approx(2.0, rel=0.05)
    assert fit.base("two").irreducible == pytest.approx(1.5, rel=0.05)
    assert fit.num_shapes == 60


def test_standard_errors_are_what_repeated_luck_of_shapes_gives() -> None:
    """Sixty suites whose shapes have luck of their own; errors by point would be half."""
    fits = [fit_law(suite("one", BASE, ASPECT, noise=0.002, seed=seed)) for seed in range(60)]
    for field in ("curvature", "optimum"):
        spread = np.std([getattr(fit.aspect, field) for fit in fits], ddof=1)
        said = np.sqrt(np.mean([getattr(f.aspect_standard_error, field) ** 2 for f in fits]))
        assert 0.7 < said / spread < 1.5, field


def test_the_sandwich_of_independent_shapes_by_hand() -> None:
    """One coefficient, a mean of three: residuals -1, 0, 1, so 2 / 9 times 3 / 2."""
    covariance = sandwich(np.ones((3, 1)), np.array([-1.0, 0.0, 1.0]), ["a", "b", "c"])
    assert covariance == pytest.approx(np.array([[1 / 3]]))


def test_too_few_shapes_have_no_standard_errors() -> None:
    with pytest.raises(QualityError, match="more shapes than coefficients, got 2 and 2"):
        sandwich(np.ones((4, 2)), np.ones(4), ["a", "a", "b", "b"])
