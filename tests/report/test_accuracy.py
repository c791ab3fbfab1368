"""The page of device accuracy: it is what its command gives, and says only what was worked out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch import catalog
from phonesearch.device.engine_match import FAMILIES
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.score import Case, score
from phonesearch.device.speed_table import MODEL_COLUMNS, SPEED_COLUMNS
from phonesearch.report.accuracy import (
    PAGE,
    differing_files,
    digest_of,
    main,
    shipped_cases,
    write_page,
)
from phonesearch.report.accuracy_format import cell, counted, percent, rate, signed
from phonesearch.report.accuracy_goals import goals
from phonesearch.report.accuracy_text import page_text, plot_name

DOCS = Path(__file__).parents[2] / "docs"
PREDICTING = [name for name in catalog.names("device_profiles") if name not in ("adb", "host")]

Shipped = dict[str, tuple[DeviceProfile, tuple[Case, ...]]]


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return shipped_cases()


@pytest.fixture(scope="module")
def text(shipped: Shipped) -> str:
    return page_text(shipped)


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its two head lines."""
    below = text[text.index(f"\n## {heading}\n") :]
    lines = re.search(r"(?:^\|.*\n)+", below, flags=re.MULTILINE)
    assert lines
    return [
        [word.strip() for word in line.strip("|").split(" | ")]
        for line in lines.group().splitlines()[2:]
    ]


def test_the_committed_page_is_what_the_command_gives() -> None:
    assert differing_files(DOCS) == [], "run `make accuracy`"


def test_every_shipped_profile_has_a_table_and_a_plot(shipped: Shipped, text: str) -> None:
    assert list(shipped) == PREDICTING
    for name in PREDICTING:
        assert f"\n## {name}\n" in text
        assert f"]({plot_name(name)})" in text
        assert (DOCS / plot_name(name)).exists()


def test_the_overview_has_every_engine_and_phase_with_its_score(
    shipped: Shipped, text: str
) -> None:
    rows = table_rows(text, "All profiles")
    wanted = [
        (name, engine, phase)
        for name in PREDICTING
        for engine in read_profile(name).engines
        for phase in ("decode", "prefill")
    ]
    assert len(rows) == len(wanted)
    for row, (name, engine, phase) in zip(rows, wanted, strict=True):
        own = [c for c in shipped[name][1] if (c.engine, c.phase) == (engine, phase)]
        found = score(own)
        assert row[0] == f"[{name}](#{name})"
        assert (row[2], row[4]) == (engine, phase)
        if own:
            assert row[5:9] == [
                str(found.rows),
                str(found.models),
                percent(found.median_error),
                percent(found.p90_error),
            ]
            assert row[12] == percent(found.interval_coverage, digits=0)
        else:
            assert row[5] in ("prior", "no length", "one model")
            assert set(row[6:13]) == {"-"}


def test_every_left_out_figure_stands_in_the_table_of_its_profile(
    shipped: Shipped, text: str
) -> None:
    for name, (_, cases) in shipped.items():
        section = text[text.index(f"\n## {name}\n") :]
        section = section[: section.index("</details>")]
        for case in cases:
            start = f"| {case.row} | {case.engine} | {case.phase} | {cell(case.model)} |"
            (line,) = (line for line in section.splitlines() if line.startswith(start))
            assert f" {rate(case.measured_tokens_per_s)} " in line
            assert f" {signed(case.error)} " in line
            assert ("(outside)" in line) != case.is_inside


def test_a_goal_is_met_or_says_by_how_much_it_is_not(shipped: Shipped, text: str) -> None:
    found = goals(shipped)
    assert found
    rows = table_rows(text, "Against the goal")
    assert len(rows) == len(found)
    for goal, row in zip(found, rows, strict=True):
        limit = 0.1 if goal.phase == "decode" else 0.15
        assert goal.score.models >= 6
        median, share = goal.score.median_error, goal.score.within_20
        tau = goal.score.kendall_tau
        assert median is not None
        assert share is not None
        assert tau is not None
        met = median <= limit and share >= 0.8 and tau >= 0.9 - 1e-9
        assert (row[-1] == "met") == met == (not goal.shortfalls)


