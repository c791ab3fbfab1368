from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.catalog import names
from phonesearch.cli import app


def test_every_profile_is_listed_with_its_error() -> None:
    shown = CliRunner().invoke(app, ["device", "list"]).stdout
    for name in names("device_profiles"):
        assert name in shown
    assert "models" in shown
    assert "% off" in shown
    assert "also raspberrypi5, pi5" in shown


def test_a_profile_is_shown_with_its_sources() -> None:
    shown = CliRunner().invoke(app, ["device", "show", "snapdragon8gen3"]).stdout
    assert "source:" in shown
    assert "memory_bandwidth_bytes_per_s" in shown


def test_every_space_is_listed() -> None:
    shown = CliRunner().invoke(app, ["space", "list"]).stdout
    for name in names("search_spaces"):
        assert name in shown


def test_a_space_tells_what_meets_a_budget() -> None:
    shown = CliRunner().invoke(app, ["space", "show", "tiny", "--budget", "300k"]).stdout
    assert "architectures within 1 %" in shown


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["space", "show", "decodr"], "Did you mean 'decoder'"),
        (["space", "show", "tiny", "--budget", "1.5G"], "--budget"),
        (["space", "show", "decoder", "--budget", "1M"], "nearest reachable budget"),
        (["space", "show", "tiny", "--budget", "300k", "--count", "all"], "non-embedding"),
        (["device", "show", "pixel"], "device list"),
    ],
)
def test_what_is_typed_wrong_is_one_message(typed: list[str], message: str) -> None:
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_malformed_space_tells_all_its_problems(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndepth: 3\nhidden_size: wide\n")
    done = CliRunner().invoke(app, ["space", "show", str(path)])
    assert done.exit_code == 1
    for problem in ("mine.yaml", "depth: there is no such field", "hidden_size", "required"):
        assert problem in done.stderr


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phonesearch.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("phonesearch ")
