"""Puts text, tables and figures together as one page that needs no other file."""

from __future__ import annotations

import html
from importlib import resources

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from phonesearch.front.pareto import Point, loss_against
from phonesearch.report.data import (
    OBJECTIVE_NAMES,
    ReportInput,
    format_rate,
    listed,
    operator_names,
    scatter_groups,
    sources,
)
from phonesearch.report.figures import history_figure, operator_figure, shape_figure
from phonesearch.report.judged import judged_section
from phonesearch.report.look import operator_colours
from phonesearch.report.loss import format_difference, how_judged, is_untrained, judged_by
from phonesearch.report.scatter import pareto_figure
from phonesearch.report.summary import caveats, found, warnings
from phonesearch.report.tables import (
    escape,
    facts_table,
    front_table,
    prose,
    reasons_table,
    shape_table,
    trials_list,
)
from phonesearch.units import format_seconds


def report_page(report: ReportInput) -> str:
    """The whole report as HTML: no request leaves it, all data and code are inside."""
    sections = [
        _head(report),
        _front_section(report),
        judged_section(report),
        _shape_section(report),
        _operator_section(report),
        _search_section(report),
        _reasons_section(report),
        _provenance_section(report),
        _next_section(report),
    ]
    return _page(report.name, "\n".join(section for section in sections if section))


def pareto_page(report: ReportInput) -> str:
    """The scatter alone as HTML, as self-contained as the report."""
    body = (
        f"<h1>{escape(report.name)}</h1>"
        + _judged(report)
        + _figure("pareto", pareto_figure(report))
    )
    return _page(report.name, body + _list(caveats(report)))


def _page(title: str, body: str) -> str:
    style, script = _asset("style.css"), _asset("page.js")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        "<noscript><p class='warn'>The figures need JavaScript; pareto.png beside this page "
        "shows the front without it.</p></noscript>\n"
        f"{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("phonesearch.report").joinpath(name).read_text(encoding="utf-8")


def _figure(name: str, figure: go.Figure) -> str:
    """A box for `page.js` to draw in, and the figure's JSON, in which plotly escapes `<`."""
    content = figure.to_json()
    height = figure.layout.height
    return (
        f'<div class="figure" id="{name}" data-figure="{name}-data" style="height:{height}px">'
        f'</div>\n<script type="application/json" id="{name}-data">{content}</script>\n'
    )


def _paragraphs(texts: tuple[str, ...], css: str = "") -> str:
    return "".join(f'<p class="{css}">{prose(text)}</p>' for text in texts)


def _list(texts: tuple[str, ...]) -> str:
    return '<ul class="soft">' + "".join(f"<li>{prose(text)}</li>" for text in texts) + "</ul>"


def _head(report: ReportInput) -> str:
    asked = [report.settings[name] for name in ("device", "budget") if name in report.settings]
    if "front measured on" in report.settings:
        asked.append(f"front measured on {report.settings['front measured on']}")
    sub = " · ".join([*asked, f"{OBJECTIVE_NAMES[report.objective]} against expected loss"])
    warned = "".join(f'<div class="warn">{escape(text)}</div>' for text in warnings(report))
    return (
        f'<h1>{escape(report.name)}</h1><p class="sub">{escape(sub)}</p>{_judged(report)}{warned}'
        f'<div class="found">{_paragraphs(found(report))}</div>{_tiles(report)}'
    )


def _judged(report: ReportInput) -> str:
    """What losses come from; that nothing was trained must meet the eye."""
    front, quality = report.front, report.quality
    if not front.ranked and quality is None:
        return ""
    badge = ""
    if is_untrained(front, quality):
        badge = f'<span class="badge untrained">{escape(judged_by(front, quality))}</span> '
    return f'<p class="judged">{badge}{prose(how_judged(front, quality))}</p>'


def _tiles(report: ReportInput) -> str:
    front = report.front
    parts = [
        f"{len(group)} {name}"
        for group, name in (
            (front.dominated, "dominated"),
            (front.censored, "not ranked"),
            (front.infeasible, "over a limit"),
            (front.dropped, "given up early"),
            (front.failed, "failed"),
        )
        if group
    ]
    spent = format_seconds(sum(record.seconds for record in report.records))
    tiles = [
        (f"{len(front.members)} of {len(report.records)}", "candidates on the front"),
        (spent, "of evaluation" + (f"; {', '.join(parts)}" if parts else "")),
    ]
    if len(front.members) == 1:
        tiles.append(_tile("only member", front.members[0], report))
    elif front.recommended == front.knee:
        tiles += [
            _tile("recommended, and the knee", point, report)
            for point in front.members
            if point.number == front.knee
        ]
    else:
        tiles += [
            _tile(what, point, report)
            for what, number in (("recommended", front.recommended), ("knee", front.knee))
            for point in front.members
            if point.number == number
        ]
    boxes = "".join(
        f'<div class="tile"><b>{escape(big)}</b><span>{prose(small)}</span></div>'
        for big, small in tiles
    )
    return f'<div class="tiles">{boxes}</div>'


