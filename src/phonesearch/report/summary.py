"""What was found, in sentences."""

from __future__ import annotations

from phonesearch.front.pareto import Front, Point, loss_against
from phonesearch.report.data import (
    OBJECTIVE_NAMES,
    ReportInput,
    format_rate,
)
from phonesearch.report.loss import format_difference, format_sd, loss_in_words
from phonesearch.units import format_count

_EQUAL = 1.025
"""Two candidates within 1 % of one budget differ by at most this factor."""


def found(report: ReportInput) -> tuple[str, ...]:
    """The result of the run, for the head of the page; one sentence an entry."""
    front = report.front
    if not front.members:
        return (_nothing_found(report),)
    if len(front.members) == 1:
        only = front.members[0]
        return (
            f"One candidate, {_named(only)}, has both the best {OBJECTIVE_NAMES[front.objective]} "
            "and the lowest expected loss.",
        )
    fast, good = front.members[0], front.members[-1]
    ratio = fast.speed_tokens_per_s / good.speed_tokens_per_s
    cost = loss_against(fast, good)
    sentences = [
        f"{_equal_parameters(front)}, the fastest candidate on the front, "
        f"{_named(fast)}, is {ratio:.2f} times as fast as the slowest, {_named(good)}, "
        f"for {cost.fraction * 100:.1f} % {format_sd(cost.sd)} more expected loss.",
        _recommended(front),
        _knee(front),
    ]
    if front.ties:
        sentences.append(
            f"{len(front.ties)} of {len(front.members) * (len(front.members) - 1) // 2} pairs on "
            "the front have losses that cannot be told apart; the table marks them with ≈."
        )
    return tuple(sentences)


def _nothing_found(report: ReportInput) -> str:
    front = report.front
    if not report.records:
        return "No candidate was evaluated, so there is no front."
    parts = [
        f"{len(group)} {why}"
        for group, why in (
            (front.censored, "stopped training before its proxy learnt to copy from its context"),
            (front.infeasible, "broke a limit of the run"),
            (front.dropped, "were given up early"),
            (front.failed, "failed"),
        )
        if group
    ]
    return f"No candidate could be ranked, so there is no front. Of them {', '.join(parts)}."


def _named(point: Point) -> str:
    source = "measured" if point.measured else "predicted"
    return f"#{point.number} ({format_rate(point.speed_tokens_per_s)} tokens/s {source})"


def _equal_parameters(front: Front) -> str:
    """`At equal parameters (1.50B) ` in the counting in which that is so, else the range."""
    for what, counts in (
        ("", [point.record.num_parameters for point in front.members]),
        (" non-embedding", [point.record.num_non_embedding_parameters for point in front.members]),
    ):
        if max(counts) <= _EQUAL * min(counts):
            least, most = format_count(min(counts)), format_count(max(counts))
            span = least if least == most else f"{least} to {most}"
            return f"At equal{what} parameters ({span})"
    counts = [point.record.num_parameters for point in front.members]
    return f"At {format_count(min(counts))} to {format_count(max(counts))} parameters"


def _recommended(front: Front) -> str:
    """The fastest of those that cannot be told from the best."""
    chosen = next(point for point in front.members if point.number == front.recommended)
    if chosen.number == front.best_loss:
        return (
            f"Recommended is {_named(chosen)}: it has the lowest loss, and that of each faster one "
            "is higher by more than its uncertainty."
        )
    if chosen.number == front.fastest:
        return (
            "That difference in loss is within its uncertainty: nothing shows that the fastest "
            f"one is worse, so #{chosen.number} is recommended."
        )
    return (
        f"Recommended is {_named(chosen)}: the fastest whose loss cannot be told from the lowest "
        f"({loss_in_words(chosen, front)})."
    )


def _knee(front: Front) -> str:
    if front.knee in (front.fastest, front.best_loss):
        return (
            "The front has no bend, so no candidate in between stands out; "
            f"#{front.knee} is marked as its lowest-loss end."
        )
    knee = next(point for point in front.members if point.number == front.knee)
    return (
        f"The knee, farthest beyond the line between the two ends, is {_named(knee)} at "
        f"{format_difference(loss_against(knee, front.members[-1]))} loss above the lowest."
    )


def warnings(report: ReportInput) -> tuple[str, ...]:
    """Those given, and those that the front itself calls for."""
    differing, kinds = report.front.differing_recipe_fields, report.front.score_kinds
    own = []
    if len(kinds) > 1:
        own.append(
            f"Losses were judged in different ways: {', '.join(kinds)}. They must not be compared, "
            "so do not rely on this front."
        )
    if differing:
        own.append(
            f"The proxies were not all trained alike: {', '.join(differing)} differ. Their losses "
            "must not be compared, so do not rely on this front."
        )
    return (*own, *report.warnings)


def caveats(report: ReportInput) -> tuple[str, ...]:
    """How to read the numbers: where they come from, and what they do not say."""
    lines = [report.device_note, report.loss_note]
    if report.front.near:
        numbers = ", ".join(f"#{number}" for number in report.front.near)
        lines.append(
            f"Dominated, but within the uncertainty of the loss: {numbers}. They "
            "may be on the front."
        )
    if report.front.censored:
        numbers = ", ".join(f"#{point.number}" for point in report.front.censored)
        lines.append(
            f"Not ranked: {numbers}. Their proxies had not begun to copy from the context when "
            "training stopped, so their loss says how late that is, not how good the shape is."
        )
    return tuple(line for line in lines if line)
