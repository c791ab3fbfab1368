"""The section of the page on how losses were judged: what each is made of, and the anchors."""

from __future__ import annotations

from collections.abc import Sequence

from phonesearch.front.pareto import Point
from phonesearch.report.data import AnchorRow, QualityReport, ReportInput, listed
from phonesearch.report.loss import (
    PART_NAMES,
    above_best,
    format_percent,
    format_sd,
    how_judged,
    judged_by,
    parts_above_best,
)
from phonesearch.report.tables import escape, name_cell, prose, row, table
from phonesearch.units import format_count, format_seconds

_LONGER_STANDING = {True: "used", False: "not used: nothing to compare it with"}


def judged_section(report: ReportInput) -> str:
    """HTML of the section; empty where nothing is ranked and nothing is known."""
    quality, front = report.quality, report.front
    if quality is None and not front.members:
        return ""
    sentences = [how_judged(front, quality)]
    if quality is not None:
        sentences.append(
            "Losses are those expected after a pre-training on "
            f"{quality.horizon_tokens_per_parameter:g} tokens a parameter."
        )
    return (
        f'<h2>How loss was judged</h2><p class="soft">{prose(" ".join(sentences))}</p>'
        f"{_parts(report)}{_anchors(quality)}{_longer(quality)}{_checks(quality)}{_notes(quality)}"
    )


def _parts(report: ReportInput) -> str:
    front = report.front
    if not front.members:
        return ""
    return (
        "<h3>What each loss is made of</h3>"
        '<p class="soft">Each is a difference of log loss to the best, times 100, which is percent '
        "as long as it is small. The parts add up to the sum, which the figure shows; ± is one "
        "standard deviation of that difference, so the best has none.</p>"
        f"{parts_table(report)}"
    )


def parts_table(report: ReportInput) -> str:
    """The expected loss of every member by its parts, fastest first."""
    front = report.front
    names = _part_names(front.members)
    judged = escape(judged_by(front, report.quality))
    head = [
        ("candidate", ""),
        *((f"{name}, %", "number") for name in names),
        (f'sum, %<small class="judged">{judged}</small>', "number"),
        ("± sd, %", "number"),
    ]
    rows = []
    for point in listed(front):
        parts = parts_above_best(point, front)
        values = (parts.law, parts.prior, parts.proxy)[: len(names)]
        above = above_best(point, front)
        is_best = point.number == front.best_loss
        cells = [
            name_cell(point, front),
            *(("number", _log_percent(value)) for value in values),
            ("number", f"<b>{_log_percent(above.log_difference)}</b>"),
            ("number", "" if is_best else f"{above.sd * 100:.1f}"),
        ]
        rows.append(row(cells))
    return table(head, rows)


def _part_names(members: Sequence[Point]) -> tuple[str, ...]:
    """Those of the parts that the members have: by priors alone, no training is in any."""
    kinds = {point.score.kind for point in members}
    return PART_NAMES[:2] if kinds == {"prior"} else PART_NAMES


def _log_percent(difference: float) -> str:
    return format_percent(difference).removesuffix(" %")


def _anchors(quality: QualityReport | None) -> str:
    if quality is None or not quality.anchors:
        return ""
    error = (
        " An anchor that is left out and predicted from the others is off by "
        f"{quality.leave_one_out_rms * 100:.1f} % of loss, root mean square."
        if quality.leave_one_out_rms is not None
        else ""
    )
    return (
        "<h3>The short trainings</h3>"
        f'<p class="soft">{quality.num_used} of {quality.num_anchors} anchors are used, all '
        f"trained on the same batches.{prose(error)}</p>{anchors_table(quality)}"
    )


def _longer(quality: QualityReport | None) -> str:
    if quality is None or not quality.longer:
        return ""
    return (
        "<h3>Members of the front that were trained for longer</h3>"
        f'<p class="soft">{prose(longer_in_words(quality))}</p>'
        f"{_trainings_table(quality.longer, _LONGER_STANDING[_is_told(quality)])}"
    )


