from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from phonesearch.front.pareto import front, loss_against
from phonesearch.report.data import (
    ReportInput,
    operator_names,
    shape_row,
    sources,
    speed_axis_title,
    strip_rows,
    strip_title,
    varied_dimensions,
)
from phonesearch.report.figures import history_figure, operator_figure, shape_figure
from phonesearch.report.look import faded
from phonesearch.report.scatter import pareto_figure
from phonesearch.study.record import TrialRecord

MakeReport = Callable[[tuple[TrialRecord, ...]], ReportInput]


def trace(figure: Any, name: str) -> Any:
    return next(entry for entry in figure.data if entry.name == name)


def test_the_scatter_shows_every_member_with_its_bars_both_ways(report: ReportInput) -> None:
    drawn = trace(pareto_figure(report), "Pareto front")

    members = report.front.members
    assert list(drawn.x) == [point.speed_tokens_per_s for point in members]
    best = members[-1]
    losses = [100 * (point.log_loss - best.log_loss) for point in members]
    assert list(drawn.y) == pytest.approx(losses)
    bars = [100 * loss_against(point, best).sd for point in members]
    assert list(drawn.error_y.array) == pytest.approx(bars)
    assert (drawn.y[-1], drawn.error_y.array[-1]) == (0.0, 0.0)
    low = [x - down for x, down in zip(drawn.x, drawn.error_x.arrayminus, strict=True)]
    assert low == pytest.approx([point.speed_low for point in members])


def test_every_candidate_with_a_speed_is_drawn_once(report: ReportInput) -> None:
    """The staircase and the rings repeat members, and carry no hover."""
    figure = pareto_figure(report)
    drawn = sum(len(entry.x) for entry in figure.data if entry.hoverinfo == "text")

    timed = [record for record in report.records if record.speed is not None]
    assert drawn == len(timed) + len(report.known)


def test_a_crowd_has_bars_and_labels_only_where_they_can_be_read(report: ReportInput) -> None:
    complete = [point.record for point in report.front.ranked]
    crowd = tuple(
        dataclasses.replace(complete[index % len(complete)], number=index) for index in range(300)
    )
    crowded = dataclasses.replace(report, records=crowd, front=front(crowd, "decode"))
    figure = pareto_figure(crowded)

    assert trace(pareto_figure(report), "dominated").error_x.visible
    assert not trace(figure, "dominated").error_x.visible
    assert trace(figure, "Pareto front").error_x.visible
    found = crowded.front
    roles = {found.fastest, found.knee, found.best_loss, found.recommended}
    written = {text for text in trace(figure, "Pareto front").text if text}
    assert written == {f"#{number}" for number in roles}


def test_the_axis_says_what_the_speed_is_and_where_it_comes_from(report: ReportInput) -> None:
    figure = pareto_figure(report)

    assert figure.layout.xaxis.title.text == "decode speed, tokens/s (predicted, 90 % interval)"
    assert figure.layout.yaxis.title.text == (
        "expected loss above the best, %<br>± 1 sd; a short training of each"
    )


def test_a_mixed_run_says_measured_or_predicted(report: ReportInput) -> None:
    first, *others = report.records
    records = (dataclasses.replace(first, measured=first.predicted), *others)
    mixed = dataclasses.replace(report, records=records, front=front(records, "decode"))

    assert sources(mixed) == "predicted or measured"
    assert "predicted or measured" in speed_axis_title(mixed)
    assert strip_title(mixed).endswith("known models predicted)")


def test_known_models_stand_in_the_strip_with_their_size(report: ReportInput) -> None:
    rows = strip_rows(report)

    assert [row.label for row in rows if row.kind == "known"] == [
        "SmolLM2-1.7B (1.71B)",
        "Qwen2.5-1.5B (1.54B)",
        "PhoneLM-1.5B (1.60B)",
        "Llama-3.2-1B (1.24B)",
    ]
    assert [len(row.marks) for row in rows if row.kind == "infeasible"] == [2]


def test_the_search_ends_at_all_of_the_final_area(report: ReportInput) -> None:
    area = history_figure(report).data[0]

    assert len(area.y) == len(report.records)
    assert area.y[-1] == pytest.approx(1.0)
    assert list(area.y) == sorted(area.y)


def test_operator_bars_add_up_to_the_predicted_time(report: ReportInput) -> None:
    figure = operator_figure(report.front, decode=True)
    assert figure is not None

    totals = [sum(bars) for bars in zip(*(entry.x for entry in figure.data), strict=True)]

    speeds = [point.record.predicted for point in report.front.members]
    assert totals == pytest.approx([speed.tpot.value_s * 1e3 for speed in speeds if speed])


def test_an_operator_has_one_colour_in_both_phases(report: ReportInput) -> None:
    decode = operator_figure(report.front, decode=True)
    prefill = operator_figure(report.front, decode=False)
    assert decode is not None
    assert prefill is not None

    def colours(figure: Any) -> dict[str, str]:
        return {entry.name: entry.marker.color for entry in figure.data}

    assert colours(decode) == colours(prefill)
    assert operator_names(report.front)[0] == "ffn"


def test_shapes_are_drawn_for_what_varies_only(report: ReportInput) -> None:
    names = varied_dimensions(report.front)
    figure = shape_figure(report)
    assert figure is not None

    titles = {axis.title.text for axis in figure.select_xaxes() if axis.title.text}
    assert titles == set(names)


def test_too_few_candidates_have_no_shape_figure(
    make_report: MakeReport, records: tuple[TrialRecord, ...]
) -> None:
    assert shape_figure(make_report(records[:2])) is None


def test_shading_runs_from_the_least_to_the_most_of_the_ranked(report: ReportInput) -> None:
    rows = [shape_row(point.record.candidate, report.front) for point in report.front.ranked]
    shares = [row["layers"].share for row in rows]

    assert min(share for share in shares if share is not None) == 0.0
    assert max(share for share in shares if share is not None) == 1.0
    assert {row["FFN"].share for row in rows} == {None}


def test_a_faded_colour_keeps_its_hue() -> None:
    assert faded("#0b84c9", 0.5) == "rgba(11,132,201,0.5)"
