"""How the losses of a run were judged, from its folder."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.report.data import AnchorRow, QualityReport
from phonesearch.study.anchors import Anchor, num_architectures, read_anchors, usable
from phonesearch.study.check import Checked, held_against, read_checks
from phonesearch.study.folder import RunFolder
from phonesearch.study.judge import left_out, make_judge
from phonesearch.study.later import LONGER_FILE, LaterTraining, read_later

_NOTES: Final = (
    "Losses are relative, and expectations: no model of this size was trained.",
    "Depth against width is judged by the law of published losses alone; short trainings are "
    "biased there. The law rests on gated networks of 50M to 2B parameters.",
    "That an effect in a model of a third of a million parameters is there at full size, no laptop "
    "can show. `docs/proxy.md` has what was tried.",
    "Loss is not accuracy on tasks, and all candidates are taken to be trained equally well.",
)
_SHORT_TRAININGS_NOTE: Final = (
    "Held against trainings of the same small models on four times the tokens, short trainings "
    "rank them roughly, not reliably: `docs/proxy.md` has the figures."
)


def quality_report(folder: RunFolder) -> QualityReport:
    """Kind, anchors with what the others say of each, and what to bear in mind.

    Raises:
        InvalidFileError: If the file of anchors is damaged.
    """
    settings = folder.settings
    anchors = read_anchors(folder.path) if settings.scored_by == "anchors" else ()
    trained = [anchor.trained for anchor in anchors if anchor.trained is not None]
    judge = make_judge(settings, trained)
    errors = {one.architecture: (one.error, one.sd) for one in left_out(judge, trained)}
    rms = None
    if errors:
        rms = math.sqrt(sum(error**2 for error, _ in errors.values()) / len(errors))
    return QualityReport(
        kind=settings.scored_by,
        anchors=tuple(_row(anchor, errors.get(_ranked_id(anchor))) for anchor in anchors),
        num_anchors=num_architectures(anchors),
        num_used=len(usable(anchors)),
        leave_one_out_rms=rms,
        horizon_tokens_per_parameter=settings.proxy.horizon_tokens_per_parameter,
        notes=_NOTES if settings.scored_by == "prior" else (_SHORT_TRAININGS_NOTE, *_NOTES),
        longer=tuple(_later_row(one) for one in read_later(folder.path, LONGER_FILE)),
        checks=tuple(_check_row(one) for one in held_against(folder, read_checks(folder.path))),
    )


def _ranked_id(anchor: Anchor) -> str:
    """Of what was trained; empty where that may not be ranked."""
    loss = anchor.trained
    return candidate_id(Candidate(**loss.proxy)) if loss and loss.passed_transition else ""


def _check_row(checked: Checked) -> AnchorRow:
    against = checked.against
    return _later_row(checked.check, None if against is None else (against.error, against.sd))


def _later_row(later: LaterTraining, error: tuple[float, float] | None = None) -> AnchorRow:
    row = _row(later.training, error)
    return replace(row, shape=f"trial {later.number}: {row.shape}")


def _row(anchor: Anchor, error: tuple[float, float] | None) -> AnchorRow:
    candidate, loss = anchor.candidate, anchor.trained
    shape = (
        f"{candidate.ffn_type} {candidate.hidden_act}, feed-forward "
        f"{candidate.intermediate_size / candidate.hidden_size:.2f} x width, "
        f"{candidate.num_attention_heads}/{candidate.num_key_value_heads} heads of "
        f"{candidate.head_dim}, {'tied' if candidate.tie_word_embeddings else 'untied'}"
    )
    if loss is None:
        return AnchorRow(
            shape=shape,
            bits_per_byte=None,
            standard_error=None,
            copy_gap_nats=None,
            passed=False,
            tokens=None,
            seconds=None,
            left_out_error=None,
            left_out_sd=None,
            reason=anchor.reason,
        )
    off, sd = error or (None, None)
    return AnchorRow(
        shape=shape,
        bits_per_byte=loss.bits_per_byte,
        standard_error=loss.standard_error,
        copy_gap_nats=loss.copy_gap_nats,
        passed=loss.passed_transition,
        tokens=loss.tokens,
        seconds=loss.seconds,
        left_out_error=off,
        left_out_sd=sd,
    )
