"""Candidates that are trained after the search, and what the other trainings make of them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app
from phonesearch.errors import InvalidFileError, SettingsError
from phonesearch.proxy.corpus import load_corpus
from phonesearch.report.build import build
from phonesearch.study.check import CHECKS_FILE, held_against, read_checks, train_checks
from phonesearch.study.folder import RunFolder
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.run import search
from phonesearch.study.settings import RunSettings
from phonesearch.study.store import read_records

NewRun = Callable[[Path, RunSettings], RunFolder]


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, settings: RunSettings, new_run: NewRun, cache: Path
) -> RunFolder:
    """Eight candidates, judged by published data alone."""
    asked_for = dataclasses.replace(settings, scored_by="prior", trials=8)
    folder = new_run(tmp_path_factory.mktemp("checked") / "run", asked_for)
    prepared = prepare(asked_for, folder.space, folder.profile, cache_dir=cache, observer=Silent())
    search(folder, prepared)
    return folder


def checked(run: RunFolder, cache: Path, numbers: tuple[int, ...]) -> None:
    train_checks(
        run,
        [record for record in read_records(run) if record.number in numbers] if numbers else [],
        load_corpus(run.settings.proxy, cache_dir=cache),
        trainings=cache,
        jobs=2,
        observer=Silent(),
    )


def test_a_check_is_held_against_all_others(run: RunFolder, cache: Path) -> None:
    """Trainings this short have not begun to copy; then as if they had, one of them a tenth
    worse than it was."""
    checked(run, cache, (0, 1, 2))
    assert all(one.against is None for one in held_against(run, read_checks(run.path)))
    assert "can be held against others" in build(run).report.read_text()
    path = run.path / CHECKS_FILE
    path.write_text(
        path.read_text().replace('"passed_transition": false', '"passed_transition": true')
    )
    kept = path.read_text()

    checked(run, cache, (0, 1, 2, 3))

    assert path.read_text().startswith(kept)  # nothing was trained again
    path.write_text(
        path.read_text().replace('"passed_transition": false', '"passed_transition": true')
    )
    before = held_against(run, read_checks(run.path))
    assert [one.check.number for one in before] == [0, 1, 2, 3]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    worse = next(line for line in lines if line["number"] == 2)
    worse["training"]["trained"]["bits_per_byte"] *= 1.1
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    after = held_against(run, read_checks(run.path))

    moved = {
        one.check.number: one.against.error - earlier.against.error
        for one, earlier in zip(after, before, strict=True)
        if one.against is not None and earlier.against is not None
    }
    assert moved[2] == pytest.approx(0.0953, abs=1e-3)  # log 1.1; the noise is relative
    others = [moved[number] for number in (0, 1, 3)]
    assert sum(others) < 0
    assert max(map(abs, others)) < moved[2]
    page = re.sub(r"<[^>]+>", "", build(run).report.read_text())
    assert "Candidates trained as a check" in page
    assert re.search(r"[0-3] of 4 are within the", page)


def test_a_damaged_file_of_checks_is_named(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / CHECKS_FILE).write_text('{"number": 3}\n')
    with pytest.raises(InvalidFileError, match=CHECKS_FILE):
        read_checks(tmp_path)


def test_a_run_that_trained_every_candidate_has_nothing_to_check(
    tmp_path: Path, settings: RunSettings, new_run: NewRun, cache: Path
) -> None:
    with pytest.raises(SettingsError, match="nothing to check"):
        checked(new_run(tmp_path / "run", settings), cache, ())


def test_what_is_typed_is_refused_in_one_message(
    run: RunFolder, tmp_path: Path, settings: RunSettings, new_run: NewRun
) -> None:
    new = new_run(tmp_path / "new", dataclasses.replace(settings, scored_by="prior")).path
    for typed, message in (
        ([str(run.path), "--trial", "99"], "has no finished trial 99; it has 0 to "),
        ([str(new)], "has no trials yet. Go on with it"),
        ([str(tmp_path)], "error:"),
    ):
        done = CliRunner().invoke(app, ["check", *typed])
        assert done.exit_code == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_trains_what_stands_out_and_says_how_it_did(
    run: RunFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonesearch.cli.console.cache_dir", lambda: cache)
    (run.path / CHECKS_FILE).unlink(missing_ok=True)

    done = CliRunner().invoke(app, ["check", str(run.path), "--jobs", "1"])

    assert done.exit_code == 0, done.stderr
    front = {point.number for point in build(run).front.members}
    numbers = {check.number for check in read_checks(run.path)}
    assert numbers <= front
    assert len(numbers) == min(len(front), 6)
    assert all(f"trial {number}:" in done.stdout for number in numbers)
    assert "has not learned to copy yet, says nothing" in done.stdout
