"""Reads tables of published phone speeds and of the models in them, as others keep them.

Two CSV files. The table of speeds has one row a published figure; needed are the columns `id`,
`soc_id`, `processor`, `engine`, `model_id`, `weight_bits`, `prefill_tok_s` and `decode_tok_s`;
`device`, `model`, `quant`, `prompt_len`, `gen_len`, `confidence`, `source` and `date` are read
where they are there, and any other column is left alone. The table of models has one row a model:
`model_id`, `n_layers`, `hidden`, `intermediate`, `n_heads`, `n_kv_heads`, `vocab`, and where they
are there `name`, `head_dim`, `tied_embeddings`, `activation`, `ffn_gated`, `norm`,
`layer_pattern`, `attention_bias`, `qk_norm`.

A cell that cannot be read as its column says is an error that names file, line, column and rule.
A model that a candidate cannot stand for is no error: it is kept with the reason.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.candidate.config import Activation, Candidate
from phonesearch.device.data import model_shapes
from phonesearch.device.fit import Phase
from phonesearch.errors import InvalidCandidateError, InvalidFileError

SPEED_COLUMNS: Final = (
    "id",
    "soc_id",
    "processor",
    "engine",
    "model_id",
    "weight_bits",
    "prefill_tok_s",
    "decode_tok_s",
)
"""Columns that a table of speeds must have."""
MODEL_COLUMNS: Final = (
    "model_id",
    "n_layers",
    "hidden",
    "intermediate",
    "n_heads",
    "n_kv_heads",
    "vocab",
)
"""Columns that a table of models must have."""
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "silu": "silu",
    "swiglu": "silu",
    "gelu": "gelu",
    "gelu (tanh)": "gelu",
    "gelu_new": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}
"""The two forms of GELU cost the same in the cost model, which counts its bytes."""
_BLOCK: Final = re.compile(r"(?:\bgroup |gs|g)(16|32|64|128|256)\b")
_RANGE: Final = re.compile(r"\d+\s*-\s*\d+")
_LENGTH: Final = re.compile(r"~?\s*(\d+)(?:\.0*)?")
_WITH_QKV_BIAS: Final = ("qwen-", "qwen1.5", "qwen2", "deepseek-r1-distill-qwen")
_WITH_QK_NORM: Final = ("qwen3",)
_MAX_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedFigure:
    """One row of a table of speeds: what somebody measured, as they print it."""

    id: int
    device: str
    soc_id: str
    processor: str
    engine: str
    """As printed; `device/engine_match.py` says which engine of a profile it is."""
    model_id: str
    model: str
    quantisation: str
    weight_bits: int | None
    """None where the source does not say."""
    block_size: int
    """Weights that share a scale; 32 where the quantisation names none."""
    prompt_tokens: int | None
    """None where the source gives none, or a range."""
    generate_tokens: int | None
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    confidence: str
    source: str
    date: str

    def tokens_per_s(self, phase: Phase) -> float | None:
        """Measured rate of one phase; None where the row has none."""
        return self.decode_tokens_per_s if phase == "decode" else self.prefill_tokens_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TableModel:
    """One row of a table of models: its shape, or why it has none."""

    model_id: str
    name: str
    candidate: Candidate | None
    """A shape that costs the same time: rotary base, partial rotation and scales of residuals
    are left out, as they change none."""
    unknown_because: str
    """Why there is no candidate; empty where there is one."""


def read_speed_table(path: Path) -> tuple[SpeedFigure, ...]:
    """Rows of a table of speeds, in its order.

    Raises:
        InvalidFileError: If it cannot be read, lacks a column, or a cell breaks its column's
            rule; all problems at once.
    """
    problems: list[str] = []
    figures = []
    lines_by_id: dict[int, int] = {}
    for line, row in _rows(path, SPEED_COLUMNS):
        cells = _Cells(line=line, row=row, problems=problems)
        number = cells.whole("id", required=True) or 0
        first = lines_by_id.setdefault(number, line)
        if first != line:
            cells.refuse("id", f"must be given once, stands on line {first} too", str(number))
        quantisation = cells.text("quant")
        block = _BLOCK.search(quantisation)
        figures.append(
            SpeedFigure(
                id=number,
                device=cells.text("device"),
                soc_id=cells.text("soc_id", required=True),
                processor=cells.text("processor", required=True),
                engine=cells.text("engine", required=True),
                model_id=cells.text("model_id", required=True),
                model=cells.text("model") or cells.text("model_id"),
                quantisation=quantisation,
                weight_bits=cells.whole("weight_bits"),
                block_size=int(block.group(1)) if block else 32,
                prompt_tokens=_length(cells.text("prompt_len")),
                generate_tokens=_length(cells.text("gen_len")),
                prefill_tokens_per_s=cells.rate("prefill_tok_s"),
                decode_tokens_per_s=cells.rate("decode_tok_s"),
                confidence=cells.text("confidence"),
                source=", ".join(filter(None, (cells.text("source"), cells.text("source_where")))),
                date=cells.text("date"),
            )
        )
    _stop_on(path, problems)
    return tuple(figures)


def read_model_table(path: Path) -> dict[str, TableModel]:
    """Models of a table, by `model_id`.

    Raises:
        InvalidFileError: As `read_speed_table`.
    """
    problems: list[str] = []
    models: dict[str, TableModel] = {}
    for line, row in _rows(path, MODEL_COLUMNS):
        cells = _Cells(line=line, row=row, problems=problems)
        model_id = cells.text("model_id", required=True)
        if model_id in models:
            cells.refuse("model_id", "must be given once", model_id)
        models[model_id] = _model(model_id, cells)
    _stop_on(path, problems)
    return models


def carried_models() -> dict[str, TableModel]:
    """The models that the package carries, for a table that comes without one of its own."""
    return {
        shape.model_id: TableModel(
            model_id=shape.model_id,
            name=shape.name,
            candidate=shape.candidate,
            unknown_because="",
        )
        for shape in model_shapes().values()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """One line of a table, read by its columns' rules."""

    line: int
    row: Mapping[str, str]
    problems: list[str]

    def refuse(self, column: str, rule: str, got: str) -> None:
        self.problems.append(f"line {self.line}, column `{column}`: {rule}, got {got!r}")

    def text(self, column: str, *, required: bool = False) -> str:
        found = self.row.get(column, "").strip()
        if required and not found:
            self.refuse(column, "must not be empty", found)
        return found

    def whole(self, column: str, *, required: bool = False) -> int | None:
        found = self.text(column, required=required)
        if not found:
            return None
        match = re.fullmatch(r"(\d{1,15})(?:\.0*)?", found)
        if match is None or int(match.group(1)) < 1:
            self.refuse(column, "must be a whole number above 0", found)
            return None
        return int(match.group(1))

    def rate(self, column: str) -> float | None:
        found = self.text(column)
        if not found:
            return None
        try:
            value = float(found)
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)):
            self.refuse(column, "must be a number of tokens a second above 0, or empty", found)
            return None
        return value


