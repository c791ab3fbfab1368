from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from phonesearch.report.data import ReportInput
from phonesearch.report.picture import pareto_picture, pareto_png
from phonesearch.report.write import write_results
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import ScoreKind

NAMES = ["trials.csv", "front.json", "pareto.html", "pareto.png", "report.html"]


def test_all_results_are_written_and_nothing_else(tmp_path: Path, report: ReportInput) -> None:
    written = write_results(tmp_path / "run", report)

    assert [path.name for path in written] == NAMES
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(NAMES)


def test_the_csv_and_the_json_agree_on_the_front(tmp_path: Path, report: ReportInput) -> None:
    write_results(tmp_path, report)
    with (tmp_path / "trials.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    content = json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))

    assert len(rows) == len(report.records)
    on_front = {int(row["number"]): row for row in rows if row["on_front"] == "True"}
    assert set(on_front) == {member["number"] for member in content["members"]}
    for member in content["members"]:
        row = on_front[member["number"]]
        assert float(row[row["ranked_by"]]) == member["decode_tokens_per_s"]["value"]
    assert content["settings"]["device"] == "snapdragon8gen3"


def test_the_picture_is_a_png_of_the_promised_width(report: ReportInput) -> None:
    content = pareto_png(report)

    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", content[16:20])[0] == 1500


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("prior", "nothing was trained"),
        ("anchors", "short trainings of 14 other architectures"),
        ("each", "a short training of each"),
    ],
)
def test_the_picture_says_what_was_trained(
    kind: ScoreKind, said: str, report_of: Callable[[ScoreKind], ReportInput]
) -> None:
    axes = pareto_picture(report_of(kind)).axes[0]

    assert axes.get_ylabel() == f"expected loss above the best, %\n± 1 sd; {said}"
    labels = axes.get_legend_handles_labels()[1]
    assert any(label.startswith("recommended (#") for label in labels)


@pytest.mark.parametrize("chosen", [(), (0,), (4,), (7, 11)], ids=str)
def test_few_candidates_are_written_too(
    tmp_path: Path,
    chosen: tuple[int, ...],
    make_report: Callable[[tuple[TrialRecord, ...]], ReportInput],
    records: tuple[TrialRecord, ...],
) -> None:
    report = make_report(tuple(records[number] for number in chosen))

    written = write_results(tmp_path, report)

    assert all(path.stat().st_size > 0 for path in written)


def test_results_replace_older_ones(tmp_path: Path, report: ReportInput) -> None:
    (tmp_path / "report.html").write_text("old", encoding="utf-8")

    write_results(tmp_path, report)

    assert (tmp_path / "report.html").stat().st_size > 1_000_000
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written_raises_and_leaves_nothing(
    tmp_path: Path, report: ReportInput
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder", encoding="utf-8")

    with pytest.raises(OSError, match="file"):
        write_results(blocker / "run", report)
