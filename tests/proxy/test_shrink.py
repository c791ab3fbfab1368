from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.catalog import resolve
from phonesearch.errors import ProxyError
from phonesearch.files import read
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import HEAD_DIM, log_best_aspect, proxy_parameters, shrink
from phonesearch.quality.law import log_best_aspect as aspect_optimum
from phonesearch.quality.shipped import shipped_law
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace

BUDGETS = (350_000_000, 1_500_000_000, 3_000_000_000)


def space() -> SearchSpace:
    path: Path = resolve("decoder", "search_spaces")
    return read(path, SearchSpace)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    budget=st.sampled_from(BUDGETS),
    draw=st.integers(0, 10**9),
    parameters=st.sampled_from((300_000, 1_000_000, 10_000_000)),
)
def test_a_proxy_keeps_what_must_be_kept(budget: int, draw: int, parameters: int) -> None:
    points = at_budget(space(), budget)
    candidate = points.candidate(draw % len(points))
    settings = ProxySettings(parameters=parameters)
    proxy = shrink(candidate, settings, reference_parameters=budget)

    target = proxy_parameters(candidate, settings, reference_parameters=budget)
    assert non_embedding_parameters(proxy) == pytest.approx(target, rel=0.02)
    for field in ("ffn_type", "hidden_act", "tie_word_embeddings", "qk_norm", "attention_bias"):
        assert getattr(proxy, field) == getattr(candidate, field)
    ratio = candidate.intermediate_size / candidate.hidden_size
    assert proxy.intermediate_size / proxy.hidden_size == pytest.approx(ratio, rel=0.2)
    attention = candidate.num_attention_heads * candidate.head_dim / candidate.hidden_size
    whole_head = HEAD_DIM / proxy.hidden_size
    width = proxy.num_attention_heads * HEAD_DIM / proxy.hidden_size
    assert width == pytest.approx(attention, abs=whole_head + 1e-9)
    grouped = candidate.num_key_value_heads < candidate.num_attention_heads
    if proxy.num_attention_heads > 1:
        assert (proxy.num_key_value_heads < proxy.num_attention_heads) == grouped


def test_the_feed_forward_ratio_is_nearly_always_kept_closely() -> None:
    """Whole heads and widths rarely force more; of 2,250 drawn, none was off by over 5.1 %."""
    points = at_budget(space(), 1_500_000_000)
    settings = ProxySettings()
    errors = []
    for point in np.random.default_rng(0).integers(len(points), size=150):
        candidate = points.candidate(int(point))
        proxy = shrink(candidate, settings, reference_parameters=1_500_000_000)
        ratio = candidate.intermediate_size / candidate.hidden_size
        errors.append(abs(proxy.intermediate_size / proxy.hidden_size / ratio - 1))
    assert np.percentile(errors, 98) < 0.05


def test_more_of_the_budget_in_embeddings_is_a_smaller_proxy(full_size: Candidate) -> None:
    """Two layers fewer of 28 are 1/14 fewer non-embedding parameters, in the proxy as well."""
    settings = ProxySettings()
    fewer = replace(full_size, num_hidden_layers=26)
    whole = proxy_parameters(full_size, settings, reference_parameters=1_500_000_000)
    part = proxy_parameters(fewer, settings, reference_parameters=1_500_000_000)
    assert part / whole == pytest.approx(26 / 28, rel=1e-4)


def test_the_best_aspect_follows_the_published_law() -> None:
    """At 1e9 parameters and 100 tokens each, exp(3.874) = 48; 1.5e9 and 700: about 31."""
    assert math.exp(log_best_aspect(1e9, tokens_per_parameter=100)) == pytest.approx(48.1, abs=0.1)
    assert math.exp(log_best_aspect(1.5e9, tokens_per_parameter=700)) == pytest.approx(31, abs=1)


def test_the_distance_from_the_best_aspect_is_kept(full_size: Candidate) -> None:
    settings = ProxySettings(parameters=10_000_000, tokens=200_000_000)
    for layers, hidden in ((12, 3072), (28, 2048), (48, 1536)):
        candidate = replace(
            full_size,
            num_hidden_layers=layers,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_attention_heads=hidden // 128,
            num_key_value_heads=hidden // 128,
        )
        size = non_embedding_parameters(candidate)
        proxy = shrink(candidate, settings, reference_parameters=size)
        small = non_embedding_parameters(proxy)
        away = math.log(hidden / layers) - log_best_aspect(size, tokens_per_parameter=100)
        proxy_away = math.log(proxy.hidden_size / proxy.num_hidden_layers) - log_best_aspect(
            small, tokens_per_parameter=settings.tokens / small
        )
        assert proxy_away == pytest.approx(away, abs=0.25)


def test_a_longer_horizon_asks_for_a_wider_proxy_of_the_same_candidate(
    full_size: Candidate,
) -> None:
    """A long training likes depth, so the same candidate is wider than best for it."""
    depths = [
        shrink(
            full_size,
            ProxySettings(parameters=3_000_000, tokens=6_000_000, horizon_tokens_per_parameter=h),
            reference_parameters=1_350_000_000,
        ).num_hidden_layers
        for h in (20.0, 2000.0)
    ]
    assert depths[0] > depths[1]


def test_a_proxy_too_small_for_its_kind_is_refused(full_size: Candidate) -> None:
    huge = replace(full_size, intermediate_size=4000 * 2048)
    with pytest.raises(ProxyError, match=r"no proxy of .* Give more --proxy-parameters, got 5,000"):
        shrink(huge, ProxySettings(parameters=5_000), reference_parameters=1_400_000_000_000)


def test_the_rounded_law_that_proxies_are_shaped_by_is_the_shipped_one_within_its_errors() -> None:
    """Its coefficients stay as they are: others would give other proxies, and every kept training
    of them would be lost."""
    law = shipped_law().joint.aspect
    for parameters in (1e8, 1e9, 3e9):
        for horizon in (20, 100, 700):
            shipped = aspect_optimum(law, parameters=parameters, tokens=parameters * horizon)
            ours = log_best_aspect(parameters, tokens_per_parameter=horizon)
            assert ours == pytest.approx(shipped, abs=0.10)
