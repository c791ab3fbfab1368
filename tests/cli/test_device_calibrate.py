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
