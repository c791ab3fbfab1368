"""Where the text of a corpus comes from: the interpreter's own library, or the user's files."""

from __future__ import annotations

import importlib.util
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonesearch.errors import CorpusError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".text", ".py")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
_EXCLUDED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "__pycache__"}
)
_DATA_TABLES = frozenset({"entities.py", "keysyms.py", "html5_entities.py", "_pydecimal.py"})
"""Modules of the standard library that are tables, or (`_pydecimal`) a second copy of prose."""
_FALL_BACK_PACKAGES = ("torch", "numpy", "scipy", "pandas")
_LEAST_LIBRARY_BYTES = 3_000_000
"""A CPython 3.11 has 9.9 MB of library sources; much less is a stripped interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One piece of text and the name that decides whether it is held out."""

    name: str
    text: str


def library_documents() -> tuple[str, Iterator[Document]]:
    """The sources that ship with this interpreter, and a line that says what they are.

    Tests, data tables, `encodings` and installed packages are left out. Where the library is
    not there as text (a zip of bytecode, a stripped image), the sources of installed packages
    stand in, which the description then says.

    Raises:
        CorpusError: If neither is there.
    """
    version = sysconfig.get_python_version()
    root = Path(sysconfig.get_path("stdlib"))
    files = _python_files(root)
    if sum(path.stat().st_size for path in files) >= _LEAST_LIBRARY_BYTES:
        return (
            f"sources and documentation of the Python {version} standard library",
            _read_all(files, root),
        )
    for package in _FALL_BACK_PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            continue
        root = Path(found.submodule_search_locations[0])
        files = _python_files(root)
        if sum(path.stat().st_size for path in files) >= _LEAST_LIBRARY_BYTES:
            return (
                f"sources of the installed package {package}, as this Python {version} has no "
                "library sources",
                _read_all(files, root),
            )
    raise CorpusError(
        f"This Python {version} ships without the sources of its library (looked in "
        f"{sysconfig.get_path('stdlib')}), so there is no text to train proxies on. Give your "
        "own with --data."
    )


def _python_files(root: Path) -> list[Path]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not _EXCLUDED_FOLDERS & set(parts[:-1]) and parts[-1] not in _DATA_TABLES:
            found.append(path)
    return found


def _read_all(files: list[Path], root: Path) -> Iterator[Document]:
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a few library files are in other encodings, some may be unreadable
        yield Document(name=path.relative_to(root).as_posix(), text=text)


def user_documents(paths: tuple[str, ...], field: str) -> Iterator[Document]:
    """The text in files, or in all files of folders: plain text, JSON Lines, Parquet.

    Args:
        paths: Files or folders. Of a folder, the files whose suffix is known are read.
        field: Column or key that holds the text of JSON Lines and Parquet.

    Raises:
        CorpusError: If a path is missing, is no text, or lacks the field.
    """
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise CorpusError(f"The text at {path} cannot be read: there is no such file.")
        if path.is_dir():
            known = (*TEXT_SUFFIXES, *RECORD_SUFFIXES)
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in known)
            if not files:
                raise CorpusError(
                    f"The folder {path} holds no text: files must end in {', '.join(known)}."
                )
            for file in files:
                yield from _read_file(file, file.relative_to(path).as_posix(), field)
        else:
            yield from _read_file(path, path.name, field)


def _read_file(path: Path, name: str, field: str) -> Iterator[Document]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _read_parquet(path, name, field)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _read_json_lines(path, name, field)
        else:
            text = path.read_text(encoding="utf-8")
            if "\0" in text:
                raise CorpusError(f"{path} is not text: it holds zero bytes. Give UTF-8 text.")
            yield Document(name=name, text=text)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 text (byte {error.start}). Convert it, or leave it out."
        ) from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_json_lines(path: Path, name: str, field: str) -> Iterator[Document]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}, line {number}, is not JSON: {error.msg}.") from error
            if not isinstance(record, dict) or not isinstance(record.get(field), str):
                keys = ", ".join(record) if isinstance(record, dict) else "no fields at all"
                raise CorpusError(
                    f"{path}, line {number}, has no text in field {field!r}; it has {keys}. Name "
                    "the field with --data-field."
                )
            yield Document(name=f"{name}#{number}", text=record[field])


def _read_parquet(path: Path, name: str, field: str) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            schema: Any = table.schema_arrow
            if field not in schema.names:
                raise CorpusError(
                    f"{path} has no column {field!r}; it has {', '.join(schema.names)}. Name the "
                    "column with --data-field."
                )
            kind = schema.field(field).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise CorpusError(
                    f"Column {field!r} of {path} holds {kind}, not text. Name another with "
                    "--data-field."
                )
            number = 0
            for batch in table.iter_batches(columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if text:
                        yield Document(name=f"{name}#{number}", text=text)
    except pyarrow.ArrowException as error:
        raise CorpusError(f"{path} is not a readable Parquet file: {error}") from error
