"""Trials whose curves and ends follow a law, so that it is known what a training will come to."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from front_records import speed, trained

from phonesearch import files
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.catalog import resolve
from phonesearch.front.pareto import front
from phonesearch.front.table import trials_table
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.early import (
    FEWEST_ENDED,
    Standing,
    hopeless,
    longer_rounds_s,
    num_longer,
    wanted_trials,
)
from phonesearch.study.evaluate import why_dropped
from phonesearch.study.judge import make_judge
from phonesearch.study.record import Dropped, TrialRecord
from phonesearch.study.settings import Fleet, RunSettings

BUDGET = 1_000_000_000
SETTINGS = RunSettings(
    device="snapdragon8gen3",
    engine=None,
    space="decoder",
    budget=BUDGET,
    scored_by="each",
    proxy=ProxySettings(tokens=1_000_000),
)
RUNG = 300_000


@pytest.fixture(scope="module")
def space() -> BudgetedSpace:
    return at_budget(files.read(resolve("decoder", "search_spaces"), SearchSpace), BUDGET)


def record_of(
    candidate: Candidate, number: int, *, tokens_per_s: float, luck: float
) -> TrialRecord:
    """A trial that ended at 2 bits a byte times its luck, which its curve showed by then."""
    record = trained(number, tokens_per_s, 2 * math.exp(luck))
    assert record.proxy is not None
    proxy = replace(
        record.proxy,
        proxy=asdict(shrink(candidate, SETTINGS.proxy, reference_parameters=BUDGET)),
        curve=((RUNG, 4 * math.exp(luck)), (1_000_000, 3.0)),
    )
    return replace(record, proxy=proxy, candidate=candidate, candidate_id=candidate_id(candidate))


@pytest.fixture(scope="module")
def ended(space: BudgetedSpace) -> list[TrialRecord]:
    """Twenty trials from 20 tokens/s on, a third of a percent apart in luck."""
    rng = np.random.default_rng(0)
    places = rng.integers(len(space), size=20)
    lucks = rng.permutation(np.linspace(-0.03, 0.03, 20))
    return [
        record_of(
            space.candidate(int(place)),
            number,
            tokens_per_s=20.0 + number,
            luck=float(lucks[number]),
        )
        for number, place in enumerate(places)
    ]


def asked(
    space: BudgetedSpace, ended: list[TrialRecord], *, luck: float, tokens_per_s: float
) -> Dropped | None:
    standing = Standing(
        number=99,
        candidate=space.candidate(12345),
        speed_tokens_per_s=tokens_per_s,
        tokens=RUNG,
        loss_nats=4 * math.exp(luck),
    )
    return hopeless(standing, ended, settings=SETTINGS, judge=make_judge(SETTINGS))


def test_a_slow_one_that_does_badly_is_given_up(
    space: BudgetedSpace, ended: list[TrialRecord]
) -> None:
    found = asked(space, ended, luck=0.2, tokens_per_s=10.0)
    assert found is not None
    assert (found.tokens, found.of_tokens) == (RUNG, 1_000_000)
    assert found.sd > 0
    assert found.behind > found.behind_at_best >= 0
    assert found.sd < 0.02  # its training is forecast to a few percent, and its score moves by less
    other = next(record for record in ended if record.number == found.beaten_by)
    assert other.speed is not None
    assert other.speed.decode_tokens_per_s >= 10.0


def test_one_that_does_well_goes_on(space: BudgetedSpace, ended: list[TrialRecord]) -> None:
    assert asked(space, ended, luck=-0.2, tokens_per_s=10.0) is None


def test_the_fastest_of_all_goes_on_however_it_does(
    space: BudgetedSpace, ended: list[TrialRecord]
) -> None:
    assert asked(space, ended, luck=0.2, tokens_per_s=1000.0) is None


def test_a_few_trainings_are_no_ground_to_give_another_up(
    space: BudgetedSpace, ended: list[TrialRecord]
) -> None:
    few = ended[: FEWEST_ENDED - 1]
    assert asked(space, few, luck=0.2, tokens_per_s=10.0) is None


def test_those_that_may_not_be_ranked_are_no_ground_either(
    space: BudgetedSpace, ended: list[TrialRecord]
) -> None:
    censored = [
        replace(record, proxy=replace(record.proxy, passed_transition=False))
        for record in ended
        if record.proxy is not None
    ]
    assert asked(space, censored, luck=0.2, tokens_per_s=10.0) is None


def given_up(records: list[TrialRecord]) -> list[TrialRecord]:
    """As if each had left seven tenths of its tokens."""
    known = Dropped(
        tokens=RUNG,
        of_tokens=1_000_000,
        log_loss=0.0,
        sd=0.01,
        behind=0.03,
        behind_at_best=0.01,
        confidence=0.95,
        beaten_by=0,
    )
    return [replace(one, state="dropped", score=None, proxy=None, dropped=known) for one in records]


def test_what_was_left_pays_for_candidates_and_for_longer_trainings(
    ended: list[TrialRecord],
) -> None:
    """Eight left 5.6 trainings: half of that is two whole ones, and two that go on from 70 %."""
    records = [*ended[8:], *given_up(ended[:8])]
    asked_for = replace(SETTINGS, trials=20, jobs=2)
    assert (wanted_trials(asked_for, records), num_longer(asked_for, records)) == (22, 2)
    assert longer_rounds_s(asked_for, records) == pytest.approx(1.3)  # each took a second
    fewer = [*ended[7:], *given_up(ended[:7])]
    assert num_longer(asked_for, fewer) == 0  # 4.9 pay for one, which tells nothing
    with_workers = replace(asked_for, fleet=Fleet(study="one"))
    assert num_longer(with_workers, records) == 0  # they begin anew
    assert wanted_trials(asked_for, ended) == 20
    never = replace(asked_for, early_stopping=False)
    assert (wanted_trials(never, records), num_longer(never, records)) == (20, 0)


def test_a_dropped_one_is_told_apart_and_never_on_the_front(ended: list[TrialRecord]) -> None:
    known = Dropped(
        tokens=RUNG,
        of_tokens=1_000_000,
        log_loss=-9.0,
        sd=0.01,
        behind=0.03,
        behind_at_best=0.01,
        confidence=0.95,
        beaten_by=0,
    )
    gone = replace(
        ended[0],
        number=50,
        state="dropped",
        score=None,
        proxy=None,
        dropped=known,
        predicted=speed(500.0),
    )
    sorted_out = front([*ended, gone], "decode")
    assert [record.number for record in sorted_out.dropped] == [50]
    assert 50 not in [point.number for point in sorted_out.ranked]
    row = trials_table([*ended, gone], "decode").set_index("number").loc[50]
    assert row["dropped_after_tokens"] == RUNG
    assert row["dropped_expected_log_loss_sd"] == 0.01
    assert why_dropped(known) == (
        "given up after 300k of 1.00M tokens: its expected loss is 3.0% above that of trial 0, "
        "which is as fast or faster, and 1.0% above it at the good end of what may come (95% "
        "confidence)"
    )
