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
from phonesearch.errors import RunFolderError
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
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [files.structure(json.loads(line), Kept, path=path) for line in lines]
    return {kept.number: kept for kept in found}
