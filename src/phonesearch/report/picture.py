"""The scatter as a PNG, drawn without a browser or a display."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phonesearch.front.pareto import Front
from phonesearch.report.data import (
    Group,
    Kind,
    ReportInput,
    labelled,
    listed,
    scatter_groups,
    speed_axis_title,
    strip_rows,
    strip_title,
)
from phonesearch.report.look import COLOURS, KNEE_COLOUR, RECOMMENDED_COLOUR
from phonesearch.report.loss import drawn_loss, drawn_loss_sd, loss_axis_title

_MARKERS: dict[Kind, str] = {
    "front": "o",
    "dominated": "o",
    "censored": "D",
    "infeasible": "x",
    "dropped": "x",
    "failed": "x",
    "known": "|",
}


def pareto_png(report: ReportInput) -> bytes:
    """Content of a PNG file, 1500 pixels wide: the same data as the scatter of the page."""
    content = BytesIO()
    pareto_picture(report).savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def pareto_picture(report: ReportInput) -> Figure:
    """What `pareto_png` writes, before it is rendered."""
    rows = strip_rows(report)
    strip_inches = 0.24 * len(rows) + 0.3 if rows else 0.0
    figure = Figure(figsize=(10, 6.2 + strip_inches), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    if rows:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5.4, strip_inches))
        _draw_strip(lower, report)
    else:
        upper = lower = figure.subplots()
    _draw_scatter(upper, report)
    lower.set_xlabel(speed_axis_title(report))
    figure.suptitle(report.name.replace("$", r"\$"), x=0.01, ha="left", fontsize=12)
    return figure


def _draw_scatter(axes: Axes, report: ReportInput) -> None:
    front = report.front
    if len(front.members) > 1:
        axes.plot(
            [point.speed_tokens_per_s for point in front.members],
            [drawn_loss(point, front) for point in front.members],
            drawstyle="steps-post",
            color=COLOURS["front"],
            linewidth=1,
            linestyle=":",
        )
    for group in scatter_groups(front):
        _draw_group(axes, group, front)
    for point in front.members:
        if point.number in labelled(front):
            axes.annotate(
                f"#{point.number}",
                (point.speed_tokens_per_s, drawn_loss(point, front)),
                xytext=(11, -15) if point.number in (front.knee, front.recommended) else (6, -11),
                textcoords="offset points",
                fontsize=8,
            )
        for role, number, marker, size, colour in (
            ("knee", front.knee, "o", 15, KNEE_COLOUR),
            ("recommended", front.recommended, "s", 18, RECOMMENDED_COLOUR),
        ):
            if point.number == number and len(front.members) > 1:
                axes.plot(
                    point.speed_tokens_per_s,
                    drawn_loss(point, front),
                    marker,
                    markersize=size,
                    markerfacecolor="none",
                    markeredgecolor=colour,
                    markeredgewidth=2,
                    label=f"{role} (#{point.number})",
                )
    if scatter_groups(front):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "no candidate has a loss", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    axes.set_ylabel(loss_axis_title(front, report.quality))
    _plain(axes)


def _draw_group(axes: Axes, group: Group, front: Front) -> None:
    on_front = group.kind == "front"
    points = group.points
    speeds = [point.speed_tokens_per_s for point in points]
    losses = [drawn_loss(point, front) for point in points]
    bars: dict[str, Any] = {}
    barred = {point.number for point in (listed(front) if on_front else points)}
    if group.bars:
        shown = [1.0 if point.number in barred else math.nan for point in points]
        below = [point.speed_tokens_per_s - point.speed_low for point in points]
        above = [point.speed_high - point.speed_tokens_per_s for point in points]
        sds = [drawn_loss_sd(point, front) for point in points]
        bars = {
            "xerr": np.array([below, above]) * shown,
            "yerr": np.array(sds) * shown,
        }
    drawn = axes.errorbar(
        speeds,
        losses,
        **bars,
        fmt=_MARKERS[group.kind],
        color=COLOURS[group.kind],
        markerfacecolor="none" if group.kind == "censored" else COLOURS[group.kind],
        markersize=7 if on_front else 5,
        elinewidth=0.9 if on_front else 0.4,
        zorder=3 if on_front else 2,
        label=group.label,
    )
    for across in drawn.lines[2][:1]:
        across.set_alpha(0.5)


def _draw_strip(axes: Axes, report: ReportInput) -> None:
    rows = strip_rows(report)
    for position, row in enumerate(rows):
        axes.errorbar(
            [mark.tokens_per_s for mark in row.marks],
            [position] * len(row.marks),
            xerr=[
                [mark.tokens_per_s - mark.low for mark in row.marks],
                [mark.high - mark.tokens_per_s for mark in row.marks],
            ],
            fmt=_MARKERS[row.kind],
            color=COLOURS[row.kind],
            markersize=8,
            markeredgewidth=2,
            elinewidth=0.7,
        )
    labels = [row.label.replace("$", r"\$") for row in rows]
    axes.set_yticks(range(len(rows)), labels=labels, fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_title(strip_title(report), fontsize=9, loc="left", pad=4)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(color="#e3e8ec", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
