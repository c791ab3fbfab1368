from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.errors import InvalidFileError, RunFolderError
from phonesearch.study.folder import RunFolder, open_folder, raise_trials
from phonesearch.study.settings import RunSettings
from phonesearch.study.store import read_records

NewRun = Callable[[Path, RunSettings], RunFolder]


def test_a_run_is_read_back_as_it_was_made(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    made = new_run(tmp_path / "run", settings)
    assert open_folder(tmp_path / "run") == made
    assert made.settings == settings
    assert made.profile.name == "snapdragon8gen3"
    assert {"torch", "onnxruntime", "optuna", "platform"} <= made.environment.keys()


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_is(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="not empty"):
        new_run(tmp_path, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_folder_of_another_run_is_refused_with_the_way_to_go_on(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    new_run(tmp_path / "run", settings)
    before = (tmp_path / "run" / "settings.yaml").read_bytes()
    with pytest.raises(RunFolderError, match=r"holds another run.*--resume"):
        new_run(tmp_path / "run", replace(settings, seed=1))
    assert (tmp_path / "run" / "settings.yaml").read_bytes() == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no settings\.yaml"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["space.yaml", "device.yaml"])
def test_a_changed_copy_is_noticed(
    settings: RunSettings, tmp_path: Path, name: str, new_run: NewRun
) -> None:
    run = new_run(tmp_path / "run", settings)
    with (run.path / name).open("a") as stream:
        stream.write("# changed\n")
    with pytest.raises(RunFolderError, match=f"{name} was changed"):
        open_folder(run.path)


def test_damaged_settings_tell_the_field(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    run = new_run(tmp_path / "run", settings)
    text = (run.path / "settings.yaml").read_text()
    (run.path / "settings.yaml").write_text(text.replace("trials: 4", "trials: many"))
    with pytest.raises(InvalidFileError, match="trials"):
        open_folder(run.path)


def test_more_trials_change_nothing_else(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    run = new_run(tmp_path / "run", settings)
    raise_trials(run, 9)
    assert open_folder(run.path).settings == replace(settings, trials=9)


def test_a_run_without_trials_says_how_to_go_on(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    run = new_run(tmp_path / "run", settings)
    with pytest.raises(RunFolderError, match="--resume"):
        read_records(run)


def test_a_damaged_database_is_one_message(
    settings: RunSettings, tmp_path: Path, new_run: NewRun
) -> None:
    run = new_run(tmp_path / "run", settings)
    (run.path / "study.db").write_bytes(b"this is no database, whatever its name" * 100)
    with pytest.raises(RunFolderError, match=r"study\.db cannot be opened"):
        read_records(run)
