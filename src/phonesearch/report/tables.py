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
    roles_of,
    shape,
    shape_row,
    sources,
)
from phonesearch.study.record import TrialRecord
from phonesearch.units import format_bytes, format_count, format_seconds


def escape(text: object) -> str:
    """`text` as HTML, quotes included."""
    return html.escape(str(text), quote=True)


def facts_table(rows: Mapping[str, str]) -> str:
    """Names and values, one row each."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<div class="table"><table class="facts"><tbody>{body}</tbody></table></div>'


def front_table(report: ReportInput) -> str:
    """The front, fastest first, knee and ties marked."""
    front = report.front
    source = "measured" if front.members[0].measured else "predicted"
    speed = OBJECTIVE_NAMES[front.objective]
    head = [
        ("candidate", ""),
        (f"{speed}, tokens/s<small>{source}, interval</small>", "number"),
        (f"first token<small>{source}</small>", "number"),
        (f"next token<small>{source}</small>", "number"),
        ("proxy loss, bits/byte<small>± standard error</small>", "number"),
        ("against best<small>not told apart from</small>", "number"),
        ("parameters<small>non-embedding</small>", "number"),
        ("peak memory<small>weights, counted</small>", "number"),
    ]
    best = front.members[-1].bits_per_byte
    rows = [_front_row(point, front, best) for point in front.members]
    return _table(head, rows)


def _front_row(point: Point, front: Front, best: float) -> str:
    record, speed = point.record, point.record.speed
    assert speed is not None
    interval = f"{format_rate(point.speed_low)} to {format_rate(point.speed_high)}"
    ties = ", ".join(f"#{number}" for number in front.tied_with(point.number))
    tied = f'<small class="ties">≈ {ties}</small>' if ties else ""
    cells = [
        ("name", f"<b>#{point.number}</b>{_badges(point.number, front)}"),
        ("number", f"{format_rate(point.speed_tokens_per_s)}<small>{interval}</small>"),
        ("number", format_seconds(speed.ttft.value_s)),
        ("number", format_seconds(speed.tpot.value_s)),
        ("number", f"{point.bits_per_byte:.4f}<small>± {point.standard_error:.4f}</small>"),
        ("number", f"{point.bits_per_byte / best - 1:+.2%}{tied}"),
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
    return _row(cells, css="knee" if point.number == front.knee else "")


def _badges(number: int, front: Front) -> str:
    return "".join(
        f'<span class="badge{" knee" if role == "knee" else ""}">{role}</span>'
        for role in roles_of(number, front)
    )


def shape_table(front: Front) -> str:
    """The architectures of the front, each number shaded by its place among all ranked."""
    names = list(dimensions(front.members[0].record.candidate))
    rows = []
    for point in front.members:
        cells = [("name", f"<b>#{point.number}</b>{_badges(point.number, front)}")]
        row = shape_row(point.record.candidate, front)
        for name in names:
            cell = row[name]
            alpha = 0 if cell.share is None else round(0.05 + 0.4 * cell.share, 3)
            number = cell.text[0].isdigit()
            style = f'number heat" style="background:rgba(11,132,201,{alpha})' if number else "name"
            cells.append((style, escape(cell.text)))
        rows.append(_row(cells))
    head = [("candidate", "")] + [
        (escape(name), "number" if _is_number(name, front) else "") for name in names
    ]
    return _table(head, rows)


def _is_number(name: str, front: Front) -> bool:
    return not isinstance(dimensions(front.members[0].record.candidate)[name], str)


def trials_list(report: ReportInput) -> str:
    """Every candidate of the run in one line each, by number."""
    front = report.front
    labels = {point.number: "front" for point in front.members}
    labels |= {point.number: "dominated" for point in front.dominated}
    labels |= dict.fromkeys(front.near, "dominated, within noise")
    labels |= {point.number: "not ranked" for point in front.censored}
    head = [
        ("candidate", ""),
        ("", ""),
        (f"tokens/s<small>{sources(report)}</small>", "number"),
        ("bits per byte", "number"),
        ("shape", ""),
        ("took", "number"),
    ]
    rows = []
    for record in sorted(report.records, key=lambda record: record.number):
        loss = f"{record.proxy.bits_per_byte:.4f}" if record.proxy else ""
        cells = [
            ("", f"#{record.number}<small>{escape(record.candidate_id)}</small>"),
            ("", labels.get(record.number, record.state)),
            ("number", _rate(record, report)),
            ("number", loss),
            ("text", escape(shape(record.candidate))),
            ("number", format_seconds(record.seconds)),
        ]
        rows.append(_row(cells))
    return _table(head, rows)


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
        _row(
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
    return _table(head, rows)


def _rate(record: TrialRecord, report: ReportInput) -> str:
    """With its source where the column's title names two."""
    if record.speed is None:
        return ""
    rate = format_rate(record.speed.tokens_per_s(report.objective)[0])
    if " or " not in sources(report):
        return rate
    return f"{rate}<small>{'predicted' if record.measured is None else 'measured'}</small>"


def _table(head: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    header = "".join(f'<th scope="col" class="{css}">{title}</th>' for title, css in head)
    return (
        f'<div class="table"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(cells: Sequence[tuple[str, str]], *, css: str = "") -> str:
    """Cells of (class, HTML); what comes from outside is escaped by the caller."""
    inner = "".join(f'<td class="{name}">{content}</td>' for name, content in cells)
    return f'<tr class="{css}">{inner}</tr>'
