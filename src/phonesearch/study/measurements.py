"""Every measurement of a run with its raw samples, in `measurements.jsonl` of its folder.

Kept apart from Optuna's database, which lets nothing be added to a trial that is over: those of
`--measure front` come after the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch.errors import RunFolderError
from phonesearch.study.lines import keep_line, read_lines
from phonesearch.timing.base import Measurement

MEASUREMENTS_FILE: Final = "measurements.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One line."""

    number: int
    """Of the trial."""
    candidate_id: str
    measurement: Measurement


def keep_measurement(folder: Path, kept: Kept) -> None:
    """Add a line, on the disk when this returns.

    Raises:
        RunFolderError: If it cannot be written.
    """
    keep_line(folder, MEASUREMENTS_FILE, kept)


def read_measurements(folder: Path) -> dict[int, Kept]:
    """By trial; of several the last.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    return {kept.number: kept for kept in read_lines(folder / MEASUREMENTS_FILE, Kept)}


def require_same_machine(folder: Path, fingerprint: str) -> None:
    """Make sure that a run goes on on the machine that it began on.

    Raises:
        RunFolderError: If it holds measurements of another one.
    """
    others = {kept.measurement.device for kept in read_measurements(folder).values()}
    others.discard(fingerprint)
    if others:
        raise RunFolderError(
            f"{folder / MEASUREMENTS_FILE} holds times of {' and '.join(sorted(others))}; this is "
            f"{fingerprint}. Times of two machines make no front together: go on with that one, or "
            "start a new run with --out."
        )
