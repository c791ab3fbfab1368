from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch import files
from phonesearch.catalog import resolve
from phonesearch.device.profile import read_profile
from phonesearch.errors import SettingsError
from phonesearch.proxy.settings import ProxySettings
from phonesearch.space.schema import SearchSpace
from phonesearch.study.deadline import FEWEST_TRIALS, REPORT_S, Deadline
from phonesearch.study.folder import create
from phonesearch.study.observer import Silent
from phonesearch.study.plan import plan
from phonesearch.study.prepare import prepare
from phonesearch.study.run import search
from phonesearch.study.settings import RunSettings


class Clock:
    """Goes on by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_time_is_kept_for_the_report_and_the_search() -> None:
    clock = Clock()
    deadline = Deadline(time_s=1000.0, clock=clock)
    assert deadline.left_s == 1000.0 - REPORT_S
    assert deadline.anchors_s == pytest.approx(1000.0 - REPORT_S - 200.0)
    clock.now_s += 900
    assert deadline.left_s == pytest.approx(100.0 - REPORT_S)
    assert deadline.anchors_s == 0


def test_what_would_end_too_late_is_not_begun() -> None:
    clock = Clock()
    deadline = Deadline(time_s=100.0 + REPORT_S, clock=clock)
    deadline.took(30.0)
    assert not deadline.is_over
    clock.now_s += 75
    assert deadline.is_over
    assert not Deadline(time_s=100.0 + REPORT_S, clock=clock).is_over


def test_time_is_kept_for_longer_trainings() -> None:
    deadline = Deadline(time_s=100.0 + REPORT_S, clock=Clock())
    deadline.took(30.0)
    deadline.reserved_s = 71.0
    assert deadline.is_over
    assert deadline.left_s == 100.0


TIMED = RunSettings(
    device="snapdragon8gen3",
    engine=None,
    space="tiny",
    budget=300_000,
    trials=2000,
    time_s=1000.0,
    scored_by="prior",
    sampler="random",
    proxy=ProxySettings(),
)


def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """Each look at the clock takes a second, so time is over after some hundred."""
    clock = Clock()

    def ticking() -> float:
        clock.now_s += 1.0
        return clock.now_s

    space_file = resolve("tiny", "search_spaces")
    device_file = resolve("snapdragon8gen3", "device_profiles")
    folder = create(tmp_path / "run", TIMED, space_file=space_file, device_file=device_file)
    prepared = prepare(TIMED, folder.space, folder.profile, cache_dir=tmp_path, observer=Silent())
    records = search(folder, prepared, deadline=Deadline(time_s=60.0, clock=ticking))
    assert FEWEST_TRIALS <= len(records) < 100
    over = Deadline(time_s=1.0, clock=ticking)
    again = create(tmp_path / "late", TIMED, space_file=space_file, device_file=device_file)
    assert len(search(again, prepared, deadline=over)) == FEWEST_TRIALS


def test_without_time_for_anchors_published_data_judge(tmp_path: Path, text_folder: Path) -> None:
    settings = replace(
        TIMED,
        scored_by="anchors",
        proxy=ProxySettings(
            parameters=20_000,
            tokens=200_000,
            context_length=32,
            vocab_size=300,
            data=(str(text_folder),),
        ),
    )
    space = files.read(resolve("tiny", "search_spaces"), SearchSpace)
    profile = read_profile(str(resolve("snapdragon8gen3", "device_profiles")))
    prepared = prepare(settings, space, profile, cache_dir=tmp_path, observer=Silent())
    planned = plan(
        settings,
        prepared,
        time_s=900.0,
        must_fit=False,
        observer=Silent(),
        deadline=Deadline(time_s=REPORT_S + 1.0),
    )
    assert planned.scored_by == "prior"


def test_what_is_measured_afterwards_keeps_no_time() -> None:
    with pytest.raises(SettingsError, match="measuring its front afterwards"):
        replace(TIMED, measure_on="adb")
