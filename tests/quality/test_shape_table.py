"""A table is read as it stands, or refused with line, column, rule and remedy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from phonesearch.errors import InvalidFileError
from phonesearch.quality.shape_table import COLUMNS, ShapeTable, read_shape_table

ROW = {
    "dataset": "morph",
    "arch": "a",
    "n_layer": "8",
    "d_model": "512",
    "d_ff": "",
    "n_head": "8",
    "ffn": "swiglu",
    "params_m": "78.91",
    "tokens_b": "1.611",
    "metric": "loss",
    "value": "4.9619",
    "source": "somewhere",
    "licence": "MIT",
    "notes": "",
}


def written(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = [",".join(columns)]
    lines += [",".join(row.get(name, "") for name in columns) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_is_read_in_base_units(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", ROW)
    table = read_shape_table(path)

    (row,) = table.rows
    assert (row.line, row.dataset, row.arch) == (2, "morph", "a")
    assert row.parameters == pytest.approx(78.91e6)
    assert row.tokens == pytest.approx(1.611e9)
    assert row.intermediate_size is None
    assert row.value == 4.9619
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("column", "text", "rule"),
    [
        ("n_layer", "-3", "must be a number above 0; leave it empty if not known, got '-3'"),
        ("params_m", "many", "must be a number above 0"),
        ("tokens_b", "inf", "must be a number above 0"),
        ("tokens_b", "0", "must be a number above 0"),
        ("value", "", "must be a number; leave the line out"),
        ("value", "nan", "must be a number; leave the line out"),
        ("dataset", "", "must not be empty"),
        ("metric", " ", "must not be empty"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(
    tmp_path: Path, column: str, text: str, rule: str
) -> None:
    path = written(tmp_path / "t.csv", ROW, ROW | {column: text})
    with pytest.raises(InvalidFileError, match=f"line 3, column `{column}`: {rule}"):
        read_shape_table(path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", ROW | {"value": "x", "n_layer": "y"}, ROW | {"arch": ""})
    with pytest.raises(InvalidFileError) as raised:
        read_shape_table(path)
    assert len(raised.value.problems) == 3


def test_a_missing_column_an_empty_table_and_a_short_row_are_refused(tmp_path: Path) -> None:
    without = tuple(name for name in COLUMNS if name != "tokens_b")
    with pytest.raises(InvalidFileError, match="column `tokens_b`: is needed"):
        read_shape_table(written(tmp_path / "a.csv", ROW, columns=without))
    with pytest.raises(InvalidFileError, match="no row below its header"):
        read_shape_table(written(tmp_path / "b.csv"))
    path = written(tmp_path / "c.csv", ROW)
    path.write_text(path.read_text(encoding="utf-8") + "morph,b,8\n", encoding="utf-8")
    with pytest.raises(InvalidFileError, match="line 3: must have 14 cells"):
        read_shape_table(path)
    with pytest.raises(InvalidFileError, match="cannot be read"):
        read_shape_table(tmp_path / "none.csv")


def test_the_whole_table_is_read(table: ShapeTable) -> None:
    assert len(table.rows) == 1722
