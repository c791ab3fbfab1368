"""How losses are named, drawn and written: in the same words everywhere, and never without what
was trained for them."""

from __future__ import annotations

from dataclasses import dataclass

from phonesearch.front.pareto import Front, LossDifference, Point, loss_against
from phonesearch.report.data import (
    OBJECTIVE_NAMES,
    QualityReport,
    rate_with_interval,
    roles_of,
    shape,
)
from phonesearch.units import format_count

PART_NAMES = ("law", "published priors", "short trainings")
"""What losses are made of, in the order of `LossParts`."""


@dataclass(frozen=True, kw_only=True)
class LossParts:
    """What a difference of log loss to the best is made of; the three parts add up to it."""

    law: float
    prior: float
    proxy: float


def reference(front: Front) -> Point | None:
    """What losses are drawn against: the best of the front, or where there is none the lowest of
    those that are not ranked. None where nothing has a loss."""
    return front.best or min(front.censored, key=lambda point: point.log_loss, default=None)


def above_best(point: Point, front: Front) -> LossDifference:
    """The expected loss of a point against the `reference`."""
    against = reference(front)
    assert against is not None
    return loss_against(point, against)


def parts_above_best(point: Point, front: Front) -> LossParts:
    """What the loss of a point differs from the `reference` by."""
    against = reference(front)
    assert against is not None
    one, best = point.score, against.score
    return LossParts(
        law=one.law - best.law, prior=one.prior - best.prior, proxy=one.proxy - best.proxy
    )


def drawn_loss(point: Point, front: Front) -> float:
    """Where a point lies on the loss axis: difference of log loss to the best, times 100."""
    return above_best(point, front).log_difference * 100


def drawn_loss_sd(point: Point, front: Front) -> float:
    """Length of a point's loss bar; nothing for the best, which is drawn against itself."""
    return above_best(point, front).sd * 100


def format_percent(fraction: float) -> str:
    """`+1.2 %`; never `-0.0 %`."""
    return f"{round(fraction * 100, 1) + 0.0:+.1f} %"


def format_sd(sd: float) -> str:
    """`± 0.4 %`."""
    return f"± {sd * 100:.1f} %"


def format_difference(found: LossDifference) -> str:
    """`+1.2 % ± 0.4 %`."""
    return f"{format_percent(found.fraction)} {format_sd(found.sd)}"


def judged_by(front: Front, quality: QualityReport | None) -> str:
    """What was trained, in a few words: for axes, table heads and badges."""
    kinds = _kinds(front, quality)
    if len(kinds) > 1:
        return f"judged in different ways: {', '.join(kinds)}"
    if kinds == ("prior",):
        return "nothing was trained to judge by" if _checked(quality) else "nothing was trained"
    if kinds == ("anchors",):
        return f"short trainings of {_how_many(quality)}other architectures"
    return "a short training of each"


def how_judged(front: Front, quality: QualityReport | None) -> str:
    """What was trained and what else losses come from, in a sentence."""
    kinds = _kinds(front, quality)
    if len(kinds) > 1:
        return f"Losses were judged in different ways ({', '.join(kinds)})."
    expected = "losses are what published laws and comparisons lead one to expect"
    if kinds == ("prior",):
        if _checked(quality):
            return (
                f"Nothing was trained to judge by: {expected}. The candidates trained afterwards, "
                "as a check, changed no loss."
            )
        return (
            f"Neither candidates nor other architectures were trained: {expected}, and nothing of "
            "this run has tested them."
        )
    if kinds == ("anchors",):
        return (
            f"No candidate was trained itself: {expected}, corrected by short trainings of "
            f"{_how_many(quality)}other architectures."
        )
    return (
        "Losses come from a short training of a scaled-down proxy of each candidate, and from "
        "published laws and comparisons for what that cannot tell."
    )


def is_untrained(front: Front, quality: QualityReport | None) -> bool:
    """Whether any loss that is shown was judged by priors alone."""
    return "prior" in _kinds(front, quality)


def _kinds(front: Front, quality: QualityReport | None) -> tuple[str, ...]:
    """Without a ranked candidate, what the run meant to judge by."""
    if front.score_kinds or quality is None:
        return front.score_kinds
    return (quality.kind,)


def _checked(quality: QualityReport | None) -> bool:
    return quality is not None and bool(quality.checks)


def _how_many(quality: QualityReport | None) -> str:
    return f"{quality.num_used} " if quality is not None else ""


def loss_axis_title(front: Front, quality: QualityReport | None) -> str:
    """Name and unit of the drawn losses, then their bars and what was trained, in two lines."""
    return f"expected loss above the best, %\n± 1 sd; {judged_by(front, quality)}"


def loss_in_words(point: Point, front: Front) -> str:
    """`+1.2 % ± 0.4 % against #9`, or that it is the lowest."""
    against = reference(front)
    assert against is not None
    if point.number == against.number:
        return "the lowest" if front.members else "the lowest of those not ranked"
    return f"{format_difference(loss_against(point, against))} against #{against.number}"


def own_loss_in_words(point: Point) -> str:
    """Loss of its own proxy with its standard error; empty where it had none."""
    if point.proxy is None:
        return ""
    return f"{point.proxy.bits_per_byte:.4f} ± {point.proxy.standard_error:.4f} bits per byte"


def point_hover(point: Point, front: Front, quality: QualityReport | None) -> tuple[str, ...]:
    """Lines that describe one point; the first is its title."""
    source = "measured" if point.measured else "predicted"
    rate = rate_with_interval(point.speed_tokens_per_s, point.speed_low, point.speed_high)
    roles = roles_of(point.number, front)
    lines = [
        f"#{point.number}" + (f" ({', '.join(roles)})" if roles else ""),
        f"{OBJECTIVE_NAMES[front.objective]}: {rate} ({source})",
        f"expected loss: {loss_in_words(point, front)}",
    ]
    against = reference(front)
    if against is not None and point.number != against.number:
        parts = parts_above_best(point, front)
        values = (parts.law, parts.prior, parts.proxy)
        named = list(zip(PART_NAMES, values, strict=True))
        if point.score.kind == "prior":
            named.pop()
        lines.append("of it: " + ", ".join(f"{name} {format_percent(v)}" for name, v in named))
    own = own_loss_in_words(point)
    lines.append(f"its own short training: {own}" if own else judged_by(front, quality))
    if point.is_censored:
        lines.append("not ranked: its proxy had not begun to copy")
    return (
        *lines,
        shape(point.record.candidate),
        f"{format_count(point.record.num_parameters)} parameters",
    )
