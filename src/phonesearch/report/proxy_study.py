"""The part of `docs/proxy.md` on trainings that were held against longer ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch.proxy.uncertainty import COPY_GAP_PASSED_NATS
from phonesearch.quality.lengths import LengthPair, across_lengths
from phonesearch.quality.study import BY_FEATURES, COVERAGE, StudyResult, judge_study
from phonesearch.quality.study_table import read_study
from phonesearch.report.markdown import markdown_table

STUDY: Final = Path("proxy") / "study.csv"
SHORTER_STUDY: Final = Path("proxy") / "study-700k.csv"
"""Of the recipe of before, which had half of the tokens: why today's has more."""
FORMER_GUARD_NATS: Final = 0.30
"""What `COPY_GAP_PASSED_NATS` was before the first of these tables was there."""
_HELD: Final = (0.80, 0.97)
"""Shares of the truths that intervals of 90 % are meant to hold."""
_GOALS: Final = {"overall": 0.8, "one_depth": 0.85}


@dataclass(frozen=True, slots=True, kw_only=True)
class Studies:
    """What the committed tables say."""

    study: StudyResult | None = None
    """Of today's recipe; None where it has not been put to the test."""
    former_guard: StudyResult | None = None
    """The same trainings by the guard of before."""
    shorter: StudyResult | None = None
    """Of the recipe of before."""
    lengths: tuple[LengthPair, ...] = ()
    """Every length against every longer one."""


def read_studies(folder: Path) -> Studies:
    """What the tables below `folder` say, as far as they are there.

    Raises:
        QualityError: If a table does not fit.
    """

    def judged(table: Path, guard: float) -> StudyResult | None:
        path = folder / table
        if not path.is_file():
            return None
        return judge_study(read_study(path, least_copy_gap_nats=guard))

    there = [folder / table for table in (STUDY, SHORTER_STUDY) if (folder / table).is_file()]
    rows = [
        row for path in there for row in read_study(path, least_copy_gap_nats=COPY_GAP_PASSED_NATS)
    ]
    return Studies(
        study=judged(STUDY, COPY_GAP_PASSED_NATS),
        former_guard=judged(STUDY, FORMER_GUARD_NATS),
        shorter=judged(SHORTER_STUDY, COPY_GAP_PASSED_NATS),
        lengths=tuple(across_lengths(rows)),
    )


def study_section(studies: Studies) -> str:
    """How well all of it ranks small models that were trained longer, in Markdown."""
    study, shorter, lengths = studies.study, studies.shorter, studies.lengths
    parts = ["## Put to the test"]
    if study is None:
        parts.append(
            "Trainings of today's length have not been put to the test yet: `python "
            "benchmarks/proxy_study.py train`. So how well they rank is not known."
        )
    else:
        parts.append(_tested(study, STUDY))
        if studies.former_guard is not None:
            parts.append(_guarded(study, studies.former_guard))
    if shorter is not None:
        parts += ["### Why they are not shorter", _tested(shorter, SHORTER_STUDY)]
        if shorter.along:
            parts.append(_along(shorter))
    if lengths and study is not None and shorter is not None:
        parts.append(_lengths(lengths))
    return "\n\n".join(parts)


def _lengths(pairs: Sequence[LengthPair]) -> str:
    rows = [("tokens", "against tokens", "architectures", "all", "one depth")]
    rows += [
        (
            f"{pair.tokens:,}",
            f"{pair.longer_tokens:,}",
            str(pair.num_architectures),
            f"{pair.overall:.2f}",
            f"{pair.one_depth:.2f}",
        )
        for pair in pairs
    ]
    return f"""Both studies train the same architectures, so that every length can be held against
every longer one, each after its learning rate came down:

{markdown_table(rows)}"""


def _along(study: StudyResult) -> str:
    rows = [("after tokens", "all", "one depth")]
    rows += [(f"{at.tokens:,}", f"{at.overall:.2f}", f"{at.one_depth:.2f}") for at in study.along]
    return f"""The training loss of these long trainings, on the way and before the learning rate
comes down, ranks their end like this; the order is not there until copying has set in for all:

{markdown_table(rows)}"""


def _tested(study: StudyResult, table: Path) -> str:
    rows = [("ranked by", "all", "one depth", f"{COVERAGE:.0%} intervals hold")]
    rows += [
        (
            one.what,
            f"{one.overall:.2f}",
            f"{one.one_depth:.2f}",
            "" if one.held is None else f"{one.held:.0%}",
        )
        for one in study.rankings
    ]
    return f"""{study.num_architectures} small architectures ({study.num_of_one_depth} of one depth
against width) were trained on {study.tokens:,} tokens and then on {study.longer} times as many,
which is taken as the truth: `python benchmarks/proxy_study.py train`, every training a row of [the
table]({table.as_posix()}). {study.num_passed} of {study.num_short} short trainings had passed the
guard. Spearman's coefficient with the truth; the third row is how anchors judge candidates that
were not trained, the last how `--proxy each` judges those that were:

{markdown_table(rows)}

{_goals(study)}The truths have a standard deviation of {study.truth_sd:.4f} in
log loss, and {_seeds(study)}.
With that much scatter even the very truth would correlate only about {study.ceiling:.2f} with what
was trained, so nothing can be expected to rank it better. This shows what short
trainings are worth for the same small models trained longer. That it carries to 1.5B, no study of
this size can show."""


def _goals(study: StudyResult) -> str:
    """What the rows with intervals, after the short trainings, make of the goals."""
    low, high = _HELD
    lines = []
    for one in study.rankings[-2:]:
        if one.held is None:
            continue
        marks = (
            (
                f"within one depth at least {_GOALS['one_depth']}",
                one.one_depth >= _GOALS["one_depth"],
            ),
            (f"over all at least {_GOALS['overall']}", one.overall >= _GOALS["overall"]),
            (f"intervals that hold {low:.0%} to {high:.0%}", low <= one.held <= high),
        )
        met = "; ".join(f"{'met' if kept else 'missed'}: {goal}" for goal, kept in marks)
        lines.append(f"* Goals, by {one.what}: {met}.\n")
    return "".join([*lines, "\n"]) if lines else ""


def _guarded(study: StudyResult, before: StudyResult) -> str:
    now, then = (
        next(one for one in found.rankings if one.held is not None and one.what == BY_FEATURES)
        for found in (study, before)
    )
    return f"""The guard was {FORMER_GUARD_NATS} nats when these were trained, and was raised to
{COPY_GAP_PASSED_NATS} on seeing how large the gap of trainings long past the transition is. With
the former one {before.num_passed} of {before.num_short} passed, and the third row had
{then.overall:.2f} and {then.one_depth:.2f} instead of {now.overall:.2f} and {now.one_depth:.2f}.
As it was chosen with this table in hand, a new one would look less rosy."""


def _seeds(study: StudyResult) -> str:
    if math.isnan(study.seed_difference):
        return "none has two seeds yet, so how far these differ is not known here"
    return f"two seeds of one differ by {study.seed_difference:.4f} (median)"
