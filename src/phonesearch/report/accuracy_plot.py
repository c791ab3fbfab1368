"""Predicted against measured speed, as a picture and as a page of its own."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from phonesearch.device.fit import Phase
from phonesearch.device.score import EXPOSURES, PHASES, Case, Exposure
from phonesearch.files import write_text
from phonesearch.report.look import LEGEND, OPERATOR_COLOURS, empty_figure, faded, hover

_MARKERS: dict[Exposure, tuple[str, str]] = {
    "unseen": ("o", "circle"),
    "fitted model": ("s", "square-open"),
    "fitted figure": ("x", "x-thin-open"),
}
"""In matplotlib and in plotly: only what is unseen is solid."""
_EXPOSURE_NAMES: dict[Exposure, str] = {
    "unseen": "not seen by the fit",
    "fitted model": "model seen by the fit",
    "fitted figure": "in the fit, no test",
}
_BAND = 0.2
_INK = "#59636e"
_TICKS = (1, 2, 5)
_ROOM = 1.15
_LEAST_SPAN = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one engine that the fit had seen alike."""

    engine: str
    exposure: Exposure
    colour: str
    cases: tuple[Case, ...]

    @property
    def label(self) -> str:
        """What the legend says."""
        return f"{self.engine}, {_EXPOSURE_NAMES[self.exposure]}"


def series_of(cases: Sequence[Case], phase: Phase) -> tuple[Series, ...]:
    """Cases of one phase by engine and exposure; an engine keeps its colour in both phases."""
    engines = list(dict.fromkeys(case.engine for case in cases))
    return tuple(
        Series(
            engine=engine,
            exposure=exposure,
            colour=OPERATOR_COLOURS[position % len(OPERATOR_COLOURS)],
            cases=own,
        )
        for position, engine in enumerate(engines)
        for exposure in EXPOSURES
        if (
            own := tuple(
                case
                for case in cases
                if (case.engine, case.exposure, case.phase) == (engine, exposure, phase)
            )
        )
    )


def accuracy_png(title: str, cases: Sequence[Case], *, digest: str = "") -> bytes:
    """Content of a PNG file: one panel a phase, both axes logarithmic, the identity as a line.

    Args:
        title: Stands above the panels.
        cases: At least one.
        digest: Kept in the file's `Data` field, so that a check can tell which data it shows.
    """
    phases = [phase for phase in PHASES if any(case.phase == phase for case in cases)]
    figure = Figure(figsize=(5.0 * len(phases) + 0.4, 5.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(phases), squeeze=False)[0]
    for axes, phase in zip(panels, phases, strict=True):
        _draw_panel(axes, cases, phase)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower left",
        ncols=2 if len(phases) > 1 else 1,
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(title.replace("$", r"\$"), x=0.01, ha="left", fontsize=11)
    content = BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None, "Data": digest})
    return content.getvalue()


