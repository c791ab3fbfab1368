"""Runs that are given a time, and runs that give trainings up, as somebody types them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from phonesearch.cli import app
from phonesearch.study.deadline import FEWEST_TRIALS

TINY = ["--space", "tiny", "--budget", "300k"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Corpora of these tests stay out of the user's own cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def test_a_run_is_given_more_time_when_it_is_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*TINY, "--proxy", "prior", "--sampler", "random", "--out", str(out)]
    done = CliRunner().invoke(app, ["run", *options, "--time", "1s"])
    assert done.exit_code == 0, done.output
    assert "The time that the run was given is over" in done.stderr
    first = len(pd.read_csv(out / "trials.csv"))
    assert first >= FEWEST_TRIALS  # they take no time that counts

    done = CliRunner().invoke(app, ["run", "--resume", str(out), "--time", "23s"])
    assert done.exit_code == 0, done.output
    assert "It gets 23 s from now on" in done.stderr
    assert " of 2000" not in done.stderr
    assert len(pd.read_csv(out / "trials.csv")) > first
    done = CliRunner().invoke(app, ["run", "--resume", str(out), "--trials", "2000"])
    assert done.exit_code == 1
    assert "was given a time and no number of candidates" in done.stderr


def test_a_run_of_so_many_candidates_is_given_no_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*TINY, "--proxy", "prior", "--sampler", "random", "--trials", "4"]
    assert CliRunner().invoke(app, ["run", *options, "--out", str(out)]).exit_code == 0
    done = CliRunner().invoke(app, ["run", "--resume", str(out), "--time", "5m"])
    assert done.exit_code == 1
    assert "was asked for 4 candidates and given no time" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_trainings_are_given_up_and_what_they_leave_is_used(tmp_path: Path) -> None:
    """Short random lines, each said twelve times, teach copying within seconds, so that most
    trainings may be ranked."""
    generator = random.Random(0)
    text = tmp_path / "text"
    text.mkdir()
    for part in range(40):
        lines = ["".join(generator.choices("abcdefghijklmnop ", k=12)) + "\n" for _ in range(150)]
        (text / f"{part}.txt").write_text("".join(line * 12 for line in lines))
    out = tmp_path / "run"
    options = [*TINY, "--proxy", "each", "--data", str(text), "--sampler", "random"]
    options += ["--proxy-parameters", "20k", "--proxy-tokens", "120k", "--trials", "30"]
    done = CliRunner().invoke(app, ["run", *options, "--jobs", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output

    table = pd.read_csv(out / "trials.csv")
    dropped, members = table[table.state == "dropped"], table[table.on_front]
    left = (1 - dropped.dropped_after_tokens / table.proxy_tokens.max()).sum()
    assert left > 2  # enough for a candidate more
    assert len(table) >= 30 + int(0.5 * left)
    assert members.proxy_tokens.nunique() == 1
    assert dropped.reason.str.contains("at the good end of what may come").all()
    assert set(table.longer_tokens.dropna()) <= {2 * 120_000 // 256 * 256}
    assert (dropped.dropped_expected_log_loss_sd >= 0).all()
    assert dropped.dropped_expected_log_loss_sd.median() > 0
    assert f"of {len(table)} candidates" in done.stderr
    page = (out / "report.html").read_text()
    assert "given up early" in page
    assert ("trained on towards" in page) == bool(table.longer_tokens.notna().any())
