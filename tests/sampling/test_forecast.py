from __future__ import annotations

import numpy as np
import pytest

from phonesearch.sampling.forecast import Trained, forecast, overconfidence


def trained(
    rng: np.random.Generator, count: int, *, told: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes, where they stand and where they end; the part `told` of luck is seen by now."""
    shapes = rng.uniform(0, 100, size=(count, 3))
    luck = rng.normal(size=count)
    final = 1 + 0.001 * shapes[:, 0] + 0.02 * luck
    standing = 2 + 0.5 * 0.001 * shapes[:, 0] + 0.02 * told * luck
    standing += 0.02 * (1 - told) * rng.normal(size=count)
    return shapes, standing, final


def asked(told: float, *, count: int = 30) -> tuple[np.ndarray, np.ndarray, Trained]:
    """Errors of forecasts and their deviations, from so many trainings that ended."""
    rng = np.random.default_rng(0)
    shapes, standing, final = trained(rng, count + 40, told=told)
    every = Trained(features=shapes, standing=standing, final=final)
    ended = every.only(np.arange(count))
    found = [
        forecast(ended, features=shapes[one], standing=float(standing[one]))
        for one in range(count, count + 40)
    ]
    means, sds = np.array(found).T
    return means - final[count:], sds, ended


@pytest.mark.parametrize("count", [15, 30])
def test_the_stated_deviation_is_not_below_that_of_the_errors(count: int) -> None:
    errors, sds, ended = asked(0.5, count=count)
    factor = overconfidence(ended)
    assert factor >= 1
    assert np.std(errors / (factor * sds)) < 1.5


def test_the_further_a_training_the_surer_its_end() -> None:
    early, late = asked(0.1), asked(0.95)
    assert np.abs(late[0]).mean() < np.abs(early[0]).mean() / 2
    assert late[1].mean() < early[1].mean() / 2


def test_features_that_do_not_differ_do_no_harm() -> None:
    shapes, standing, final = trained(np.random.default_rng(1), 12, told=0.9)
    shapes[:, 1] = 4.0
    ended = Trained(features=shapes[:11], standing=standing[:11], final=final[:11])
    mean, sd = forecast(ended, features=shapes[11], standing=float(standing[11]))
    assert abs(mean - final[11]) < 4 * sd
