"""Short trainings of candidates of a run that come after its search, a file for each purpose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch.study.anchors import Anchor
from phonesearch.study.lines import keep_line, read_lines

LONGER_FILE: Final = "longer.jsonl"
"""Members of the front that were trained on, see `front.longer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterTraining:
    """One line of such a file."""

    number: int
    """Of the trial."""
    training: Anchor
    """Of the candidate's proxy."""


def keep_later(folder: Path, name: str, later: LaterTraining) -> None:
    """Add a line, on the disk when this returns.

    Raises:
        RunFolderError: If it cannot be written.
    """
    keep_line(folder, name, later)


def read_later(folder: Path, name: str) -> tuple[LaterTraining, ...]:
    """By trial; of several of one trial the last.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    found = {later.number: later for later in read_lines(folder / name, LaterTraining)}
    return tuple(found[number] for number in sorted(found))
