from __future__ import annotations

from pathlib import Path

import pytest

from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.errors import InvalidFileError
from phonesearch.space.schema import SearchSpace


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "candidate.yaml"
    path.write_text("hidden_size: wide\nnum_layers: 2\nvocab_size: 100\n")
    with pytest.raises(InvalidFileError) as caught:
        files.read(path, Candidate)
    message = str(caught.value)
    assert "candidate.yaml" in message
    assert "hidden_size" in message
    assert "wide" in message
    assert "num_layers: there is no such field" in message
    assert "num_hidden_layers: this field is required" in message


def test_a_rule_of_the_schema_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("name: x\nnum_hidden_layers: {low: 3, choices: [1]}\n")
    with pytest.raises(InvalidFileError, match=r"num_hidden_layers.*either `low`"):
        files.read(path, SearchSpace)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "a: [1, 2\n", r"line \d"),
        ("a.json", '{"a": }', r"line 1, column 7"),
        ("a.yaml", "", "got nothing"),
        ("a.yaml", "- 1\n", "got list"),
    ],
)
def test_a_file_that_is_no_mapping_says_where(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidFileError, match=message):
        files.read_mapping(path)


def test_bytes_that_are_no_text_and_missing_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidFileError, match="not UTF-8"):
        files.read_text(path)
    with pytest.raises(InvalidFileError, match="cannot be read"):
        files.read_text(tmp_path / "missing.yaml")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"a": float("nan")})
    assert files.read_mapping(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_numbers_survive_yaml(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    content = {"a": 1e-5, "b": 5.12e10, "c": 0.1 + 0.2, "d": True, "e": None}
    files.write_yaml(path, content, header="two\nlines")
    assert files.read_mapping(path) == content
    assert path.read_text().startswith("# two\n# lines\n")
