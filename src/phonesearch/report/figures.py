"""The other figures of the page: how the search went, what shapes do, where time goes."""

from __future__ import annotations

import html

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from phonesearch.front.hypervolume import hypervolume_history
from phonesearch.front.pareto import Front
from phonesearch.report.data import (
    OBJECTIVE_NAMES,
    ReportInput,
    dimensions,
    listed,
    operator_names,
    roles_of,
    scatter_groups,
    varied_dimensions,
)
from phonesearch.report.look import COLOURS, LEGEND, SYMBOLS, empty_figure, hover, operator_colours
from phonesearch.report.loss import drawn_loss, point_hover


def history_figure(report: ReportInput) -> go.Figure:
    """How the search went: area covered, then each trial's loss and speed."""
    records = sorted(report.records, key=lambda record: record.number)
    history = hypervolume_history(records, report.objective)
    final = history[-1] if history and history[-1] > 0 else 1.0
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    figure.update_layout(empty_figure().layout)
    figure.add_trace(
        go.Scatter(
            x=[record.number for record in records],
            y=[value / final for value in history],
            mode="lines",
            line={"shape": "hv", "color": COLOURS["front"], "width": 2},
            showlegend=False,
            hovertemplate="after #%{x}: %{y:.1%}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    for group in reversed(scatter_groups(report.front)):
        for row, values in (
            (2, [drawn_loss(point, report.front) for point in group.points]),
            (3, [point.speed_tokens_per_s for point in group.points]),
        ):
            figure.add_trace(
                go.Scatter(
                    x=[point.number for point in group.points],
                    y=values,
                    mode="markers",
                    marker={
                        "symbol": SYMBOLS[group.kind],
                        "color": COLOURS[group.kind],
                        "size": 8,
                    },
                    name=group.label,
                    showlegend=row == 2,
                    **hover(
                        [point_hover(point, report.front, report.quality) for point in group.points]
                    ),
                ),
                row=row,
                col=1,
            )
    figure.update_yaxes(
        title_text="share of final<br>area", tickformat=".0%", range=[0, 1.05], row=1
    )
    figure.update_yaxes(title_text="expected loss<br>above best, %", row=2)
    speed = OBJECTIVE_NAMES[report.objective].replace(" speed", "<br>speed")
    figure.update_yaxes(title_text=f"{speed},<br>tokens/s", row=3)
    figure.update_xaxes(title_text="trial", row=3)
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        height=560,
        legend=LEGEND,
    )
    return figure


def operator_figure(front: Front, *, decode: bool) -> go.Figure | None:
    """Where the predicted time of each front candidate goes; None where none was predicted.

    Without a legend, as the page shows one for both phases.
    """
    rows = []
    for point in listed(front):
        record = point.record
        seconds = (
            record.decode_seconds_by_operator if decode else record.prefill_seconds_by_operator
        )
        if seconds is not None:
            roles = roles_of(point.number, front)
            label = f"#{point.number}" + (f" {', '.join(roles)}" if roles else "")
            rows.append((label, seconds))
    if not rows:
        return None
    figure = empty_figure()
    for name, colour in operator_colours(operator_names(front)).items():
        figure.add_trace(
            go.Bar(
                y=[label for label, _ in rows],
                x=[seconds.get(name, 0.0) * 1e3 for _, seconds in rows],
                orientation="h",
                name=html.escape(name),
                marker={"color": colour},
                hovertemplate="%{y}: %{x:.3~g} ms<extra>%{fullData.name}</extra>",
            )
        )
    what = "one decode step" if decode else "prefill of the prompt"
    figure.update_layout(
        barmode="stack",
        height=90 + 30 * len(rows),
        xaxis={"title": {"text": f"{what}, ms (predicted)"}},
        yaxis={"automargin": True, "autorange": "reversed", "type": "category"},
        showlegend=False,
        bargap=0.3,
    )
    return figure


def shape_figure(report: ReportInput) -> go.Figure | None:
    """Loss and speed against each dimension that the search varied; None for fewer than 3."""
    names = varied_dimensions(report.front)
    if not names or len(report.front.ranked) < 3:
        return None
    columns = min(5, len(names))
    blocks = -(-len(names) // columns)
    # Every third row is empty and keeps the blocks apart.
    heights = ([1.0, 1.0, 0.55] * blocks)[:-1]
    figure = make_subplots(
        rows=len(heights),
        cols=columns,
        specs=[[{} if row % 3 < 2 else None] * columns for row in range(len(heights))],
        row_heights=heights,
        vertical_spacing=0.05 / blocks,
        horizontal_spacing=0.02,
    )
    figure.update_layout(empty_figure().layout)
    for index, name in enumerate(names):
        block, column = divmod(index, columns)
        for group in scatter_groups(report.front):
            if group.kind == "censored":
                continue
            x = [dimensions(point.record.candidate)[name] for point in group.points]
            marker = {"color": COLOURS[group.kind], "size": 7}
            # The number alone: with the whole text ten times a point, pages would be heavy.
            texts = hover([(f"#{point.number}",) for point in group.points])
            for offset in (1, 2):
                y = [
                    drawn_loss(point, report.front) if offset == 1 else point.speed_tokens_per_s
                    for point in group.points
                ]
                figure.add_trace(
                    go.Scatter(
                        x=x,
                        y=y,
                        mode="markers",
                        marker=marker,
                        name=group.label,
                        showlegend=index == 0 and offset == 1,
                        **texts,
                    ),
                    row=3 * block + offset,
                    col=column + 1,
                )
        figure.update_xaxes(showticklabels=False, row=3 * block + 1, col=column + 1)
        figure.update_xaxes(title_text=name, row=3 * block + 2, col=column + 1)
        figure.update_yaxes(showticklabels=column == 0, row=3 * block + 1, col=column + 1)
        figure.update_yaxes(showticklabels=column == 0, row=3 * block + 2, col=column + 1)
    for block in range(blocks):
        figure.update_yaxes(title_text="loss, %", row=3 * block + 1, col=1)
        figure.update_yaxes(title_text="tokens/s", row=3 * block + 2, col=1)
    figure.update_layout(
        height=50 + 320 * blocks,
        legend=LEGEND,
    )
    return figure
