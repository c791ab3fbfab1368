"""`phonesearch device calibrate`: what it refuses. The work behind it is tested in `timing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app


@pytest.mark.parametrize(
    ("machine", "out", "said"),
    [
        ("moon", "mine.yaml", "can be calibrated, got 'moon'"),
        ("adb:", "mine.yaml", "can be calibrated, got 'adb:'"),
        ("host", "mine.txt", "end in .yaml"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_anything_runs(
    tmp_path: Path, machine: str, out: str, said: str
) -> None:
    found = CliRunner().invoke(app, ["device", "calibrate", machine, "--out", str(tmp_path / out)])

    assert found.exit_code != 0
    assert said in found.output
    assert not list(tmp_path.iterdir())


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "mine.yaml")

    found = CliRunner().invoke(app, ["device", "calibrate", "host", "--out", out, "--threads=9999"])

    assert found.exit_code == 1
    assert "`--threads` must be at most" in found.output
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_message_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "mine.yaml")

    found = CliRunner().invoke(app, ["device", "calibrate", "host", "--out", out])

    assert found.exit_code == 1
    assert "cannot be written" in found.output
    assert "Give another `--out`" in found.output
