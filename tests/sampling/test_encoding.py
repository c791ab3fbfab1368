from __future__ import annotations

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from phonesearch.sampling.encoding import Encoder


def test_numbers_go_from_zero_to_one_by_their_ratio() -> None:
    encoder = Encoder({"depth": IntDistribution(2, 32), "shift": FloatDistribution(-1.0, 1.0)})
    rows = encoder.rows([{"depth": 2, "shift": -1.0}, {"depth": 8, "shift": 0.0}])
    np.testing.assert_allclose(rows, [[0.0, 0.0], [0.5, 0.5]])


def test_categories_that_are_numbers_are_compared_as_numbers() -> None:
    encoder = Encoder({"width": CategoricalDistribution([1024, 256, 512])})
    rows = encoder.rows([{"width": 256}, {"width": 512}, {"width": 1024}])
    np.testing.assert_allclose(rows, [[0.0], [0.5], [1.0]])


def test_names_are_all_equally_far_from_each_other() -> None:
    encoder = Encoder({"act": CategoricalDistribution(["silu", "relu", "gelu"])})
    rows = encoder.rows([{"act": name} for name in ("silu", "relu", "gelu")])
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.testing.assert_allclose(apart, 1 - np.eye(3))


def test_a_flag_is_one_column() -> None:
    encoder = Encoder({"tie": CategoricalDistribution([True, False])})
    np.testing.assert_allclose(encoder.rows([{"tie": True}, {"tie": False}]), [[0.0], [1.0]])


def test_a_single_value_is_no_difference() -> None:
    encoder = Encoder({"one": IntDistribution(7, 7), "name": CategoricalDistribution(["a"])})
    np.testing.assert_allclose(encoder.rows([{"one": 7, "name": "a"}]), [[0.0, 0.0]])