def longer_in_words(quality: QualityReport) -> str:
    """What was done with the longer trainings of a run, in sentences."""
    tokens = format_count(max(row.tokens or 0 for row in quality.longer))
    trained = (
        f"{len(quality.longer)} that were on the front after the search were trained on towards "
        f"{tokens} tokens, which trainings that were given up had left."
    )
    if not _is_told(quality):
        return f"{trained} Not two of them can be compared, so no score rests on them."
    used = sum(row.passed for row in quality.longer)
    return (
        f"{trained} {used} of these losses are used: each is compared with those of its length "
        "only, and the score of its candidate rests on both of its trainings."
    )


def _is_told(quality: QualityReport) -> bool:
    """Whether any score rests on a longer training: one alone says nothing."""
    return sum(row.passed for row in quality.longer) > 1


def _checks(quality: QualityReport | None) -> str:
    if quality is None or not quality.checks:
        return ""
    return (
        "<h3>Candidates trained as a check</h3>"
        f'<p class="soft">{prose(checks_in_words(quality))}</p>'
        f"{_trainings_table(quality.checks, 'checked')}"
    )


def checks_in_words(quality: QualityReport) -> str:
    """What the checks of a run say of how its losses were judged, in sentences."""
    ranked = [row for row in quality.checks if row.left_out_sd is not None]
    if not ranked:
        return (
            "None of the candidates trained after the search can be held against others: it takes "
            "two trainings past the copying transition."
        )
    held = len(ranked) - len(quality.checks_in_doubt)
    return (
        "Trained after the search, and held against what all other short trainings of this run, "
        f"laws and priors lead one to expect: {held} of {len(ranked)} are within the 90 % "
        "interval. That is a check of what is expected of short trainings of small models; no "
        "candidate was judged by it."
    )


def anchors_table(quality: QualityReport) -> str:
    """Every anchor, with its error when it is predicted from the others."""
    return _trainings_table(quality.anchors, "used")


def _trainings_table(trainings: Sequence[AnchorRow], standing: str) -> str:
    has_error = any(one.left_out_error is not None for one in trainings)
    head = [
        ("architecture", ""),
        ("bits per byte<small>± standard error</small>", "number"),
        *([("left out: off by<small>± sd expected</small>", "number")] if has_error else []),
        ("copy gap, nats", "number"),
        ("tokens", "number"),
        ("took", "number"),
        ("", ""),
    ]
    return table(head, [_training_row(one, standing, has_error) for one in trainings])


def _training_row(anchor: AnchorRow, standing: str, has_error: bool) -> str:
    loss = ""
    if anchor.bits_per_byte is not None:
        loss = f"{anchor.bits_per_byte:.4f}"
        if anchor.standard_error is not None:
            loss += f"<small>± {anchor.standard_error:.4f}</small>"
    error = ""
    if anchor.left_out_error is not None:
        error = format_percent(anchor.left_out_error)
        if anchor.left_out_sd is not None:
            error += f"<small>{format_sd(anchor.left_out_sd)}</small>"
    gap = "" if anchor.copy_gap_nats is None else f"{anchor.copy_gap_nats:.2f}"
    cells = [
        ("text", escape(anchor.shape)),
        ("number", loss),
        *([("number", error)] if has_error else []),
        ("number", gap),
        ("number", "" if anchor.tokens is None else format_count(anchor.tokens)),
        ("number", "" if anchor.seconds is None else format_seconds(anchor.seconds)),
        ("text" if anchor.reason else "", _standing(anchor, standing)),
    ]
    return row(cells)


def _standing(anchor: AnchorRow, standing: str) -> str:
    if anchor.reason is not None:
        return f"not used: failed, {escape(anchor.reason)}"
    return standing if anchor.passed else "not used: had not begun to copy"


def _notes(quality: QualityReport | None) -> str:
    if quality is None or not quality.notes:
        return ""
    lines = "".join(f"<li>{prose(note)}</li>" for note in quality.notes)
    return f'<h3>What this cannot tell</h3><ul class="soft">{lines}</ul>'
