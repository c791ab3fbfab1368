"""Members of a front that are trained on: which, and that they go on from where they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from front_records import trained

from phonesearch.catalog import resolve
from phonesearch.front.longer import train_longer, wanting
from phonesearch.front.pareto import front, outstanding
from phonesearch.proxy.settings import ProxySettings
from phonesearch.report.build import build
from phonesearch.study.deadline import REPORT_S, Deadline
from phonesearch.study.folder import RunFolder, create
from phonesearch.study.later import LONGER_FILE, read_later
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import Prepared, prepare
from phonesearch.study.record import Dropped, TrialRecord
from phonesearch.study.run import search
from phonesearch.study.settings import RunSettings
from phonesearch.study.store import read_records

SETTINGS = RunSettings(
    device="snapdragon8gen3",
    engine=None,
    space="tiny",
    budget=300_000,
    trials=4,
    jobs=2,
    scored_by="each",
    proxy=ProxySettings(
        parameters=20_000,
        tokens=2_048,
        context_length=32,
        vocab_size=300,
        validation_windows=16,
        warmup_steps=2,
    ),
)
GONE = Dropped(
    tokens=1,
    of_tokens=2_048,
    log_loss=1.0,
    sd=0.01,
    behind=0.1,
    behind_at_best=0.05,
    confidence=0.95,
    beaten_by=0,
)


def given_up(count: int, first: int) -> list[TrialRecord]:
    """Trials that left nearly all of their tokens."""
    return [
        trained(number, 5.0, 2.0, state="dropped", score=None, proxy=None, dropped=GONE)
        for number in range(first, first + count)
    ]


def bent(count: int) -> list[TrialRecord]:
    """A front of that many, of which the third from the fast end bends it."""
    return [
        trained(n, 100.0 - 10 * n, 3.0 - 0.1 * n - (0.5 if n >= 2 else 0.0)) for n in range(count)
    ]


def test_those_that_stand_out_are_trained_on_as_far_as_the_tokens_go() -> None:
    """Half of eight trainings pays for three that go on from 70 % to twice the tokens."""
    records = [*bent(6), *given_up(8, first=6)]
    found = front(records, "decode")
    assert (found.recommended, found.knee, found.fastest) == (5, 2, 0)
    chosen = [record.number for record in wanting(records, SETTINGS, ())]
    assert chosen == [5, 2, 0]
    assert [record.number for record in wanting(records, SETTINGS, {5, 2})] == [0]
    assert wanting(records, SETTINGS, {5, 2, 0}) == ()
    assert len(wanting(records, SETTINGS, (), most=2)) == 2
    assert wanting(records, SETTINGS, (), most=1) == ()  # one alone would tell nothing
    assert wanting(bent(6), SETTINGS, ()) == ()
    assert outstanding(found, 5) == (5, 2, 0, 1, 4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[RunFolder, Prepared]:
    """Four candidates whose proxies were trained."""
    folder = create(
        tmp_path_factory.mktemp("longer") / "run",
        SETTINGS,
        space_file=resolve("tiny", "search_spaces"),
        device_file=resolve("snapdragon8gen3", "device_profiles"),
    )
    prepared = prepare(SETTINGS, folder.space, folder.profile, cache_dir=cache, observer=Silent())
    search(folder, prepared)
    return folder, prepared


class Seen(Silent):
    """Remembers from where each training went on."""

    def __init__(self) -> None:
        self.first: dict[int, int] = {}

    def training_anchor(self, number: int, tokens: int, total_tokens: int) -> None:
        assert total_tokens == 4_096
        self.first.setdefault(number, tokens)


def test_they_go_on_from_their_first_training_and_are_kept(
    run: tuple[RunFolder, Prepared], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings this short have not begun to copy, so the records are told that they had."""
    folder, prepared = run

    def read(folder: RunFolder) -> tuple[TrialRecord, ...]:
        records = [
            dataclasses.replace(
                record, proxy=dataclasses.replace(record.proxy, passed_transition=True)
            )
            for record in read_records(folder)
            if record.proxy is not None
        ]
        return (*records, *given_up(40, first=4))

    monkeypatch.setattr("phonesearch.front.longer.read_records", read)
    members = {point.number for point in front(read(folder), "decode").members}
    assert len(members) > 1
    assert len(list(cache.rglob("*.trunk"))) == 4
    seen = Seen()
    train_longer(folder, prepared, observer=seen)

    kept = read_later(folder.path, LONGER_FILE)
    assert {one.number for one in kept} >= members
    assert all(one.training.trained and one.training.trained.tokens == 4_096 for one in kept)
    assert set(seen.first) == {one.number for one in kept}
    assert min(seen.first.values()) > 0.6 * 2_048  # a state before the learning rate came down
    assert list(cache.rglob("*.trunk")) == []
    again = Seen()
    train_longer(folder, prepared, observer=again)
    assert again.first == {}

    page = build(folder).report.read_text()
    assert "were trained on towards 4.10k tokens" in page
    assert "no score rests on them" in page
    path = folder.path / LONGER_FILE
    path.write_text(
        path.read_text().replace('"passed_transition": false', '"passed_transition": true')
    )
    assert f"{len(kept)} of these losses are used" in build(folder).report.read_text()
    told = {record.number: record.longer for record in read_records(folder)}
    assert {number for number, longer in told.items() if longer} == {one.number for one in kept}

    path.unlink()
    train_longer(folder, prepared, observer=again, deadline=Deadline(time_s=REPORT_S))
    assert again.first == {}  # no time was left
