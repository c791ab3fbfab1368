"""Writes the results of a run into its folder, each file whole or not at all."""

from __future__ import annotations

from pathlib import Path

from phonesearch.files import write_bytes, write_json, write_text
from phonesearch.front.table import front_json, trials_table
from phonesearch.report.data import ReportInput
from phonesearch.report.page import pareto_page, report_page
from phonesearch.report.picture import pareto_png


def write_results(folder: Path, report: ReportInput) -> list[Path]:
    """Write the tables, the figure and the page of a run, over those of an earlier write.

    Args:
        folder: The run's results folder; made if it does not exist.
        report: What to show.

    Returns:
        Paths of `trials.csv`, `front.json`, `pareto.html`, `pareto.png`, `report.html`.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("trials.csv", "front.json", "pareto.html", "pareto.png", "report.html")
    table, front, scatter, picture, page = (folder / name for name in names)
    frame = trials_table(report.records, report.objective)
    write_text(table, frame.to_csv(index=False, lineterminator="\n"))
    write_json(front, front_json(report.front, settings=report.settings))
    write_text(scatter, pareto_page(report))
    write_bytes(picture, pareto_png(report))
    write_text(page, report_page(report))
    return [table, front, scatter, picture, page]
