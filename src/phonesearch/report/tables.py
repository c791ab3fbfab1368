"""The tables of the page as HTML. Every string from outside is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from phonesearch.front.pareto import Front, Point
from phonesearch.report.data import (
    OBJECTIVE_NAMES,
    ReportInput,
    dimensions,
    format_rate,
    listed,
    roles_of,
    shape,
    shape_row,
    sources,
)
from phonesearch.report.loss import above_best, format_percent, format_sd, judged_by
from phonesearch.study.record import TrialRecord
from phonesearch.units import format_bytes, format_count, format_seconds

_OWN_HEAD = ("own short training,<br>bits/byte<small>± standard error</small>", "number")


def escape(text: object) -> str:
    """`text` as HTML, quotes included."""
    return html.escape(str(text), quote=True)


def prose(text: str) -> str:
    """Escaped `text` in which no line breaks between a number and its `±` or `%`."""
    return escape(text).replace(" %", "&nbsp;%").replace("± ", "±&nbsp;").replace(" ±", "&nbsp;±")


def facts_table(rows: Mapping[str, str]) -> str:
    """Names and values, one row each."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<div class="table"><table class="facts"><tbody>{body}</tbody></table></div>'


def front_table(report: ReportInput) -> str:
    """The front, fastest first, roles and ties marked."""
    front = report.front
    source = "measured" if front.members[0].measured else "predicted"
    speed = OBJECTIVE_NAMES[front.objective]
    has_own = any(point.proxy for point in front.members)
    head = [
        ("candidate", ""),
        (f"{speed}, tokens/s<small>{source}, interval</small>", "number"),
        (f"first token<small>{source}</small>", "number"),
        (f"next token<small>{source}</small>", "number"),
        (f"expected loss<br>above best{_judged(report)}", "number"),
        *([_OWN_HEAD] if has_own else []),
        ("parameters<small>non-embedding</small>", "number"),
        ("peak memory<small>weights, counted</small>", "number"),
    ]
    shown = listed(front)
    rows = [_front_row(point, front, shown, has_own=has_own) for point in shown]
    note = ""
    if len(shown) < len(front.members):
        note = (
            f'<p class="soft">{len(shown)} of the {len(front.members)} on the front, evenly along '
            "it; all of them are in trials.csv and front.json.</p>"
        )
    return note + table(head, rows)


def _front_row(point: Point, front: Front, shown: Sequence[Point], *, has_own: bool) -> str:
    record, speed = point.record, point.record.speed
    assert speed is not None
    interval = f"{format_rate(point.speed_low)} to {format_rate(point.speed_high)}"
    numbers = {other.number for other in shown}
    tied_with = [number for number in front.tied_with(point.number) if number in numbers]
    ties = ", ".join(f"#{number}" for number in tied_with)
    tied = f'<small class="ties">≈ {ties}</small>' if ties else ""
    cells = [
        name_cell(point, front),
        ("number", f"{format_rate(point.speed_tokens_per_s)}<small>{interval}</small>"),
        ("number", format_seconds(speed.ttft.value_s)),
        ("number", format_seconds(speed.tpot.value_s)),
        ("number", f"{_loss(point, front)}{tied}"),
        *([("number", _own_loss(point.record))] if has_own else []),
        (
            "number",
            f"{format_count(record.num_parameters)}"
            f"<small>{format_count(record.num_non_embedding_parameters)}</small>",
        ),
        (
            "number",
            f"{format_bytes(record.peak_memory_bytes)}"
            f"<small>{format_bytes(record.weight_bytes)}</small>",
        ),
    ]
    return row(cells, css="recommended" if point.number == front.recommended else "")


def _judged(report: ReportInput) -> str:
    """Under the title of a column of losses: what is beside them, and what was trained."""
    judged = escape(judged_by(report.front, report.quality))
    return f'<small>± sd, ≈ not told apart</small><small class="judged">{judged}</small>'


def _loss(point: Point, front: Front) -> str:
    if point.number == front.best_loss:
        return "lowest"
    above = above_best(point, front)
    return f"{format_percent(above.fraction)}<small>{format_sd(above.sd)}</small>"


