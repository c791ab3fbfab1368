"""Copies of the records of a run whose study is in a database elsewhere, in its own folder.

Reports and exports go by them, so that they need neither the database nor its password. The run
itself writes them, whenever it looks at the study.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.errors import RunFolderError
from phonesearch.study.lines import read_lines
from phonesearch.study.record import TrialRecord

COPIES_FILE: Final = "records.jsonl"
_ID_FILE: Final = "study.id"


def write_copies(folder: Path, records: Sequence[TrialRecord]) -> None:
    """Put these in place of what was there.

    Raises:
        RunFolderError: If they cannot be written.
    """
    text = "".join(f"{json.dumps(asdict(record))}\n" for record in records)
    try:
        files.write_text(folder / COPIES_FILE, text)
    except OSError as error:
        raise RunFolderError(
            f"{folder / COPIES_FILE} cannot be written: {error.strerror}. The trials are safe in "
            f"the database. Free some disk space, then: phonesearch run --resume {folder}"
        ) from error


def read_copies(folder: Path) -> list[TrialRecord]:
    """What was written last.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    return read_lines(folder / COPIES_FILE, TrialRecord)


def run_id(folder: Path) -> str:
    """What tells the run from all others, whatever its study is called; made at the first call."""
    path = folder / _ID_FILE
    if not path.is_file():
        files.write_text(path, f"{uuid.uuid4().hex}\n")
    return files.read_text(path).strip()