def test_whole_numbers_in_a_source_are_told_where_they_are_coarse(
    shipped: Shipped, text: str
) -> None:
    """2 tokens/s stands for 1.5 to 2.5, off by up to 0.5 / 2."""
    profile, cases = shipped["tensor_g5"]
    assert "off by up to 25 % at 2" in text
    exact = tuple(
        replace(case, measured_tokens_per_s=case.measured_tokens_per_s + 0.01) for case in cases
    )
    assert "whole tokens/s" not in page_text({"tensor_g5": (profile, exact)})


def test_only_rows_of_known_confidence_and_size_are_held_against_the_goal(
    shipped: Shipped,
) -> None:
    name = "snapdragon8gen3"
    profile, cases = shipped[name]
    doubtful = tuple(replace(case, confidence="C") for case in cases)
    assert goals({name: (profile, doubtful)}) == ()
    large = tuple(
        replace(case, architecture=replace(case.architecture, num_hidden_layers=400))
        for case in cases
    )
    assert goals({name: (profile, large)}) == ()


def test_an_engine_without_a_profile_says_why(text: str) -> None:
    section = text[text.index("## What has no profile") :]
    assert "* litert-xnnpack-8bit on snapdragon8gen3, 2 rows: two models only" in section


def test_builds_of_an_engine_are_held_against_the_goal_together(shipped: Shipped) -> None:
    """Apart they would have too few models for it."""
    found = [goal for goal in goals(shipped) if goal.profile == "tensor_g5"]
    four = next(goal for goal in found if goal.group.weight_bits == 4)
    assert four.group.engine == "executorch-xnnpack-4bit"
    assert four.score.models == 6
    engines = {case.row: case.engine for case in shipped["tensor_g5"][1]}
    assert {engines[case.row] for case in four.group.cases} == {
        "executorch-xnnpack-4bit",
        "executorch-xnnpack-meta-4bit",
    }


def test_phonelm_stands_with_every_engine_of_its_phone(text: str) -> None:
    rows = table_rows(text, "PhoneLM-1.5B on snapdragon8gen3, in no fit")
    assert [row[0] for row in rows] == list(read_profile("snapdragon8gen3").engines)
    assert all(row[3].endswith("%") for row in rows)


def test_the_form_of_tables_is_told_as_they_are_read(text: str) -> None:
    section = text[text.index("## A table of your own") :]
    for column in (*SPEED_COLUMNS, *MODEL_COLUMNS):
        assert f"`{column}`" in section
    rows = table_rows(text, "A table of your own")
    assert [row[0] for row in rows] == list(dict.fromkeys(family for _, family in FAMILIES))


def test_no_machine_is_named_and_no_number_is_undefined(text: str) -> None:
    assert not re.search(r"/work|/root|/tmp|\bnan\b|\binf\b|None", text)


def test_a_changed_page_and_changed_missing_and_stray_plots_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_page(tmp_path)
    assert len(paths) == 1 + len(PREDICTING)
    assert differing_files(tmp_path) == []

    page = tmp_path / PAGE
    page.write_text(page.read_text(encoding="utf-8").replace("| 21 |", "| 22 |", 1) + " ")
    (tmp_path / plot_name("tensor_g2")).unlink()
    (tmp_path / plot_name("stray")).write_bytes(b"")
    other = (tmp_path / plot_name("tensor_g5")).read_bytes()
    (tmp_path / plot_name("snapdragon8gen3")).write_bytes(other)

    assert main(["--check", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    for name in (PAGE, "tensor_g2.png", "stray.png", "snapdragon8gen3.png"):
        assert name in said
    assert "tensor_g5" not in said


def test_the_digest_of_a_plot_follows_its_data(shipped: Shipped) -> None:
    _, cases = shipped["snapdragon8gen3"]
    wrong = replace(cases[0], predicted_tokens_per_s=cases[0].predicted_tokens_per_s * 1.02)
    assert digest_of(cases) == digest_of(list(cases))
    assert digest_of([wrong, *cases[1:]]) != digest_of(cases)


def test_numbers_are_printed_as_people_read_them() -> None:
    assert percent(0.0787) == "7.9 %"
    assert percent(None) == "-"
    assert signed(-0.434) == "-43 %"
    assert rate(8.6649) == "8.66"
    assert rate(1234.5) == "1234"
    assert counted(1, "row") == "1 row"
    assert counted(2, "row") == "2 rows"
    assert cell("a | b\n<c>") == "a \\| b &lt;c>"
