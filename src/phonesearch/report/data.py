"""What there is to draw, worked out once: the page, the figures and the picture only show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from phonesearch.candidate.config import Candidate
from phonesearch.device.speed import SpeedObjective
from phonesearch.front.pareto import Front, Point
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import ScoreKind
from phonesearch.units import format_count

Kind = Literal["front", "dominated", "censored", "infeasible", "dropped", "failed", "known"]

DOUBT_SDS = 1.645
"""Deviations of an error beyond which a check speaks against the judge: outside of 90 %."""
_CROWD = 60
_MOST_LABELS = 16
_MOST_ROWS = 40

OBJECTIVE_NAMES: dict[SpeedObjective, str] = {
    "decode": "decode speed",
    "prefill": "prefill speed",
    "turn": "speed of a whole turn",
}


@dataclass(frozen=True, kw_only=True)
class KnownSpeed:
    """A released model at its predicted speed; its loss is not known."""

    name: str
    num_parameters: int
    tokens_per_s: float
    """Predicted, of the run's speed objective."""
    low: float
    """Low end of the prediction interval, tokens/s."""
    high: float
    """High end of the prediction interval, tokens/s."""


@dataclass(frozen=True, kw_only=True)
class AnchorRow:
    """A short training that other architectures are judged by. Its figures are None where it
    failed."""

    shape: str
    """The architecture in words."""
    bits_per_byte: float | None
    standard_error: float | None
    """Of `bits_per_byte`."""
    copy_gap_nats: float | None
    passed: bool
    """The copying transition; where it has not, no candidate is judged by it."""
    tokens: int | None
    seconds: float | None
    left_out_error: float | None
    """Observed log loss less that predicted from the other anchors; None where it is not used."""
    left_out_sd: float | None
    """Of `left_out_error`, as the model expects it."""
    reason: str | None = None
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What is known of how the losses of a run were judged."""

    kind: ScoreKind
    anchors: tuple[AnchorRow, ...]
    """Empty unless `kind` is `anchors`. One that was gone on with has a row for each length."""
    num_anchors: int
    """Architectures in `anchors`."""
    num_used: int
    """Those that candidates are judged by."""
    leave_one_out_rms: float | None
    """Root mean square of the anchors' `left_out_error`; None where there are too few."""
    horizon_tokens_per_parameter: float
    """Of the planned training."""
    notes: tuple[str, ...]
    """What the judgement cannot tell, one sentence or two each."""
    checks: tuple[AnchorRow, ...] = ()
    """Candidates that were trained after the search; `left_out_error` is against all other short
    trainings of the run."""

    longer: tuple[AnchorRow, ...] = ()
    """Members of the front that were trained on for longer; nothing is left out for them."""

    @property
    def checks_in_doubt(self) -> tuple[AnchorRow, ...]:
        """Those of the checks that are more than `DOUBT_SDS` deviations off."""
        return tuple(
            row
            for row in self.checks
            if row.left_out_error is not None
            and row.left_out_sd is not None
            and abs(row.left_out_error) > DOUBT_SDS * row.left_out_sd
        )


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """Everything that a report shows."""

    name: str
    """Name of the run, the title of the page."""
    settings: Mapping[str, str]
    """Rows of the settings table; `device` and `budget` also go into the headline."""
    objective: SpeedObjective
    records: tuple[TrialRecord, ...]
    front: Front
    """Of these `records` and this `objective`."""
    known: tuple[KnownSpeed, ...]
    """Released models of comparable size; may be empty."""
    device_note: str
    """Where the speeds come from: profile, engine and hash, or the machine that measured."""
    loss_note: str
    """Where the losses come from: what was trained, and on what."""
    warnings: tuple[str, ...]
    """What the reader must know before trusting a number."""
    commands: Mapping[str, str]
    """What to type next: purpose to command line."""
    quality: QualityReport | None = None
    """None where it was not looked up; the page then shows the scores alone."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Points of the scatter that look alike."""

    kind: Kind
    label: str
    points: tuple[Point, ...]

    @property
    def bars(self) -> bool:
        """Whether error bars are drawn; those of a crowd would hide the front."""
        return self.kind == "front" or len(self.points) <= _CROWD


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A speed without a loss."""

    tokens_per_s: float
    low: float
    high: float
    hover: tuple[str, ...]
    """Lines that describe it; the first is its title."""


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """One row of the strip under the scatter."""

    kind: Kind
    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class ShapeCell:
    """One dimension of one candidate."""

    text: str
    share: float | None
    """Where it lies between the least (0) and most (1) of all ranked candidates; None for
    what has no order and for what all share."""


def scatter_groups(front: Front) -> tuple[Group, ...]:
    """Groups with at least one point, drawn first to last."""
    groups = (
        Group(kind="censored", label="not ranked: proxy too early", points=front.censored),
        Group(kind="dominated", label="dominated", points=front.dominated),
        Group(kind="front", label="Pareto front", points=front.members),
    )
    return tuple(group for group in groups if group.points)


def labelled(front: Front) -> tuple[int, ...]:
    """Members whose number is written beside them: all, or of many those that stand out."""
    if len(front.members) <= _MOST_LABELS:
        return tuple(point.number for point in front.members)
    return tuple(point.number for point in front.members if roles_of(point.number, front))


def listed(front: Front) -> tuple[Point, ...]:
    """Members that tables list, fastest first: all, or of very many those that stand out and
    others evenly along the front."""
    members = front.members
    if len(members) <= _MOST_ROWS:
        return members
    logs = [math.log(point.speed_tokens_per_s) for point in members]
    chosen = {
        min(range(len(members)), key=lambda place: abs(logs[place] - wanted))
        for wanted in (
            logs[0] + share / (_MOST_ROWS - 1) * (logs[-1] - logs[0]) for share in range(_MOST_ROWS)
        )
    }
    chosen |= {place for place, one in enumerate(members) if roles_of(one.number, front)}
    return tuple(members[place] for place in sorted(chosen))


def strip_rows(report: ReportInput) -> tuple[StripRow, ...]:
    """Candidates that were timed but have no loss, then known models, slowest first."""
    rows = []
    untrained: tuple[tuple[Kind, str, tuple[TrialRecord, ...]], ...] = (
        ("failed", "failed", report.front.failed),
        ("dropped", "given up early", report.front.dropped),
        ("infeasible", "breaks a limit", report.front.infeasible),
    )
    for kind, label, records in untrained:
        marks = tuple(
            _mark(record, report.objective) for record in records if record.speed is not None
        )
        if marks:
            rows.append(StripRow(kind=kind, label=label, marks=marks))
    for model in sorted(report.known, key=lambda model: model.tokens_per_s):
        size = format_count(model.num_parameters)
        hover = (
            f"{model.name}, {size} parameters",
            f"{rate_with_interval(model.tokens_per_s, model.low, model.high)} (predicted)",
            "loss not known",
        )
        mark = Mark(tokens_per_s=model.tokens_per_s, low=model.low, high=model.high, hover=hover)
        rows.append(StripRow(kind="known", label=f"{model.name} ({size})", marks=(mark,)))
    return tuple(rows)


def strip_title(report: ReportInput) -> str:
    """What the strip shows, and where its speeds come from."""
    source = sources(report)
    if report.known and source != "predicted":
        source = f"candidates {source}, known models predicted"
    return f"speed only, no loss known ({source})"


def _mark(record: TrialRecord, objective: SpeedObjective) -> Mark:
    assert record.speed is not None
    value, low, high = record.speed.tokens_per_s(objective)
    source = "measured" if record.measured is not None else "predicted"
    hover = (
        f"#{record.number}, {record.state}: {record.reason}",
        f"{rate_with_interval(value, low, high)} ({source})",
        shape(record.candidate),
    )
    return Mark(tokens_per_s=value, low=low, high=high, hover=hover)


def roles_of(number: int, front: Front) -> tuple[str, ...]:
    """What a member of the front stands out by."""
    if len(front.members) == 1 and number == front.fastest:
        return ("only member",)
    roles = (
        ("recommended", front.recommended),
        ("fastest", front.fastest),
        ("knee", front.knee),
        ("lowest loss", front.best_loss),
    )
    return tuple(name for name, holder in roles if holder == number)


def operator_names(front: Front) -> tuple[str, ...]:
    """Kinds of work that the members' predicted times are made of, longest in decode first."""
    totals: dict[str, float] = {}
    for point in front.members:
        for name in point.record.prefill_seconds_by_operator or ():
            totals.setdefault(name, 0.0)
        for name, seconds in (point.record.decode_seconds_by_operator or {}).items():
            totals[name] = totals.get(name, 0.0) + seconds
    return tuple(sorted(totals, key=lambda name: (-totals[name], name)))


