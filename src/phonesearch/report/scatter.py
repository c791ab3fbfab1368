"""The figure that matters: loss against speed."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from phonesearch.front.pareto import Front, Point
from phonesearch.report.data import (
    Group,
    Kind,
    Mark,
    ReportInput,
    labelled,
    listed,
    scatter_groups,
    speed_axis_title,
    strip_rows,
    strip_title,
)
from phonesearch.report.look import (
    COLOURS,
    KNEE_COLOUR,
    LEGEND,
    RECOMMENDED_COLOUR,
    SYMBOLS,
    empty_figure,
    faded,
    hover,
)
from phonesearch.report.loss import drawn_loss, drawn_loss_sd, loss_axis_title, point_hover

_ROW_HEIGHT_PX = 24
_SCATTER_HEIGHT_PX = 460


def pareto_figure(report: ReportInput) -> go.Figure:
    """Loss against speed, with what has a speed but no loss in a strip below."""
    figure = empty_figure()
    front = report.front
    if len(front.members) > 1:
        figure.add_trace(_staircase(front))
    for group in scatter_groups(front):
        figure.add_trace(_group_trace(group, report))
    knee = [point for point in front.members if point.number == front.knee]
    if knee and len(front.members) > 1:
        figure.add_trace(_knee_trace(knee[0], front))
    recommended = [point for point in front.members if point.number == front.recommended]
    if recommended and len(front.members) > 1:
        figure.add_trace(_recommended_trace(recommended[0], front))
    rows = strip_rows(report)
    strip_px = _ROW_HEIGHT_PX * len(rows) + 34 if rows else 0
    total_px = _SCATTER_HEIGHT_PX + strip_px
    split = strip_px / total_px
    figure.update_layout(
        height=total_px + 130,
        xaxis={"title": {"text": speed_axis_title(report)}, "anchor": "y2" if rows else "y"},
        yaxis={
            "title": {"text": _lines(loss_axis_title(front, report.quality))},
            "domain": [split, 1],
            "automargin": True,
        },
        legend=LEGEND,
    )
    if scatter_groups(front):
        _note(figure, "better ↘", x=1, y=split, anchor=("right", "bottom"))
    else:
        _note(
            figure, "no candidate has a loss", x=0.5, y=(1 + split) / 2, anchor=("center", "middle")
        )
    if rows:
        top = split - 30 / total_px
        for row in rows:
            figure.add_trace(_strip_trace(row.label, row.kind, row.marks))
        figure.update_layout(
            yaxis2={
                "domain": [0, top],
                "anchor": "x",
                "type": "category",
                "categoryarray": [html.escape(row.label) for row in rows],
                "automargin": True,
                "range": [-0.6, len(rows) - 0.4],
            }
        )
        _note(figure, strip_title(report), x=0, y=top, anchor=("left", "bottom"))
    return figure


def _note(figure: go.Figure, text: str, *, x: float, y: float, anchor: tuple[str, ...]) -> None:
    figure.add_annotation(
        text=text,
        x=x,
        y=y,
        xref="paper",
        yref="paper",
        xanchor=anchor[0],
        yanchor=anchor[1],
        showarrow=False,
        opacity=0.75,
    )


def _staircase(front: Front) -> go.Scatter:
    return go.Scatter(
        x=[point.speed_tokens_per_s for point in front.members],
        y=[drawn_loss(point, front) for point in front.members],
        mode="lines",
        line={"shape": "hv", "color": COLOURS["front"], "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )


def _group_trace(group: Group, report: ReportInput) -> go.Scatter:
    front = report.front
    on_front = group.kind == "front"
    labels = labelled(front) if on_front else ()
    colour = COLOURS[group.kind]
    points = group.points
    barred = {point.number for point in (listed(front) if on_front else points)}

    def bars(lengths: list[float]) -> list[float | None]:
        """Of a crowd on the front only some have theirs."""
        return [
            length if point.number in barred else None
            for point, length in zip(points, lengths, strict=True)
        ]

    bar = {
        "visible": group.bars,
        "color": faded(colour, 0.5 if on_front else 0.25),
        "thickness": 1.2 if on_front else 0.8,
        "width": 0,
    }
    return go.Scatter(
        x=[point.speed_tokens_per_s for point in points],
        y=[drawn_loss(point, front) for point in points],
        mode="markers+text" if on_front else "markers",
        text=[f"#{point.number}" if point.number in labels else "" for point in points],
        textposition="bottom right",
        textfont={"size": 11},
        marker={
            "symbol": SYMBOLS[group.kind],
            "size": 11 if on_front else 8,
            "color": colour,
        },
        error_x={
            **bar,
            "type": "data",
            "symmetric": False,
            "array": bars([point.speed_high - point.speed_tokens_per_s for point in points]),
            "arrayminus": bars([point.speed_tokens_per_s - point.speed_low for point in points]),
        },
        error_y={
            **bar,
            "type": "data",
            "array": bars([drawn_loss_sd(point, front) for point in points]),
            "color": colour,
        },
        name=group.label,
        **hover([point_hover(point, front, report.quality) for point in points]),
    )


def _knee_trace(point: Point, front: Front) -> go.Scatter:
    ends = (front.fastest, front.best_loss)
    return go.Scatter(
        x=[point.speed_tokens_per_s],
        y=[drawn_loss(point, front)],
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 20,
            "line": {"width": 3},
            "color": KNEE_COLOUR,
        },
        name=f"knee (#{point.number})" + (", no bend" if point.number in ends else ""),
        hoverinfo="skip",
    )


def _recommended_trace(point: Point, front: Front) -> go.Scatter:
    return go.Scatter(
        x=[point.speed_tokens_per_s],
        y=[drawn_loss(point, front)],
        mode="markers",
        marker={
            "symbol": "square-open",
            "size": 24,
            "line": {"width": 2.5},
            "color": RECOMMENDED_COLOUR,
        },
        name=f"recommended (#{point.number})",
        hoverinfo="skip",
    )


def _lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _strip_trace(label: str, kind: Kind, marks: Sequence[Mark]) -> go.Scatter:
    return go.Scatter(
        x=[mark.tokens_per_s for mark in marks],
        y=[html.escape(label)] * len(marks),
        yaxis="y2",
        mode="markers",
        marker={
            "symbol": SYMBOLS[kind],
            "size": 11,
            "color": COLOURS[kind],
            "line": {"width": 2.5, "color": COLOURS[kind]},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [mark.high - mark.tokens_per_s for mark in marks],
            "arrayminus": [mark.tokens_per_s - mark.low for mark in marks],
            "color": faded(COLOURS[kind], 0.5),
            "thickness": 1,
            "width": 0,
        },
        showlegend=False,
        **hover([mark.hover for mark in marks]),
    )
