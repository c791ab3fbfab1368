"""The model by hand, against samples of its exact form, and against plain conditioning."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from phonesearch.candidate.config import ACTIVATIONS, FFN_TYPES, Candidate
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.errors import QualityError
from phonesearch.quality.features import Training, beyond_suites, feature_row
from phonesearch.quality.law import log_best_aspect
from phonesearch.quality.model import QualityModel, difference, prior_model, qualities, quality
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.terms import LAW_TERMS, PRIOR_TERMS, TERM_NAMES

TRAINING = Training(reference_parameters=1.2e9)


@pytest.fixture
def model() -> QualityModel:
    return prior_model(shipped_law(), TRAINING)


def sds(model: QualityModel) -> dict[str, float]:
    return dict(zip(TERM_NAMES, np.sqrt(np.diag(model.prior.covariance)).tolist(), strict=True))


def means(model: QualityModel) -> dict[str, float]:
    return dict(zip(TERM_NAMES, model.prior.mean.tolist(), strict=True))


def test_features_by_hand(usual: Candidate, model: QualityModel) -> None:
    """2048 x 24 has d/L 85.3; gated 5632 / 2048 is plain 4.125; 32 heads to 8 is two halvings."""
    candidate = replace(usual, num_key_value_heads=8, hidden_act="relu", head_dim=128)
    row = dict(
        zip(TERM_NAMES, feature_row(candidate, TRAINING, model.aspect).tolist(), strict=True)
    )
    parameters = non_embedding_parameters(candidate)
    off = math.log(2048 / 24) - log_best_aspect(model.aspect, parameters=parameters, tokens=1.2e11)
    assert row["size"] == pytest.approx(math.log(parameters / 1.2e9))
    assert row["short_size"] == 0
    assert row["aspect_curvature"] == pytest.approx(off**2)
    assert row["aspect_optimum"] == pytest.approx(-2 * model.aspect.curvature * off)
    assert row["aspect_per_log_horizon"] == pytest.approx(
        row["aspect_optimum"] * math.log(1.2e11 / parameters / 100)
    )
    assert row["aspect_beyond"] == 0
    assert row["ffn_curvature"] == pytest.approx(math.log(4.125 / 2.5) ** 2)
    assert row["kv_halvings"] == 2
    assert (row["gated"], row["gated_relu"], row["plain_relu"]) == (1, 1, 0)
    assert row["head_width"] == 1
    assert row["attention_width"] == pytest.approx(math.log(2))
    assert row["tied"] == 1


def test_every_network_and_activation_has_its_terms(usual: Candidate, model: QualityModel) -> None:
    rows = {
        tuple(feature_row(replace(usual, ffn_type=f, hidden_act=a), TRAINING, model.aspect))
        for f in FFN_TYPES
        for a in ACTIVATIONS
    }
    assert len(rows) == 8


def test_the_prior_has_the_means_and_deviations_of_its_sources(model: QualityModel) -> None:
    """proxy.md 3.1: k 30 %, m0 0.25, m1 0.12, m2 0.05 at least; slopes -0.036 and -0.055."""
    mean, sd = means(model), sds(model)
    assert mean["size"] == pytest.approx(-0.045, abs=0.003)
    assert sd["size"] == pytest.approx(0.009, abs=0.002)
    assert mean["aspect_curvature"] == pytest.approx(0.0071, rel=0.07)
    assert sd["aspect_curvature"] == pytest.approx(0.3 * mean["aspect_curvature"])
    assert sd["aspect_optimum"] == 0.25
    assert sd["aspect_per_log_parameters"] == 0.12
    # The two suites disagree by more than 0.05.
    assert 0.05 < sd["aspect_per_log_horizon"] < 0.12
    assert mean["gated"] == -0.025
    assert mean["gated"] + mean["gated_relu"] == pytest.approx(-0.019)
    assert all(term.source for term in PRIOR_TERMS.values())
    assert set(TERM_NAMES) == {*LAW_TERMS, *PRIOR_TERMS}


def test_gated_priors_are_within_a_deviation_of_the_published_table() -> None:
    """Shazeer, 524,288 steps: GELU 1.679, ReLU 1.677, SwiGLU 1.636, GEGLU 1.633, ReGLU 1.645."""
    gated = PRIOR_TERMS["gated"]
    for loss in (1.636, 1.633):
        assert abs(math.log(loss / 1.679) - gated.mean) < gated.sd
    relu = gated.mean + PRIOR_TERMS["gated_relu"].mean
    assert abs(math.log(1.645 / 1.679) - relu) < gated.sd
    assert abs(math.log(1.677 / 1.679)) < PRIOR_TERMS["plain_relu"].sd


@pytest.mark.parametrize(("layers", "hidden"), [(96, 1152), (40, 1664), (19, 2560), (8, 3968)])
def test_linearised_penalty_agrees_with_samples_of_the_exact_one(
    usual: Candidate, model: QualityModel, layers: int, hidden: int
) -> None:
    """Against a reference of the same size, over width over depth from 12 to 496."""
    other = replace(usual, num_hidden_layers=layers, hidden_size=hidden)
    draw = np.random.default_rng(0)
    mean, sd = means(model), sds(model)
    law = model.aspect

    def sampled(name: str, middle: float) -> np.ndarray:
        return middle + sd[name] * draw.normal(size=200_000)

    k = sampled("aspect_curvature", mean["aspect_curvature"])
    m0 = sampled("aspect_optimum", law.optimum)
    m1 = sampled("aspect_per_log_parameters", law.per_log_parameters)
    m2 = sampled("aspect_per_log_horizon", law.per_log_horizon)
    beyond = sampled("aspect_beyond", 0.0)
    losses = []
    for candidate in (other, usual):
        parameters = non_embedding_parameters(candidate)
        aspect = math.log(candidate.hidden_size / candidate.num_hidden_layers)
        outside = beyond_suites(parameters, TRAINING.tokens, aspect)
        mu = m0 + m1 * math.log(parameters / 1e9) + beyond * outside
        mu = mu + m2 * math.log(TRAINING.tokens / parameters / 100)
        losses.append(k * (aspect - mu) ** 2)
    exact = losses[0] - losses[1]

    aspects = [TERM_NAMES.index(name) for name in LAW_TERMS if name != "size"]
    row = feature_row(other, TRAINING, law) - feature_row(usual, TRAINING, law)
    own = np.zeros_like(row)
    own[aspects] = row[aspects]
    said_mean = float(own @ model.prior.mean)
    said_sd = math.sqrt(float(own @ model.prior.covariance @ own))
    assert said_mean == pytest.approx(exact.mean(), abs=5e-4)
    assert said_sd == pytest.approx(exact.std(), rel=0.12, abs=3e-4)


def test_inside_the_suites_nothing_is_beyond() -> None:
    """12e9 / 2.01e9 parameters; 7 million against 7,300 tokens each; width over depth 640 / 320."""
    assert beyond_suites(1.2e9, 1.2e11, math.log(60)) == 0
    assert beyond_suites(12e9, 12e11, math.log(60)) == pytest.approx(math.log(12 / 2.01))
    assert beyond_suites(1e9, 7.3e15, math.log(60)) == pytest.approx(math.log(1000))
    assert beyond_suites(1e9, 1e11, math.log(640)) == pytest.approx(math.log(2))


def test_outside_the_suites_nothing_is_surer(usual: Candidate) -> None:
    wide = replace(usual, num_hidden_layers=8, hidden_size=2560)
    horizons = (100, 5000, 50_000, 500_000)
    sds = [
        difference(
            prior_model(shipped_law(), replace(TRAINING, tokens_per_parameter=horizon)), wide, usual
        ).sd
        for horizon in horizons
    ]
    assert sds == sorted(sds)


def test_a_longer_training_favours_deeper_shapes(usual: Candidate) -> None:
    """Of two with the same parameters in blocks: 2048 x 24 and 2896 x 12."""
    deep, wide = usual, replace(usual, hidden_size=2896, intermediate_size=7968)
    wide = replace(wide, num_hidden_layers=12, num_attention_heads=45, num_key_value_heads=45)
    gaps = [
        difference(
            prior_model(shipped_law(), replace(TRAINING, tokens_per_parameter=horizon)), deep, wide
        ).mean
        for horizon in (20, 100, 700)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[1] < 0


def test_a_difference_is_surer_than_its_sides(usual: Candidate, model: QualityModel) -> None:
    other = replace(usual, hidden_act="gelu")
    apart = difference(model, usual, other)
    assert apart.sd < quality(model, usual).sd
    # One swap of activation with a deviation of 0.004, and two residuals of 0.005.
    assert apart.sd == pytest.approx(math.sqrt(0.004**2 + 2 * 0.005**2))
    assert difference(model, usual, usual).sd == 0
    assert apart.is_tied()
    plain = replace(usual, ffn_type="plain", hidden_act="gelu", intermediate_size=8448)
    assert not difference(model, usual, plain).is_tied()


def test_parts_add_up(usual: Candidate, model: QualityModel) -> None:
    for one in qualities(model, [usual, replace(usual, num_hidden_layers=12)]):
        assert one.law_mean + one.prior_mean + one.proxy_mean == pytest.approx(one.mean)
        left = one.law_variance + one.prior_variance + one.residual_variance
        assert left == pytest.approx(one.sd**2)
        assert (one.proxy_mean, one.removed_variance) == pytest.approx((0, 0))
    assert qualities(model, []) == ()


def test_a_training_of_nothing_is_refused() -> None:
    with pytest.raises(QualityError, match="`reference_parameters` of a training must be above 0"):
        Training(reference_parameters=0)
    with pytest.raises(QualityError, match="`tokens_per_parameter`"):
        Training(reference_parameters=1e9, tokens_per_parameter=math.nan)