def _model(model_id: str, cells: _Cells) -> TableModel:
    columns = (*MODEL_COLUMNS[1:], "head_dim")
    uneven = [column for column in columns if _RANGE.fullmatch(cells.text(column))]
    candidate = None
    because = f"its layers differ in {', '.join(uneven)}"
    if not uneven:
        counts = {column: cells.whole(column) for column in columns}
        candidate, because = _candidate(model_id, cells, counts)
    return TableModel(
        model_id=model_id,
        name=cells.text("name") or model_id,
        candidate=candidate,
        unknown_because=because,
    )


def _candidate(
    model_id: str, cells: _Cells, counts: Mapping[str, int | None]
) -> tuple[Candidate | None, str]:
    """The candidate, or None and why."""
    known = {column: count for column, count in counts.items() if count is not None}
    missing = [column for column in MODEL_COLUMNS[1:] if column not in known]
    if missing:
        return None, f"its configuration is not known in full (no {', '.join(missing)})"
    because = _other_block(model_id, cells)
    if because:
        return None, because
    biased = cells.text("attention_bias") == "yes" or (
        not cells.text("attention_bias") and model_id.startswith(_WITH_QKV_BIAS)
    )
    normed = cells.text("qk_norm") == "yes" or (
        not cells.text("qk_norm") and model_id.startswith(_WITH_QK_NORM)
    )
    try:
        candidate = Candidate(
            vocab_size=known["vocab"],
            hidden_size=known["hidden"],
            intermediate_size=known["intermediate"],
            num_hidden_layers=known["n_layers"],
            num_attention_heads=known["n_heads"],
            num_key_value_heads=known["n_kv_heads"],
            head_dim=known.get("head_dim", known["hidden"] // known["n_heads"]),
            ffn_type="plain" if cells.text("ffn_gated") == "no" else "gated",
            hidden_act=_ACTIVATIONS[cells.text("activation").lower() or "silu"],
            tie_word_embeddings=cells.text("tied_embeddings") == "yes",
            attention_bias=biased,
            qk_norm=normed,
        )
    except InvalidCandidateError as error:
        return None, f"a candidate cannot have its shape: {error}"
    return candidate, ""


def _other_block(model_id: str, cells: _Cells) -> str:
    """Why its block is not that of a candidate; empty where it is."""
    pattern = cells.text("layer_pattern")
    if pattern not in ("", "all attention"):
        return f"its layers are not all full attention ({pattern})"
    if cells.text("norm").startswith("LayerNorm"):
        return "it has LayerNorm, a candidate RMSNorm"
    if cells.text("rope_theta") == "ALiBi":
        return "it has ALiBi, a candidate rotary embeddings"
    if model_id.startswith("gemma"):
        return "Gemma's block has norms that a candidate's has not"
    activation = cells.text("activation").lower()
    if activation and activation not in _ACTIVATIONS:
        return f"its activation is not one of a candidate's ({activation})"
    return ""


def _length(text: str) -> int | None:
    """Tokens of `128` or `~200`; None of a range, of words, and of nothing."""
    match = _LENGTH.fullmatch(text)
    return int(match.group(1)) or None if match else None


def _rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Lines of a CSV file that has the columns `required`, with their line numbers.

    Raises:
        InvalidFileError: If it cannot be read, has no row, or lacks a column.
    """
    reader = csv.DictReader(io.StringIO(files.read_text(path), newline=""), strict=True)
    try:
        columns = [name.strip().lstrip("\ufeff") for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        missing = [name for name in required if name not in columns]
        if missing:
            there = ", ".join(columns) or "none"
            problems = [f"column `{name}`: is needed and is not there" for name in missing]
            raise InvalidFileError(path, [*problems, f"columns found: {there}"])
        doubled = sorted({name for name in columns if columns.count(name) > 1})
        if doubled:
            raise InvalidFileError(path, [f"column `{name}`: stands twice" for name in doubled])
        rows = []
        problems = []
        for row in reader:
            if None in row or None in row.values():
                problems.append(
                    f"line {reader.line_num}: must have {len(columns)} cells, one a column"
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
