"""`phonesearch quality`: what it prints of the law, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app
from phonesearch.quality.shipped import read_law, shipped_law

PLACES = (Path(__file__).parents[3] / "shared", Path(__file__).parents[2] / "shared")


@pytest.fixture
def table() -> Path:
    for place in PLACES:
        path = place / "shape_loss" / "tables.csv"
        if path.is_file():
            return path
    pytest.skip("no shared/shape_loss/tables.csv here")


def test_the_shipped_law_is_shown_with_its_errors_and_sources() -> None:
    done = CliRunner().invoke(app, ["quality", "show"])
    assert done.exit_code == 0
    for wanted in ("arXiv 2502.06857", "arXiv 2501.18107", "MIT", "sandwich", "1.50B parameters"):
        assert wanted in done.stdout
    assert shipped_law().table_sha256 in done.stdout


def test_a_longer_horizon_moves_the_best_shape_deeper() -> None:
    best = []
    for horizon in ("20", "100", "700"):
        done = CliRunner().invoke(app, ["quality", "show", "--horizon", horizon, "--json"])
        content = json.loads(done.stdout)
        best.append(content["best_width_over_depth"]["joint"])
        assert len(content["log_loss_penalty"]["joint"]) == len(content["width_over_depth"])
    # proxy.md 2.2: 87, 55 and 31.
    assert best == pytest.approx([87, 55, 31], rel=0.05)


def test_a_fit_says_that_the_shipped_law_is_what_it_gives(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "law.json"
    done = CliRunner().invoke(app, ["quality", "fit", str(table), "--out", str(out)])
    assert done.exit_code == 0
    assert "The shipped law is what this table gives." in done.stdout
    assert read_law(out).table_sha256 == shipped_law().table_sha256


def test_a_fit_of_another_table_says_what_differs(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(table.read_text(encoding="utf-8").replace("4.9619", "4.9719"))
    done = CliRunner().invoke(app, ["quality", "fit", str(other), "--json"])
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert "table_sha256" in content["differs_from_shipped"]
    assert "morph.aspect.curvature" in content["differs_from_shipped"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nowhere.csv"], "nowhere.csv is not valid:\n  - cannot be read"),
        (["fit", "t.csv", "--out", "law.yaml"], "--out: must end in .json"),
        (["fit", "t.csv", "--out", "/nowhere/law.json"], "there is no folder"),
        (["show", "--parameters", "many"], "--parameters: expected a number such as 1.5B"),
    ],
)
def test_what_cannot_be_done_is_one_message(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["quality", *arguments])
    assert done.exit_code == 1
    assert message in done.stderr
