from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phonesearch.proxy.paired import window_standard_error
from phonesearch.proxy.score import WindowLosses, window_losses
from phonesearch.proxy.uncertainty import standard_error


class Uniform(nn.Module):
    """Every token of 256 is as likely as any other."""

    def forward(self, ids_BL: Tensor) -> Tensor:
        return torch.zeros(*ids_BL.shape, 256)


def test_a_uniform_model_costs_its_vocabulary_in_bits_a_token() -> None:
    """Tokens of two bytes each at log2(256) = 8 bits a token are 4 bits a byte."""
    windows = np.random.default_rng(0).integers(0, 256, size=(40, 17))
    losses = window_losses(
        Uniform(), windows, np.full(256, 2, dtype=np.uint16), device=torch.device("cpu")
    )
    assert losses.nats.shape == (40, 16)
    assert losses.bits_per_byte == pytest.approx(4.0)
    assert losses.copy_gap_nats == pytest.approx(0.0)


def test_bytes_are_those_of_the_predicted_tokens() -> None:
    """The first token of a window is given, not predicted: 1 + 3 bytes, not 2 + 1 + 3."""
    windows = np.array([[2, 1, 3]])
    losses = window_losses(
        Uniform(), windows, np.arange(256, dtype=np.uint16), device=torch.device("cpu")
    )
    assert losses.num_bytes.tolist() == [4]
    assert losses.bits_per_byte == pytest.approx(2 * 8 / 4)


def test_the_copy_gap_is_first_quarter_minus_last() -> None:
    nats = np.array([[4.0, 4.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]])
    losses = WindowLosses(nats=nats, num_bytes=np.array([8]))
    assert losses.copy_gap_nats == pytest.approx(3.0)


def test_the_window_error_is_the_spread_of_means() -> None:
    """Losses of n windows of sd s over b bytes each: s / sqrt(n) / log(2) / b."""
    draw = np.random.default_rng(0)
    nats = draw.normal(10.0, 2.0, size=(400, 1))
    losses = WindowLosses(nats=nats, num_bytes=np.full(400, 5))
    expected = nats.std(ddof=1) / math.sqrt(400) / math.log(2) / 5
    assert window_standard_error(losses.sums) == pytest.approx(expected)
    quarter = WindowLosses(nats=nats[:100], num_bytes=np.full(100, 5))
    assert standard_error(quarter.sums) > standard_error(losses.sums)
