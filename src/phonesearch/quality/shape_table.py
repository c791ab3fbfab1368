"""Reads a table of trained architectures and their losses, one row a training or checkpoint.

A CSV file with a header. Needed columns are those of `COLUMNS`; others are ignored. Empty cells
are allowed where a source does not say, as it is for the fits to say which they need.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.errors import InvalidFileError

COLUMNS: Final = (
    "dataset",
    "arch",
    "n_layer",
    "d_model",
    "d_ff",
    "n_head",
    "ffn",
    "params_m",
    "tokens_b",
    "metric",
    "value",
    "source",
    "licence",
    "notes",
)
"""Columns that a table must have."""
_MAX_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedShape:
    """One row: an architecture, what it was trained on, and its loss there."""

    line: int
    """In the file."""
    dataset: str
    arch: str
    num_hidden_layers: float | None
    hidden_size: float | None
    intermediate_size: float | None
    """Mean over layers where they differ, so not always whole."""
    num_attention_heads: float | None
    ffn: str
    """As the source calls it."""
    parameters: float | None
    """As the source counts them."""
    tokens: float | None
    metric: str
    value: float
    """Of `metric`, as printed."""
    source: str
    licence: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeTable:
    """A whole table, and which one."""

    rows: tuple[TrainedShape, ...]
    sha256: str
    """Of the file."""


def read_shape_table(path: Path) -> ShapeTable:
    """Rows of a table of trained shapes, in its order.

    Raises:
        InvalidFileError: If it cannot be read, lacks a column, or a cell breaks its column's
            rule; all problems at once.
    """
    text = files.read_text(path)
    problems: list[str] = []
    rows = []
    for line, cells in _lines(path, text):
        read = _Cells(line=line, cells=cells, problems=problems)
        rows.append(
            TrainedShape(
                line=line,
                dataset=read.text("dataset"),
                arch=read.text("arch"),
                num_hidden_layers=read.positive("n_layer"),
                hidden_size=read.positive("d_model"),
                intermediate_size=read.positive("d_ff"),
                num_attention_heads=read.positive("n_head"),
                ffn=cells["ffn"].strip(),
                parameters=_scaled(read.positive("params_m"), 1e6),
                tokens=_scaled(read.positive("tokens_b"), 1e9),
                metric=read.text("metric"),
                value=read.value(),
                source=cells["source"].strip(),
                licence=cells["licence"].strip(),
                notes=cells["notes"].strip(),
            )
        )
    _stop_on(path, problems)
    return ShapeTable(rows=tuple(rows), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """One line of a table, read by its columns' rules."""

    line: int
    cells: Mapping[str, str]
    problems: list[str]

    def refuse(self, column: str, rule: str, got: str) -> None:
        self.problems.append(f"line {self.line}, column `{column}`: {rule}, got {got!r}")

    def text(self, column: str) -> str:
        found = self.cells[column].strip()
        if not found:
            self.refuse(column, "must not be empty; name it or leave the line out", found)
        return found

    def positive(self, column: str) -> float | None:
        found = self.cells[column].strip()
        if not found:
            return None
        number = _number(found)
        if not number > 0:
            self.refuse(column, "must be a number above 0; leave it empty if not known", found)
            return None
        return number

    def value(self) -> float:
        number = _number(self.cells["value"])
        if not math.isfinite(number):
            self.refuse("value", "must be a number; leave the line out", self.cells["value"])
        return number


def _number(text: str) -> float:
    """The finite number that `text` is, or NaN."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _lines(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers.

    Raises:
        InvalidFileError: If the header lacks a column, a row has too many or too few cells, or
            there is none.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lstrip("\ufeff") for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            there = ", ".join(columns) or "none"
            problems = [f"line 1, column `{name}`: is needed and is not there" for name in missing]
            raise InvalidFileError(path, [*problems, f"columns found: {there}"])
        problems, rows = [], []
        for row in reader:
            if None in row or None in row.values():
                problems.append(
                    f"line {reader.line_num}: must have {len(columns)} cells, one a column; "
                    "put quotes around a cell with a comma in it"
                )
                continue
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise InvalidFileError(path, [f"line {reader.line_num}: {error}"]) from error
    _stop_on(path, problems)
    if not rows:
        raise InvalidFileError(path, ["holds no row below its header"])
    return rows


def _stop_on(path: Path, problems: Sequence[str]) -> None:
    if problems:
        left = len(problems) - _MAX_SHOWN
        more = [f"and {left} more"] if left > 0 else []
        raise InvalidFileError(path, [*problems[:_MAX_SHOWN], *more])
