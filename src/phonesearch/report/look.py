"""What all figures share: colours, symbols, legend, and hover texts.

Colours of text and grid, which depend on light or dark, are set by `page.js` in the browser.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from phonesearch.report.data import Kind

COLOURS: dict[Kind, str] = {
    "front": "#0b84c9",
    "dominated": "#8b929c",
    "censored": "#c77cab",
    "infeasible": "#d98a00",
    "dropped": "#5b6470",
    "failed": "#c2410c",
    "known": "#1a9c78",
}
"""After Okabe and Ito: told apart with any colour vision, on white and on black."""
KNEE_COLOUR = "#d55e00"
RECOMMENDED_COLOUR = "#12805f"
OPERATOR_COLOURS = (
    "#0b84c9",
    "#e69f00",
    "#1a9c78",
    "#c77cab",
    "#7cc4ee",
    "#d55e00",
    "#b8a800",
    "#8b929c",
)
SYMBOLS: dict[Kind, str] = {
    "front": "circle",
    "dominated": "circle",
    "censored": "diamond-open",
    "infeasible": "x-thin-open",
    "dropped": "x-thin-open",
    "failed": "x-thin-open",
    "known": "line-ns-open",
}
LEGEND: dict[str, Any] = {
    "orientation": "h",
    "x": 0,
    "y": 1.01,
    "xanchor": "left",
    "yanchor": "bottom",
}
"""Above the plot, from the left."""


def operator_colours(names: Sequence[str]) -> dict[str, str]:
    """One colour an operator; more than eight share some."""
    return {
        name: OPERATOR_COLOURS[index % len(OPERATOR_COLOURS)] for index, name in enumerate(names)
    }


def faded(colour: str, alpha: float) -> str:
    """A `#rrggbb` colour as `rgba(...)`, for error bars that must not hide the points."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def empty_figure() -> go.Figure:
    """A figure with our margins and font and no template; `page.js` adds the ink."""
    return go.Figure(
        layout={
            "template": "none",
            "margin": {"l": 60, "r": 20, "t": 30, "b": 60},
            "hovermode": "closest",
            "font": {"size": 13},
        }
    )


def hover(entries: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Hover texts of a trace, one entry of lines a point; the first line is bold.

    Everything is escaped, as plotly reads a little HTML.
    """
    texts = []
    for entry in entries:
        title, *lines = (html.escape(line) for line in entry)
        texts.append("<br>".join([f"<b>{title}</b>", *lines]))
    return {"hovertext": texts, "hoverinfo": "text"}