def shape(candidate: Candidate) -> str:
    """An architecture in one line."""
    heads = f"{candidate.num_attention_heads} query/{candidate.num_key_value_heads} KV heads"
    tied = "tied" if candidate.tie_word_embeddings else "untied"
    return (
        f"{candidate.num_hidden_layers} layers × {candidate.hidden_size}, {heads} of "
        f"{candidate.head_dim}, {candidate.ffn_type} {candidate.hidden_act} FFN "
        f"{candidate.intermediate_size}, vocabulary {candidate.vocab_size:,} {tied}"
    )


Value = float | str


def dimensions(candidate: Candidate) -> dict[str, Value]:
    """What the search varies, under the names that a reader sees."""
    return {
        "layers": candidate.num_hidden_layers,
        "hidden size": candidate.hidden_size,
        "FFN size": candidate.intermediate_size,
        "FFN / hidden": round(candidate.intermediate_size / candidate.hidden_size, 3),
        "FFN": f"{candidate.ffn_type} {candidate.hidden_act}",
        "heads": candidate.num_attention_heads,
        "KV heads": candidate.num_key_value_heads,
        "head size": candidate.head_dim,
        "vocabulary": candidate.vocab_size,
        "embeddings": "tied" if candidate.tie_word_embeddings else "untied",
    }


