"""Reads what people write (YAML, JSON) and writes what the program writes, atomically.

The one module that knows YAML and pydantic: schemas elsewhere are plain dataclasses.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from phonesearch.errors import InvalidFileError, PhoneSearchError

T = TypeVar("T")


def read_text(path: Path) -> str:
    """Text of a UTF-8 file.

    Raises:
        InvalidFileError: If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidFileError(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise InvalidFileError(path, [f"is not UTF-8 text (byte {error.start})"]) from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML or JSON file whose top level is a mapping.

    Raises:
        InvalidFileError: If it cannot be read or parsed, or holds something else.
    """
    text = read_text(path)
    try:
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InvalidFileError(path, [problem]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidFileError(
            path, [f"{where}{getattr(error, 'problem', None) or 'is not YAML'}"]
        ) from error
    if not isinstance(content, dict):
        got = "nothing" if content is None else type(content).__name__
        raise InvalidFileError(path, [f"must hold a mapping of fields to values, got {got}"])
    return content


def structure(content: Mapping[str, Any], schema: type[T], *, path: Path) -> T:
    """`content` as an instance of the dataclass `schema`. Unknown keys are errors.

    Raises:
        InvalidFileError: If it does not fit; one problem a wrong key, all at once.
    """
    try:
        return pydantic.TypeAdapter(schema).validate_python(dict(content), extra="forbid")
    except pydantic.ValidationError as error:
        raise InvalidFileError(path, [_describe(problem) for problem in error.errors()]) from error
    except PhoneSearchError as error:
        raise InvalidFileError(path, [str(error)]) from error


def read(path: Path, schema: type[T]) -> T:
    """Structure the YAML or JSON file at `path` as `schema`. Unknown keys are errors.

    Raises:
        InvalidFileError: If the content does not fit; one problem a wrong key, all at once.
    """
    return structure(read_mapping(path), schema, path=path)


def _describe(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{field}: this field is required"
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{field}: there is no such field"
    got = problem.get("input")
    shown = "" if isinstance(got, dict | list) else f" (got {got!r})"
    return f"{field}: {message}{shown}"


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write so that a reader, or a crash, sees the old file or the new one, never half.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically. Infinity and NaN are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, content: Mapping[str, Any], *, header: str = "") -> None:
    """Write `content` as YAML in its own order, atomically, under an optional comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    body = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
    write_text(path, comment + body)
