"""Runs with workers that were given a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import pytest
from fleets import QuickRun

from phonesearch.study.coordinate import search_together
from phonesearch.study.crew import Crew
from phonesearch.study.deadline import FEWEST_TRIALS, REPORT_S, Deadline
from phonesearch.study.folder import RunFolder
from phonesearch.study.ledger import Ledger
from phonesearch.study.observer import Silent
from phonesearch.study.record import TrialRecord
from phonesearch.study.shared import is_closed
from phonesearch.study.storage import STORAGE_VARIABLE

Quick = Callable[..., QuickRun]


class Threads:
    """A crew of two in this process; it stops nobody."""

    def __init__(self, run: QuickRun) -> None:
        self.threads = [
            threading.Thread(target=run.worker(name).work, daemon=True) for name in ("one", "two")
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thread in self.threads:
            thread.join(30)

    def tend(self, taken: Mapping[str, int], finished: Mapping[str, int]) -> tuple[str, ...]:
        return ()


def search(run: QuickRun, *, seconds: float) -> tuple[tuple[TrialRecord, ...], Threads]:
    crew = Threads(run)

    def make(folder: RunFolder, url: str) -> Crew:
        return crew

    records = search_together(
        run.folder,
        run.prepared,
        observer=Silent(),
        make_crew=make,
        deadline=Deadline(time_s=REPORT_S + seconds),
    )
    return records, crew


@pytest.mark.crowd
def test_workers_begin_nothing_when_the_time_is_over_and_go_on_when_it_is_resumed(
    quick: Quick, any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, any_url)
    run = quick(any_url, trials=2000, time_s=60.0)
    records, crew = search(run, seconds=2.0)
    assert not any(thread.is_alive() for thread in crew.threads)
    assert is_closed(run.study())
    assert FEWEST_TRIALS <= len(records) < 2000
    assert len(records) == len(run.study().get_trials(deepcopy=False))

    more, _ = search(run, seconds=2.0)
    assert len(records) < len(more) < 2000


@pytest.mark.crowd
def test_a_trial_that_takes_too_long_is_not_waited_for(
    quick: Quick, any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, any_url)
    run = quick(any_url, trials=2000, time_s=60.0, fleet={"grace_s": 50})
    taken = Ledger(run.study(), 2000).take("slow")
    assert taken is not None
    begun_s = time.monotonic()
    records, _ = search(run, seconds=4.0)
    assert time.monotonic() - begun_s < 30
    assert taken.number not in [record.number for record in records]
    assert len(records) >= FEWEST_TRIALS