def write_plot(path: Path, title: str, cases: Sequence[Case]) -> None:
    """Write the picture, or the page if `path` ends in .html.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    if path.suffix.lower() == ".html":
        write_text(path, accuracy_page(title, cases))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(accuracy_png(title, cases))


def _draw_panel(axes: Axes, cases: Sequence[Case], phase: Phase) -> None:
    low, high = _limits(cases, phase)
    ends = [low, high]
    axes.fill_between(
        ends,
        [end * (1 - _BAND) for end in ends],
        [end * (1 + _BAND) for end in ends],
        color="#eceff2",
        linewidth=0,
        label=f"within {_BAND * 100:.0f} %",
    )
    axes.plot(ends, ends, color=_INK, linewidth=1, label="predicted = measured")
    for series in series_of(cases, phase):
        shown = series.cases
        predicted = [case.predicted_tokens_per_s for case in shown]
        axes.errorbar(
            [case.measured_tokens_per_s for case in shown],
            predicted,
            yerr=[
                [case.predicted_tokens_per_s - case.predicted_low_tokens_per_s for case in shown],
                [case.predicted_high_tokens_per_s - case.predicted_tokens_per_s for case in shown],
            ],
            fmt=_MARKERS[series.exposure][0],
            color=series.colour,
            markerfacecolor=series.colour if series.exposure == "unseen" else "none",
            markersize=5,
            elinewidth=0.7,
            label=series.label,
        )
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ticks = _ticks(low, high)
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=8)
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_aspect("equal")
    axes.set_title(phase, loc="left", fontsize=10)
    axes.set_xlabel("measured tokens/s", fontsize=9)
    axes.set_ylabel("predicted tokens/s, with interval", fontsize=9)
    axes.grid(color="#e3e8ec", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def accuracy_page(title: str, cases: Sequence[Case]) -> str:
    """The same as HTML that needs no other file; hovering over a point names its model."""
    phases = [phase for phase in PHASES if any(case.phase == phase for case in cases)]
    figure = make_subplots(rows=1, cols=len(phases), subplot_titles=phases, figure=empty_figure())
    listed: set[str] = set()
    for column, phase in enumerate(phases, start=1):
        low, high = _limits(cases, phase)
        figure.add_trace(
            go.Scatter(
                x=[low, high],
                y=[low, high],
                mode="lines",
                line={"color": _INK, "width": 1},
                name="predicted = measured",
                showlegend=column == 1,
                hoverinfo="skip",
            ),
            row=1,
            col=column,
        )
        for series in series_of(cases, phase):
            figure.add_trace(_trace(series, listed=series.label in listed), row=1, col=column)
            listed.add(series.label)
        ticks = _ticks(low, high)
        axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        figure.update_xaxes(axis | {"title": {"text": "measured tokens/s"}}, row=1, col=column)
        figure.update_yaxes(axis | {"title": {"text": "predicted tokens/s"}}, row=1, col=column)
    figure.update_layout(
        title={
            "text": html.escape(title),
            "x": 0,
            "xref": "paper",
            "y": 0.98,
            "yref": "container",
            "yanchor": "top",
        },
        height=640,
        margin={"t": 170},
        legend=LEGEND | {"y": 1.06},
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _trace(series: Series, *, listed: bool) -> go.Scatter:
    shown = series.cases
    return go.Scatter(
        x=[case.measured_tokens_per_s for case in shown],
        y=[case.predicted_tokens_per_s for case in shown],
        mode="markers",
        marker={"symbol": _MARKERS[series.exposure][1], "size": 8, "color": series.colour},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [
                case.predicted_high_tokens_per_s - case.predicted_tokens_per_s for case in shown
            ],
            "arrayminus": [
                case.predicted_tokens_per_s - case.predicted_low_tokens_per_s for case in shown
            ],
            "color": faded(series.colour, 0.5),
            "thickness": 1,
            "width": 0,
        },
        name=series.label,
        legendgroup=series.label,
        showlegend=not listed,
        **hover(
            [
                (
                    case.model,
                    f"measured {case.measured_tokens_per_s:.4g} tokens/s (row {case.row})",
                    f"predicted {case.predicted_tokens_per_s:.4g}, "
                    f"{case.predicted_low_tokens_per_s:.4g} to "
                    f"{case.predicted_high_tokens_per_s:.4g}: {case.error:+.1%}",
                    series.label,
                    f"{case.device}; {case.source}",
                )
                for case in shown
            ]
        ),
    )


def _limits(cases: Sequence[Case], phase: Phase) -> tuple[float, float]:
    """Ends of both axes: all points and all intervals, with room, and ten to one at least."""
    values = [
        value
        for case in cases
        if case.phase == phase
        for value in (
            case.measured_tokens_per_s,
            case.predicted_low_tokens_per_s,
            case.predicted_high_tokens_per_s,
        )
    ]
    low, high = min(values) / _ROOM, max(values) * _ROOM
    more = max(1.0, math.sqrt(_LEAST_SPAN * low / high))
    return low / more, high * more


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten that lies between."""
    powers = [10.0**power for power in range(-4, 8)]
    return [tick * power for power in powers for tick in _TICKS if low <= tick * power <= high]
