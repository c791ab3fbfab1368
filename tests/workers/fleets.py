"""Runs whose trials take milliseconds, and workers for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

import phonesearch
from phonesearch.catalog import resolve
from phonesearch.proxy.settings import ProxySettings
from phonesearch.space.grid import BudgetedSpace
from phonesearch.study.folder import RunFolder, create
from phonesearch.study.limits import Limits
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import Prepared, prepare
from phonesearch.study.settings import Fleet, RunSettings
from phonesearch.study.shared import fleet_of, publish, shared_study
from phonesearch.study.storage import STORAGE_VARIABLE, masked
from phonesearch.study.store import RECORD
from phonesearch.study.worker import Tools, Worker

LINES = [
    f"def f{n}(x, y={n % 7}):\n    total = x * {n} + y\n    return total - {n % 13}\n\n"
    for n in range(6000)
]
SOURCE = str(Path(phonesearch.__file__).parents[1])


def quick_settings(**changes: Any) -> RunSettings:
    settings = RunSettings(
        device="snapdragon8gen3",
        engine=None,
        space="phonelm",
        budget=1_500_000_000,
        trials=12,
        sampler="random",
        scored_by="prior",
        proxy=ProxySettings(),
    )
    return replace(settings, **changes)


_SOLVED: dict[tuple[str, int], BudgetedSpace] = {}


def solved(settings: RunSettings, folder: RunFolder, cache: Path) -> Prepared:
    """As `prepare`, which takes seconds, but once for each space."""
    key = settings.space, settings.budget
    if key not in _SOLVED:
        prepared = prepare(
            settings, folder.space, folder.profile, cache_dir=cache, observer=Silent()
        )
        _SOLVED[key] = prepared.space
    limits = Limits(settings, folder.profile)
    return Prepared(space=_SOLVED[key], limits=limits, corpus=None, trainings=cache)


@dataclass(frozen=True, kw_only=True)
class QuickRun:
    url: str
    folder: RunFolder
    prepared: Prepared
    opened: ExitStack

    @classmethod
    def make(
        cls,
        path: Path,
        url: str,
        opened: ExitStack,
        *,
        fleet: Mapping[str, Any] = {},
        **changes: Any,
    ) -> QuickRun:
        settings = quick_settings(**changes)
        fast = {"study": "quick", "heartbeat_s": 1, "grace_s": 3, **(fleet or {})}
        settings = replace(settings, fleet=Fleet(storage=masked(url), **fast))
        folder = create(
            path,
            settings,
            space_file=resolve(settings.space, "search_spaces"),
            device_file=resolve(settings.device, "device_profiles"),
        )
        prepared = solved(settings, folder, path)
        publish(folder, prepared, url)
        return cls(url=url, folder=folder, prepared=prepared, opened=opened)

    def study(self) -> optuna.Study:
        """A look at it of its own, until the test is over."""
        fleet = fleet_of(self.folder.settings)
        return self.opened.enter_context(shared_study(self.url, fleet.study, fleet=fleet))

    def worker(self, name: str = "one", **tools: Any) -> Worker:
        """In this process, with a look at the database of its own."""
        made = Tools(**{"name": name, "train": None, "meter": None, **tools})
        return Worker(self.study(), self.folder, self.prepared, tools=made, observer=Silent())

    def records(self) -> dict[int, dict[str, Any]]:
        """By number of the trial, as stored."""
        return {
            trial.number: json.loads(trial.user_attrs[RECORD])
            for trial in self.study().get_trials(deepcopy=False)
            if RECORD in trial.user_attrs
        }


def environment(url: str | None = None) -> dict[str, str]:
    found = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    found.pop(STORAGE_VARIABLE, None)
    return found if url is None else {**found, STORAGE_VARIABLE: url}


def start_worker(url: str, study: str = "quick", *more: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "phonesearch.cli", "worker", "--study", study, *more],
            env=environment(url),
            stderr=stream,
            stdout=stream,
        )


def check_counts(run: QuickRun, wanted: int) -> None:
    """Exactly so many results, each of an architecture of its own, and nobody under way."""
    records = run.records()
    assert len(records) == wanted
    assert len({record["candidate_id"] for record in records.values()}) == wanted
    assert all(number == record["number"] for number, record in records.items())
    for trial in run.study().get_trials(deepcopy=False):
        assert trial.state.is_finished()
        assert (trial.number in records) or trial.state == optuna.trial.TrialState.FAIL
        if records.get(trial.number, {}).get("state") == "complete":
            assert trial.state == optuna.trial.TrialState.COMPLETE