def _tile(what: str, point: Point, report: ReportInput) -> tuple[str, str]:
    best = report.front.members[-1]
    source = "measured" if point.measured else "predicted"
    loss = "lowest expected loss"
    if point.number != best.number:
        loss = f"{format_difference(loss_against(point, best))} expected loss"
    rate = format_rate(point.speed_tokens_per_s)
    return f"#{point.number}", f"{what}: {rate} tokens/s {source}, {loss}"


def _front_section(report: ReportInput) -> str:
    table = front_table(report) if report.front.members else ""
    note = (
        "Right is faster, down is better. Loss is drawn as difference of log loss to the best, "
        "times 100: percent, as long as it is small. Bars are the speed interval and one standard "
        "deviation of that difference, so the best has none. Hover over a point for its "
        "architecture and what its loss is made of."
    )
    if not all(group.bars for group in scatter_groups(report.front)):
        note += " For clarity only the front has bars."
    if len(listed(report.front)) < len(report.front.members):
        note += " Of so many on the front only those that the table lists have theirs."
    drawn = _figure("pareto", pareto_figure(report)) if report.records else ""
    return (
        f'<h2>The front</h2><p class="soft">{note if drawn else ""}</p>{drawn}{table}'
        f"<h3>How to read these numbers</h3>{_list(caveats(report))}"
    )


def _shape_section(report: ReportInput) -> str:
    if not report.front.members:
        return ""
    figure = shape_figure(report)
    judged = judged_by(report.front, report.quality)
    speed = f"{OBJECTIVE_NAMES[report.objective]} (tokens/s, {sources(report)})"
    drawn = (
        f'<p class="soft">Expected loss above the best (%, {escape(judged)}) and {speed} against '
        "each dimension that differs between ranked candidates:</p>"
        f'<div class="wide">{_figure("shapes", figure)}</div>'
        if figure
        else ""
    )
    return (
        "<h2>What the shapes look like</h2>"
        '<p class="soft">A stronger shade is more, among all ranked candidates of this run.</p>'
        f"{shape_table(report.front)}{drawn}"
    )


def _operator_section(report: ReportInput) -> str:
    boxes = []
    for name, decode in (("decode", True), ("prefill", False)):
        figure = operator_figure(report.front, decode=decode)
        if figure is not None:
            boxes.append(f"<div>{_figure(f'operators-{name}', figure)}</div>")
    if not boxes:
        return ""
    return (
        "<h2>Where the time goes</h2>"
        '<p class="soft">Predicted by the cost model, for each candidate on the front, fastest '
        f'first.</p>{_operator_legend(report)}<div class="pair">{"".join(boxes)}</div>'
    )


def _operator_legend(report: ReportInput) -> str:
    entries = operator_colours(operator_names(report.front)).items()
    return (
        '<p class="legend">'
        + "".join(
            f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
            for name, colour in entries
        )
        + "</p>"
    )


def _search_section(report: ReportInput) -> str:
    if not report.records:
        return ""
    ranked = bool(report.front.ranked) and len(report.records) > 1
    figure = _figure("history", history_figure(report)) if ranked else ""
    judged = judged_by(report.front, report.quality)
    note = (
        '<p class="soft">The upper curve is the area that the candidates found so far dominate, '
        "as a share of that at the end (log speed times log loss). Where it is still rising, more "
        f"trials may find better candidates. Losses: {escape(judged)}.</p>"
        if ranked
        else ""
    )
    return (
        f"<h2>How the search went</h2>{note}{figure}<details><summary>Every candidate</summary>"
        f"{trials_list(report)}</details>"
    )


def _reasons_section(report: ReportInput) -> str:
    records = (*report.front.failed, *report.front.infeasible, *report.front.dropped)
    if not records:
        return ""
    return f"<h2>Candidates without a loss</h2>{reasons_table(records, report)}"


def _provenance_section(report: ReportInput) -> str:
    return (
        f"<h2>What was run</h2>{facts_table(report.settings)}"
        '<p class="soft">trials.csv beside this page holds every figure in full, predicted and '
        "measured in separate columns; front.json holds the front with its architectures.</p>"
    )


def _next_section(report: ReportInput) -> str:
    if not report.commands:
        return ""
    lines = "".join(
        f"<p>{escape(purpose)}</p><pre>{html.escape(command)}</pre>"
        for purpose, command in report.commands.items()
    )
    return f"<h2>What to type next</h2>{lines}"
