"""Short trainings of candidates of the front after the search, as a check of what was expected.

A run by anchors or priors says of every candidate what loss is expected, and of none what it has.
Trained as anchors are, a few candidates show whether short trainings agree with what the others
lead one to expect of them. Nothing is judged anew by that: it says whether to believe the judge.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.errors import SettingsError
from phonesearch.proxy.corpus import Corpus
from phonesearch.quality.update import LeftOut
from phonesearch.study.anchor_training import train_later
from phonesearch.study.anchors import read_anchors
from phonesearch.study.folder import RunFolder
from phonesearch.study.judge import left_out, make_judge
from phonesearch.study.later import LaterTraining, read_later
from phonesearch.study.observer import RunObserver
from phonesearch.study.record import TrialRecord

CHECKS_FILE: Final = "checks.jsonl"
CHECKS: Final = "candidates; each is held against what all others lead one to expect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of it."""

    check: LaterTraining
    against: LeftOut | None
    """Observed log loss less that predicted from all other short trainings of the run; None
    where it cannot be ranked or there is no other."""


def train_checks(
    folder: RunFolder,
    records: Sequence[TrialRecord],
    corpus: Corpus,
    *,
    trainings: Path,
    jobs: int,
    observer: RunObserver,
) -> tuple[LaterTraining, ...]:
    """Train what is not trained yet of the proxies of these candidates.

    Args:
        folder: A run by anchors or priors; each result is kept in it at once.
        records: Finished trials of it.
        corpus: Made by the proxy settings of the run.
        trainings: Folder that short trainings are kept in for all runs.
        jobs: Trainings side by side.
        observer: Told of every step.

    Returns:
        All checks of the run, these and earlier ones.

    Raises:
        SettingsError: If every candidate of the run was trained already.
        RunFolderError: If another process works on the folder, or a result cannot be kept.
    """
    settings = folder.settings
    if settings.scored_by == "each":
        raise SettingsError(
            f"{folder.path} was run with --proxy each: every candidate had a short training of its "
            "own, and there is nothing to check."
        )
    done = {check.number for check in read_checks(folder.path) if check.training.trained}
    train_later(
        folder,
        CHECKS_FILE,
        records,
        corpus,
        done=done,
        what=CHECKS,
        trainings=trainings,
        jobs=jobs,
        observer=observer,
    )
    return read_checks(folder.path)


def read_checks(folder: Path) -> tuple[LaterTraining, ...]:
    """By trial; of several of one trial the last.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    return read_later(folder, CHECKS_FILE)


def held_against(folder: RunFolder, checks: Collection[LaterTraining]) -> tuple[Checked, ...]:
    """Each check against what all other short trainings of the run, anchors too, make of it.

    The deviations are those of small models, not of the planned one.
    """
    anchors = read_anchors(folder.path)
    trainings = [*(anchor.trained for anchor in anchors), *(one.training.trained for one in checks)]
    errors = {
        one.architecture: one
        for one in left_out(
            make_judge(folder.settings), [loss for loss in trainings if loss is not None]
        )
    }
    return tuple(
        Checked(
            check=check,
            against=None
            if check.training.trained is None or not check.training.trained.passed_transition
            else errors.get(candidate_id(Candidate(**check.training.trained.proxy))),
        )
        for check in checks
    )
