"""Files of a run that grow by a line at a time, each one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from phonesearch import files
from phonesearch.errors import InvalidFileError, RunFolderError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def keep_line(folder: Path, name: str, value: DataclassInstance) -> None:
    """Add a line to a file of the run's folder, on the disk when this returns.

    Raises:
        RunFolderError: If it cannot be written.
    """
    path = folder / name
    try:
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        files.write_text(path, f"{earlier}{json.dumps(asdict(value))}\n")
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written: {error.strerror}. Free some disk space, then go on: "
            f"phonesearch run --resume {folder}"
        ) from error


def read_lines(path: Path, schema: type[T]) -> list[T]:
    """All lines of a file, as instances of a dataclass; none if there is no such file.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise InvalidFileError(path, [f"line {number} is not JSON: {error}"]) from error
        if not isinstance(content, dict):
            raise InvalidFileError(path, [f"line {number} is not an object"])
        found.append(files.structure(content, schema, path=path))
    return found
