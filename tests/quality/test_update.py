"""The update against conditioning a joint normal, and left-out errors against leaving out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import QualityError
from phonesearch.quality.features import Training, feature_rows
from phonesearch.quality.model import Coefficients, prior_model, quality
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.terms import TERM_NAMES
from phonesearch.quality.update import (
    Observations,
    leave_one_out,
    observation_noise,
    update,
    updated,
)

TERMS = len(TERM_NAMES)


def made(count: int = 9, seed: int = 0) -> tuple[Coefficients, Observations]:
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(TERMS, TERMS))
    prior = Coefficients(mean=draw.normal(size=TERMS), covariance=root @ root.T / TERMS)
    noise = draw.normal(size=(count, count))
    observations = Observations(
        rows=draw.normal(size=(count, TERMS)),
        log_losses=draw.normal(size=count) + 5,
        noise=noise @ noise.T / count + 0.1 * np.eye(count),
        recipes=tuple("ab"[index % 3 == 0] for index in range(count)),
        architectures=tuple(f"shape {index // 2}" for index in range(count)),
    )
    return prior, observations


def conditioned(prior: Coefficients, seen: Observations) -> Coefficients:
    """By the blocks of the joint covariance, with intercepts of deviation 1000."""
    kinds = sorted(set(seen.recipes))
    groups = np.array([[float(recipe == kind) for kind in kinds] for recipe in seen.recipes])
    of_losses = seen.rows @ prior.covariance @ seen.rows.T + seen.noise + 1e6 * groups @ groups.T
    gain = prior.covariance @ seen.rows.T @ np.linalg.inv(of_losses)
    return Coefficients(
        mean=prior.mean + gain @ (seen.log_losses - seen.rows @ prior.mean),
        covariance=prior.covariance - gain @ seen.rows @ prior.covariance,
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_update_is_conditioning_of_the_joint_normal(seed: int) -> None:
    prior, seen = made(seed=seed)
    found, wanted = update(prior, seen), conditioned(prior, seen)
    assert found.mean == pytest.approx(wanted.mean, abs=1e-4)
    assert found.covariance == pytest.approx(wanted.covariance, abs=1e-4)


def test_one_observation_of_a_recipe_says_nothing() -> None:
    prior, seen = made(1)
    found = update(prior, seen)
    assert found.mean == pytest.approx(prior.mean, abs=1e-8)
    assert found.covariance == pytest.approx(prior.covariance, abs=1e-8)


def test_no_observation_leaves_the_prior() -> None:
    prior, seen = made(0)
    assert update(prior, seen) is prior
    assert leave_one_out(prior, seen) == ()


def test_the_level_of_a_recipe_changes_nothing() -> None:
    prior, seen = made()
    level = np.array([3.0 if recipe == "a" else -2.0 for recipe in seen.recipes])
    found = update(prior, replace(seen, log_losses=seen.log_losses + level))
    assert found.mean == pytest.approx(update(prior, seen).mean, abs=1e-8)


def part(seen: Observations, own: np.ndarray) -> Observations:
    return Observations(
        rows=seen.rows[own],
        log_losses=seen.log_losses[own],
        noise=seen.noise[np.ix_(own, own)],
        recipes=tuple(seen.recipes[index] for index in own),
        architectures=tuple(seen.architectures[index] for index in own),
    )


def test_left_out_errors_are_those_of_leaving_out() -> None:
    """By conditioning the joint normal of the losses on those of the other architectures."""
    prior, seen = made(10)
    seen = replace(seen, recipes=("a",) * 6 + ("b",) * 4)
    covariance = seen.rows @ prior.covariance @ seen.rows.T + seen.noise
    groups = np.array([[float(recipe == kind) for kind in "ab"] for recipe in seen.recipes])
    covariance += 1e6 * groups @ groups.T
    off = seen.log_losses - seen.rows @ prior.mean
    found = leave_one_out(prior, seen)
    assert [one.architecture for one in found] == list(seen.architectures)
    for name in set(seen.architectures):
        own = np.array([a == name for a in seen.architectures])
        gain = covariance[np.ix_(own, ~own)] @ np.linalg.inv(covariance[np.ix_(~own, ~own)])
        errors = off[own] - gain @ off[~own]
        spread = covariance[np.ix_(own, own)] - gain @ covariance[np.ix_(~own, own)]
        mine = [one for one in found if one.architecture == name]
        assert [one.error for one in mine] == pytest.approx(errors, abs=1e-3)
        assert [one.sd for one in mine] == pytest.approx(np.sqrt(np.diag(spread)), abs=1e-3)


def test_a_recipe_with_one_architecture_is_not_left_out() -> None:
    prior, seen = made(5)
    seen = replace(seen, recipes=("a", "a", "a", "a", "b"))
    assert {one.architecture for one in leave_one_out(prior, seen)} == {"shape 0", "shape 1"}


def test_proxies_move_what_they_can_tell(usual: Candidate) -> None:
    """Ten pairs alike but for the gate, gated worse by 0.02: the prior of -0.025 moves towards it,
    no further than its transfer allows."""
    model = prior_model(shipped_law(), Training(reference_parameters=1.2e9))
    small = replace(
        usual, hidden_size=128, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=4
    )
    small = replace(small, head_dim=32, intermediate_size=344, vocab_size=1024)
    plain = replace(small, ffn_type="plain", hidden_act="gelu", intermediate_size=516)
    short = Training(reference_parameters=1e6, tokens_per_parameter=4, is_short=True)
    trained = [small, plain] * 10
    rows = feature_rows(trained, short, model.aspect)
    names = tuple(f"{index}" for index in range(20))
    seen = Observations(
        rows=rows,
        log_losses=np.array([1.02, 1.0] * 10),
        noise=observation_noise(rows, names, training_sd=0.01, residual_sd=0.005),
        recipes=("python",) * 20,
        architectures=names,
    )
    after = updated(model, seen)
    gate = TERM_NAMES.index("gated")
    # 0.02 against -0.025, weighed by the prior's 0.012 and the transfer of hypot(1.5, 4) = 4.272
    # times 0.006 = 0.0256; what is left is 0.0256 x 0.012 / hypot(0.0256, 0.012) = 0.01087
    moved = 0.045 * 0.012**2 / (0.012**2 + 0.0256**2)
    assert after.posterior.mean[gate] - model.prior.mean[gate] == pytest.approx(moved, rel=0.15)
    assert 0.0108 < np.sqrt(after.posterior.covariance[gate, gate]) < 0.012
    one = quality(after, usual)
    assert one.proxy_mean == pytest.approx(moved, rel=0.15)
    assert one.removed_variance > 0
    assert one.law_mean + one.prior_mean + one.proxy_mean == pytest.approx(one.mean)
    left = one.law_variance + one.prior_variance + one.residual_variance
    assert left == pytest.approx(one.sd**2)
    # What size is worth in the planned training, a short one does not tell.
    size = TERM_NAMES.index("size")
    assert after.posterior.mean[size] == pytest.approx(model.prior.mean[size])


def test_noise_by_hand() -> None:
    """Two trainings of one architecture and one of another, features of no transfer."""
    rows = np.zeros((3, TERMS))
    noise = observation_noise(rows, ("a", "a", "b"), training_sd=0.3, residual_sd=0.4)
    assert noise == pytest.approx(np.array([[0.25, 0.16, 0], [0.16, 0.25, 0], [0, 0, 0.25]]))


def test_observations_that_do_not_fit_together_are_refused() -> None:
    _, seen = made(4)
    with pytest.raises(QualityError, match="one row of"):
        replace(seen, recipes=("a",))
    with pytest.raises(QualityError, match="not finite; leave trainings that failed out"):
        replace(seen, log_losses=np.array([1.0, 2.0, np.nan, 3.0]))
    with pytest.raises(QualityError, match="positive eigenvalues"):
        replace(seen, noise=np.zeros((4, 4)))
    with pytest.raises(QualityError, match="`training_sd` must be above 0, got 0"):
        observation_noise(seen.rows, seen.architectures, training_sd=0, residual_sd=1)
