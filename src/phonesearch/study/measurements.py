"""Every measurement of a run with its raw samples, in `measurements.jsonl` of its folder.

Kept apart from Optuna's database, which lets nothing be added to a trial that is over: those of
`--measure front` come after the search.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.errors import InvalidFileError, RunFolderError
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
    path = folder / MEASUREMENTS_FILE
    try:
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        files.write_text(path, f"{earlier}{json.dumps(asdict(kept))}\n")
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written: {error.strerror}. Free some disk space, then go on: "
            f"phonesearch run --resume {folder}"
        ) from error


def read_measurements(folder: Path) -> dict[int, Kept]:
    """By trial; of several the last.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    path = folder / MEASUREMENTS_FILE
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise InvalidFileError(path, [f"line {number} is not JSON: {error}"]) from error
        if not isinstance(content, dict):
            raise InvalidFileError(path, [f"line {number} is not an object"])
        kept = files.structure(content, Kept, path=path)
        found[kept.number] = kept
    return found


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
