"""Which architectures are trained to judge all others by, and how that goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from phonesearch import files
from phonesearch.candidate.config import Candidate, as_dict, candidate_id
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.catalog import resolve
from phonesearch.errors import InvalidFileError, ProxyError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import log_best_aspect, shrink
from phonesearch.quality.anchors import log_information
from phonesearch.quality.features import feature_rows
from phonesearch.report.losses import quality_report
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.anchors import (
    ANCHORS_FILE,
    Anchor,
    choose,
    read_anchors,
    require_enough,
    to_continue,
    usable,
)
from phonesearch.study.folder import RunFolder
from phonesearch.study.judge import make_judge
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.run import search
from phonesearch.study.score import ScoreKind
from phonesearch.study.settings import RunSettings

NewRun = Callable[[Path, RunSettings], RunFolder]
BUDGET = 350_000_000


@pytest.fixture(scope="module")
def decoder() -> BudgetedSpace:
    space = files.read(resolve("decoder", "search_spaces"), SearchSpace)
    return at_budget(space, BUDGET)


def asked(**changes: object) -> RunSettings:
    settings = RunSettings(
        device="snapdragon8gen3",
        engine=None,
        space="decoder",
        budget=BUDGET,
        num_anchors=12,
        proxy=ProxySettings(),
    )
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


def test_anchors_differ_once_scaled_down_and_have_a_neutral_depth(decoder: BudgetedSpace) -> None:
    settings = asked()
    chosen = choose(decoder, settings, make_judge(settings))
    assert len(chosen) == 12
    proxies = [shrink(one, settings.proxy, reference_parameters=BUDGET) for one in chosen]
    assert len({candidate_id(one) for one in proxies}) == 12
    assert {one.ffn_type for one in chosen} == {"gated", "plain"}
    assert len({one.hidden_act for one in chosen}) == 4
    for one in chosen:
        best = log_best_aspect(non_embedding_parameters(one), tokens_per_parameter=100)
        assert abs(math.log(one.hidden_size / one.num_hidden_layers) - best) < 0.6


def test_the_choice_is_repeatable_and_tells_more_than_chance(decoder: BudgetedSpace) -> None:
    settings = asked()
    judge = make_judge(settings)
    chosen = choose(decoder, settings, judge)
    assert chosen == choose(decoder, settings, judge)

    def information(points: list[int] | None) -> float:
        some = chosen if points is None else [decoder.candidate(point) for point in points]
        proxies = [shrink(one, settings.proxy, reference_parameters=BUDGET) for one in some]
        rows = feature_rows(proxies, judge.short, judge.model.aspect)
        return log_information(rows, judge.model.prior.covariance, noise_sd=0.01)

    step = len(decoder) // 12
    assert information(None) > information(list(range(0, 12 * step, step))) + 1


def test_a_run_trains_its_anchors_once_and_judges_all_by_them(
    tmp_path: Path, settings: RunSettings, new_run: NewRun, cache: Path
) -> None:
    """Trainings this short have not begun to copy; as if they had, for what comes after."""
    asked_for = dataclasses.replace(settings, scored_by="anchors", num_anchors=6, trials=8)
    folder = new_run(tmp_path / "run", asked_for)
    prepared = prepare(asked_for, folder.space, folder.profile, cache_dir=cache, observer=Silent())
    with pytest.raises(ProxyError, match=r"Only 0 of 6 anchors can be used.*--proxy prior"):
        search(folder, prepared)
    path = folder.path / ANCHORS_FILE
    made = read_anchors(folder.path)
    continued = made[6:]
    length = asked_for.proxy.tokens
    assert [one.trained.tokens for one in made if one.trained] == [length] * 6 + [
        length * 3 // 2
    ] * 2
    for longer in continued:
        earlier = next(one for one in made if one.candidate == longer.candidate)
        assert earlier.trained is not None
        assert longer.trained is not None
        assert longer.trained.proxy == earlier.trained.proxy
    trained = path.read_text().replace('"passed_transition": false', '"passed_transition": true')
    path.write_text(trained)

    records = search(folder, prepared)

    assert path.read_text() == trained  # nothing was trained again
    assert len(records) == 8
    assert {record.score.kind for record in records if record.score} == {"anchors"}
    assert all(record.proxy is None for record in records)
    assert any(record.score.proxy != 0 for record in records if record.score)
    first = read_anchors(folder.path)[:4]
    path.write_text("".join(trained.splitlines(keepends=True)[:4]))

    more = dataclasses.replace(folder, settings=dataclasses.replace(asked_for, trials=9))
    with pytest.raises(ProxyError, match="Only 4 of 6"):
        search(more, prepared)

    again = read_anchors(folder.path)
    assert again[:4] == first
    assert len({candidate_id(one.candidate) for one in again}) == 6


def test_published_data_alone_need_no_training(
    tmp_path: Path, settings: RunSettings, new_run: NewRun, cache: Path
) -> None:
    asked_for = dataclasses.replace(settings, scored_by="prior", trials=8)
    folder = new_run(tmp_path / "run", asked_for)
    prepared = prepare(asked_for, folder.space, folder.profile, cache_dir=cache, observer=Silent())

    records = search(folder, prepared)

    assert [record.state for record in records] == ["complete"] * 8
    assert {record.score.kind for record in records if record.score} == {"prior"}
    assert not (folder.path / ANCHORS_FILE).exists()


def test_only_a_run_with_short_trainings_is_told_how_they_did_in_the_study(
    tmp_path: Path, settings: RunSettings, new_run: NewRun
) -> None:
    kinds: tuple[ScoreKind, ...] = ("prior", "anchors", "each")
    for kind in kinds:
        folder = new_run(tmp_path / kind, dataclasses.replace(settings, scored_by=kind))
        told = any("rank them roughly" in note for note in quality_report(folder).notes)
        assert told == (kind != "prior")


def test_a_damaged_file_of_anchors_is_named(tmp_path: Path) -> None:
    (tmp_path / ANCHORS_FILE).write_text('{"candidate": 3}\n')
    with pytest.raises(InvalidFileError, match=ANCHORS_FILE):
        read_anchors(tmp_path)
    (tmp_path / ANCHORS_FILE).write_text("{]\n")
    with pytest.raises(InvalidFileError, match="line 1 is not JSON"):
        read_anchors(tmp_path)


def anchor(number: int, gap: float, *, tokens: int = 1000) -> Anchor:
    candidate = Candidate(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=100 + number,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
    )
    loss = ProxyLoss(
        bits_per_byte=2.0,
        standard_error=0.02,
        passed_transition=gap > 0.3,
        copy_gap_nats=gap,
        tokens=tokens,
        seconds=1.0,
        proxy=as_dict(candidate),
        recipe={},
        curve=(),
    )
    return Anchor(candidate=candidate, trained=loss, reason=None)


def test_anchors_short_of_the_transition_are_gone_on_with_where_that_can_tell_something() -> None:
    """One alone says nothing, as its loss is of another length. Of twelve, three at most."""
    settings = asked(proxy=ProxySettings(tokens=1000))
    passed = [anchor(number, 0.5) for number in range(8)]
    assert to_continue([*passed, anchor(8, 0.2)], settings) == ()

    late = [anchor(number, gap) for number, gap in ((8, 0.05), (9, 0.2), (10, 0.1), (11, 0.15))]
    chosen = to_continue([*passed, *late], settings)

    assert chosen == tuple(late[place].candidate for place in (1, 3, 2))
    first = anchor(9, 0.4, tokens=1500)
    left = to_continue([*passed, *late, first], settings)
    assert left == tuple(late[place].candidate for place in (3, 2))
    rest = [anchor(number, 0.25, tokens=1500) for number in (10, 11)]
    assert to_continue([*passed, *late, first, *rest], settings) == ()


def test_an_anchor_alone_in_its_length_tells_nothing() -> None:
    """Five of one length and one that was gone on with, where six are needed."""
    five = [anchor(number, 0.5) for number in range(5)]
    alone = anchor(5, 0.5, tokens=1500)
    settings = dataclasses.replace(asked(), num_anchors=12)
    with pytest.raises(ProxyError, match="Only 5 of 6 anchors"):
        require_enough([*five, alone], settings)
    assert len(usable([*five, alone])) == 5
    two = [alone, anchor(6, 0.5, tokens=1500)]
    assert len(usable([*five, *two])) == 7
    require_enough([*five, *two], settings)


def test_too_few_anchors_are_refused_with_the_reason_of_the_first_that_failed(
    decoder: BudgetedSpace,
) -> None:
    failed = Anchor(candidate=decoder.candidate(0), trained=None, reason="Memory ran out.")
    with pytest.raises(ProxyError, match=r"Only 0 of 1 anchors.*First reason: Memory ran out"):
        require_enough([failed], asked())
