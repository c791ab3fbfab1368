"""Workers that Ray places, in an environment of their own: `make ray`."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fleets import SOURCE, QuickRun, check_counts

from phonesearch.errors import SettingsError, WorkerError
from phonesearch.study.coordinate import search_together
from phonesearch.study.folder import RunFolder
from phonesearch.study.observer import Silent
from phonesearch.study.on_ray import RayCrew, check_ray
from phonesearch.study.settings import Fleet
from phonesearch.study.shared import fleet_of
from phonesearch.study.storage import STORAGE_VARIABLE

Quick = Callable[..., QuickRun]
FLEET = Fleet(study="any", workers=2, ray="auto")


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r'pip install "phonesearch\[ray\]"'):
        check_ray(FLEET)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        (FLEET, "cannot reach a file of this machine"),
        (replace(FLEET, storage="sqlite:////tmp/a.db"), "cannot reach a file of this machine"),
        (replace(FLEET, workers=0), "give their number with --workers"),
    ],
)
def test_what_cannot_work_is_refused(
    fleet: Fleet, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(SettingsError, match=message):
        check_ray(fleet)
    check_ray(replace(FLEET, ray="local"))
    check_ray(replace(FLEET, storage="postgresql+psycopg://me:***@host/db"))


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # what Ray and its libraries leave open and warn of
def test_two_workers_of_which_each_is_killed_once(
    quick: Quick, any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process itself the first time, Ray's own that looks after it the second."""
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    monkeypatch.setenv(STORAGE_VARIABLE, any_url)
    run = quick(any_url, trials=60, fleet={"workers": 2, "ray": "local", "grace_s": 4})
    killed: list[str] = []

    def kill() -> None:
        study = run.study()
        while len(killed) < 2:
            time.sleep(0.1)
            trials = study.get_trials(deepcopy=False)
            working = [trial for trial in trials if trial.state.name == "RUNNING"]
            if len(trials) < 10 * (1 + len(killed)) or not working:
                continue
            name = str(working[-1].user_attrs.get("worker", ""))
            if not name or name in killed:
                continue
            pid = int(name.rsplit("-", 2)[-2])
            try:
                if killed:
                    pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
            killed.append(name)

    def crew(folder: RunFolder, url: str) -> RayCrew:
        return RayCrew(fleet_of(folder.settings), folder.path, url=url, on_gpus=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    records = search_together(run.folder, run.prepared, observer=Silent(), make_crew=crew)
    assert len(killed) == 2
    killer.join(10)
    assert len(records) == 60
    check_counts(run, 60)
    names = {str(one.user_attrs.get("worker")) for one in run.study().get_trials(deepcopy=False)}
    assert len(names) >= 3


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # what Ray and its libraries leave open and warn of
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    fleet = Fleet(study="any", workers=1, ray="127.0.0.1:1", storage="postgresql+psycopg://h/d")
    crew = RayCrew(fleet, tmp_path, url="postgresql+psycopg://h/d", on_gpus=False)
    with pytest.raises(WorkerError, match=r"no Ray cluster at '127.0.0.1:1'"), crew:
        pass