def varied_dimensions(front: Front) -> tuple[str, ...]:
    """Dimensions that are not the same for all ranked candidates."""
    rows = [dimensions(point.record.candidate) for point in front.ranked]
    return tuple(name for name in (rows[0] if rows else ()) if len({row[name] for row in rows}) > 1)


def shape_row(candidate: Candidate, front: Front) -> dict[str, ShapeCell]:
    """The dimensions of one candidate, and where they lie among all ranked ones."""
    all_rows = [dimensions(point.record.candidate) for point in front.ranked]
    cells = {}
    for name, value in dimensions(candidate).items():
        share = None
        if not isinstance(value, str):
            values = [other for row in all_rows if not isinstance(other := row[name], str)]
            least, most = min(values), max(values)
            share = (value - least) / (most - least) if most > least else None
        text = _dimension_text(value)
        cells[name] = ShapeCell(text=text, share=share)
    return cells


def _dimension_text(value: Value) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def sources(report: ReportInput) -> str:
    """`predicted`, `measured`, or both, for the speeds of all timed candidates."""
    found = {
        "measured" if record.measured is not None else "predicted"
        for record in report.records
        if record.speed is not None
    }
    return " or ".join(sorted(found, reverse=True)) or "predicted"


def coverage(report: ReportInput) -> str:
    """Share of cases that the speed intervals hold, as `90 %`; empty when nothing was timed."""
    found = sorted({record.speed.coverage for record in report.records if record.speed})
    return " or ".join(f"{value * 100:g} %" for value in found)


def speed_axis_title(report: ReportInput) -> str:
    """Name, unit, source and interval of the speeds."""
    held = coverage(report)
    interval = f", {held} interval" if held else ""
    return f"{OBJECTIVE_NAMES[report.objective]}, tokens/s ({sources(report)}{interval})"


def format_rate(tokens_per_s: float) -> str:
    """Three significant digits, without an exponent."""
    if tokens_per_s >= 99.95:
        return f"{tokens_per_s:,.0f}"
    return f"{tokens_per_s:.1f}" if tokens_per_s >= 9.995 else f"{tokens_per_s:.2f}"


def rate_with_interval(tokens_per_s: float, low: float, high: float) -> str:
    """`58.1 tokens/s (49.0 to 66.2)`."""
    return f"{format_rate(tokens_per_s)} tokens/s ({format_rate(low)} to {format_rate(high)})"