def _own_loss(record: TrialRecord) -> str:
    if record.proxy is None:
        return ""
    return f"{record.proxy.bits_per_byte:.4f}<small>± {record.proxy.standard_error:.4f}</small>"


def name_cell(point: Point, front: Front) -> tuple[str, str]:
    """The number of a member with what it stands out by."""
    badges = "".join(
        f'<span class="badge {role.split()[0]}">{role}</span>'
        for role in roles_of(point.number, front)
    )
    return "candidate", f"<b>#{point.number}</b>{badges}"


def shape_table(front: Front) -> str:
    """The architectures of the front, each number shaded by its place among all ranked."""
    names = list(dimensions(front.members[0].record.candidate))
    rows = []
    for point in listed(front):
        cells = [name_cell(point, front)]
        shown = shape_row(point.record.candidate, front)
        for name in names:
            cell = shown[name]
            alpha = 0 if cell.share is None else round(0.05 + 0.4 * cell.share, 3)
            number = cell.text[0].isdigit()
            style = f'number heat" style="background:rgba(11,132,201,{alpha})' if number else "name"
            cells.append((style, escape(cell.text)))
        rows.append(row(cells))
    head = [("candidate", "")] + [
        (escape(name), "number" if _is_number(name, front) else "") for name in names
    ]
    return table(head, rows)


def _is_number(name: str, front: Front) -> bool:
    return not isinstance(dimensions(front.members[0].record.candidate)[name], str)


def trials_list(report: ReportInput) -> str:
    """Every candidate of the run in one line each, by number."""
    front = report.front
    labels = {point.number: "front" for point in front.members}
    labels |= {point.number: "dominated" for point in front.dominated}
    labels |= dict.fromkeys(front.near, "dominated, within noise")
    labels |= {point.number: "not ranked" for point in front.censored}
    points = {point.number: point for point in front.ranked}
    has_own = any(record.proxy for record in report.records)
    head = [
        ("candidate", ""),
        ("", ""),
        (f"tokens/s<small>{sources(report)}</small>", "number"),
        (f"expected loss<br>above best{_judged(report)}", "number"),
        *([_OWN_HEAD] if has_own else []),
        ("shape", ""),
        ("took", "number"),
    ]
    rows = []
    for record in sorted(report.records, key=lambda record: record.number):
        point = points.get(record.number)
        loss = _loss(point, front) if point else ""
        cells = [
            ("", f"#{record.number}<small>{escape(record.candidate_id)}</small>"),
            ("", labels.get(record.number, record.state)),
            ("number", _rate(record, report)),
            ("number", loss),
            *([("number", _own_loss(record))] if has_own else []),
            ("text", escape(shape(record.candidate))),
            ("number", format_seconds(record.seconds)),
        ]
        rows.append(row(cells))
    return table(head, rows)


def reasons_table(records: Iterable[TrialRecord], report: ReportInput) -> str:
    """Why candidates have no loss."""
    head = [
        ("candidate", ""),
        ("state", ""),
        ("reason", ""),
        (f"tokens/s<small>{sources(report)}</small>", "number"),
        ("shape", ""),
    ]
    rows = [
        row(
            [
                ("", f"#{record.number}"),
                ("", record.state),
                ("text", escape(record.reason or "not recorded")),
                ("number", _rate(record, report)),
                ("text", escape(shape(record.candidate))),
            ]
        )
        for record in records
    ]
    return table(head, rows)


def _rate(record: TrialRecord, report: ReportInput) -> str:
    """With its source where the column's title names two."""
    if record.speed is None:
        return ""
    rate = format_rate(record.speed.tokens_per_s(report.objective)[0])
    if " or " not in sources(report):
        return rate
    return f"{rate}<small>{'predicted' if record.measured is None else 'measured'}</small>"


def table(head: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    """Heads of (HTML, class) over rows made by `row`."""
    header = "".join(f'<th scope="col" class="{css}">{title}</th>' for title, css in head)
    return (
        f'<div class="table"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(cells: Sequence[tuple[str, str]], *, css: str = "") -> str:
    """Cells of (class, HTML); what comes from outside is escaped by the caller."""
    inner = "".join(f'<td class="{name}">{content}</td>' for name, content in cells)
    return f'<tr class="{css}">{inner}</tr>'
