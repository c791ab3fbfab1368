"""Anchors that fit the time that is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from phonesearch.errors import CorpusError, ProxyError
from phonesearch.proxy.settings import ProxySettings
from phonesearch.study.anchors import choose, proxies_of
from phonesearch.study.folder import RunFolder
from phonesearch.study.judge import make_judge
from phonesearch.study.observer import Silent
from phonesearch.study.plan import (
    FEWEST_ANCHORS,
    MOST_ANCHORS,
    Plan,
    fit,
    for_this_machine,
    plan,
)
from phonesearch.study.prepare import Prepared, prepare
from phonesearch.study.settings import RunSettings

NewRun = Callable[[Path, RunSettings], RunFolder]

RECIPE = ProxySettings(parameters=300_000, tokens=700_000)
SPEED = 8_000.0


def planned(minutes: float, jobs: int = 2) -> Plan:
    return fit(RECIPE, SPEED, jobs=jobs, time_s=60 * minutes)


def test_more_time_buys_anchors_first_then_tokens_then_size() -> None:
    """One training takes (700,000 + 65,536 / 3) / 8,000 = 90.2 s, two side by side as long; with
    15 % to spare 106.2 s a pair, so 12 anchors 10.6 min and 20 anchors 17.7 min."""
    assert planned(10.7).num_anchors == 12
    assert planned(16).num_anchors == 18
    assert (planned(16).parameters, planned(16).tokens) == (300_000, 700_000)
    assert planned(17.8).num_anchors == 20
    longer = planned(28)
    assert longer.num_anchors == MOST_ANCHORS
    assert longer.parameters == 300_000
    assert 1_050_000 <= longer.tokens <= 1_150_000
    larger = planned(240)
    assert larger.parameters > 600_000
    assert larger.tokens / larger.parameters == pytest.approx(1_400_000 / 300_000, rel=0.1)


@pytest.mark.parametrize("minutes", [10.7, 12, 15, 20, 30, 60, 240, 1000])
@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_a_plan_never_takes_longer_than_it_may_and_uses_most_of_it(
    minutes: float, jobs: int
) -> None:
    found = planned(minutes, jobs)
    assert found.seconds <= 60 * minutes
    if found.num_anchors == MOST_ANCHORS:
        assert found.seconds >= 0.9 * 60 * minutes
    assert found.num_anchors >= FEWEST_ANCHORS
    assert found.tokens >= RECIPE.tokens


def test_the_fewest_take_what_they_take_where_they_need_not_fit() -> None:
    found = fit(RECIPE, SPEED, jobs=2, time_s=math.inf, most=FEWEST_ANCHORS)
    assert (found.num_anchors, found.parameters, found.tokens) == (12, 300_000, 700_000)
    assert found.seconds == pytest.approx(637, abs=5)


def test_too_little_time_is_refused_with_the_time_that_is_needed() -> None:
    with pytest.raises(ProxyError, match=r"12 anchors take about 10 min 37 s.*--proxy prior"):
        planned(5)


@pytest.fixture
def prepared(settings: RunSettings, new_run: NewRun, cache: Path, tmp_path: Path) -> Prepared:
    """A text as large as the embedded one."""
    folder = new_run(tmp_path / "run", settings)
    made = prepare(settings, folder.space, folder.profile, cache_dir=cache, observer=Silent())
    assert made.corpus is not None
    corpus = replace(made.corpus, num_train_tokens=3_800_000, num_validation_tokens=200_000)
    return replace(made, corpus=corpus)


def test_anchors_of_an_earlier_run_are_all_used_again_and_nothing_is_measured(
    settings: RunSettings, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache holds those that a run with 14 chose; then one of them is gone."""
    asked = replace(settings, num_anchors=16)
    kept = proxies_of(
        choose(prepared.space, replace(settings, num_anchors=14), make_judge(settings)), settings
    )
    assert len(kept) == 14
    monkeypatch.setattr(
        "phonesearch.study.plan.is_cached", lambda cache_dir, proxy, *_: proxy in kept
    )
    told = Told()
    found = plan(asked, prepared, time_s=900, must_fit=False, observer=told)
    assert found == replace(asked, num_anchors=14)
    assert "14 anchors of this space and text were trained before" in told.said[-1]
    assert "% of loss to" in told.said[-1]

    monkeypatch.setattr("phonesearch.study.plan._tokens_per_s", lambda *_: SPEED)
    found = plan(asked, prepared, time_s=1e9, must_fit=True, observer=told)
    assert found.num_anchors == MOST_ANCHORS, "who gives a time gets what it buys"
    kept.pop()
    found = plan(asked, prepared, time_s=1e9, must_fit=False, observer=told)
    assert found.num_anchors == MOST_ANCHORS
    assert "trained before" not in told.said[-1]


class Told(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        """As told."""
        self.said.append(message)


def test_a_gpu_trains_larger_proxies_for_longer_as_far_as_the_text_goes(
    settings: RunSettings, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.8M tokens, each seen four times: 15.2M, in two digits 15M."""
    told = Told()
    assert for_this_machine(settings, prepared, observer=told) == settings
    monkeypatch.setattr("phonesearch.study.plan.training_device", lambda _: torch.device("cuda"))
    found = for_this_machine(settings, prepared, observer=told).proxy
    assert (found.parameters, found.tokens) == (10_000_000, 15_000_000)
    assert (found.batch_size, found.context_length) == (32, 512)
    assert found.data == settings.proxy.data
    assert "give more with --data" in told.said[-1]

    assert prepared.corpus is not None
    more = replace(prepared.corpus, num_train_tokens=60_000_000)
    found = for_this_machine(settings, replace(prepared, corpus=more), observer=told).proxy
    assert found.tokens == 200_000_000
    assert "--data" not in told.said[-1]

    little = replace(prepared.corpus, num_validation_tokens=10_000)
    with pytest.raises(CorpusError, match="too little text to score on"):
        for_this_machine(settings, replace(prepared, corpus=little), observer=told)
    assert for_this_machine(settings, replace(prepared, corpus=None), observer=told) == settings
