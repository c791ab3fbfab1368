from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyError
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.paired import paired_difference, window_standard_error
from phonesearch.proxy.result import ProxyLoss, TrainedProxy, WindowSums
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.train import train_shrunk


def proxy_of(nats: list[float], num_bytes: list[int], **recipe: object) -> TrainedProxy:
    decides = {"corpus_fingerprint": "f", "context_length": 8, "scored_windows": len(nats)}
    return TrainedProxy(
        loss=ProxyLoss(
            bits_per_byte=2.0,
            standard_error=0.1,
            passed_transition=True,
            copy_gap_nats=0.5,
            tokens=1000,
            seconds=1.0,
            proxy={},
            recipe={**decides, **recipe},
            curve=(),
        ),
        windows=WindowSums(nats=tuple(nats), num_bytes=tuple(num_bytes)),
    )


def test_a_difference_is_worked_out_by_hand() -> None:
    """Bits 2, 1 against 1, 1 over 4 and 2 bytes: 1 / 6 more a byte. Residuals 1 - 4/6 and -2/6:
    variance 2 / 9 (one degree of freedom), over 2 windows and a mean of 3 bytes: 1/9."""
    bit = math.log(2)
    difference = paired_difference(proxy_of([2 * bit, bit], [4, 2]), proxy_of([bit, bit], [4, 2]))
    assert difference.bits_per_byte == pytest.approx(1 / 6)
    assert difference.standard_error == pytest.approx(1 / 9)


def test_what_is_hard_for_both_is_no_part_of_the_error() -> None:
    draw = np.random.default_rng(0)
    num_bytes = draw.integers(200, 400, size=500)
    hard = num_bytes * draw.normal(1.4, 0.4, size=500)
    first = proxy_of(list(hard + draw.normal(4.0, 1.0, 500)), list(num_bytes))
    second = proxy_of(list(hard + draw.normal(0.0, 1.0, 500)), list(num_bytes))
    difference = paired_difference(first, second)
    assert difference.standard_error < window_standard_error(first.windows) / 20
    opposite = paired_difference(second, first)
    assert opposite.bits_per_byte == pytest.approx(-difference.bits_per_byte)
    assert opposite.standard_error == pytest.approx(difference.standard_error)


def test_the_error_is_the_spread_over_fresh_sets_of_windows() -> None:
    draw = np.random.default_rng(1)
    found, errors = [], []
    for _ in range(400):
        num_bytes = draw.integers(100, 500, size=200)
        nats = num_bytes * draw.normal(0.02, 0.05, size=200)
        difference = paired_difference(
            proxy_of(list(nats), list(num_bytes)), proxy_of([0.0] * 200, list(num_bytes))
        )
        found.append(difference.bits_per_byte)
        errors.append(difference.standard_error)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.1)


def test_one_window_tells_nothing_of_the_error() -> None:
    difference = paired_difference(proxy_of([3.0], [4]), proxy_of([2.0], [4]))
    assert difference.standard_error == math.inf


def test_proxies_scored_on_other_windows_are_not_compared() -> None:
    one = proxy_of([1.0, 2.0], [4, 2])
    with pytest.raises(ProxyError, match="these differ in corpus_fingerprint"):
        paired_difference(one, proxy_of([1.0, 2.0], [4, 2], corpus_fingerprint="other"))
    with pytest.raises(ProxyError, match="the bytes of their windows"):
        paired_difference(one, proxy_of([1.0, 2.0], [4, 3]))


def test_the_difference_of_two_trainings_is_that_of_their_losses(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    short = replace(settings, tokens=1280)
    proxy = shrink(full_size, short, reference_parameters=1_350_000_000)
    first = train_shrunk(proxy, corpus, short)
    second = train_shrunk(replace(proxy, hidden_act="relu"), corpus, short)
    difference = paired_difference(first, second)
    assert difference.bits_per_byte == pytest.approx(
        first.loss.bits_per_byte - second.loss.bits_per_byte
    )
    assert 0 < difference.standard_error < window_standard_error(first.windows)
