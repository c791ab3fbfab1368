from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from phonesearch.errors import CorpusError
from phonesearch.proxy import sources
from phonesearch.proxy.sources import library_documents, user_documents


def read(path: Path, field: str = "text") -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in user_documents((str(path),), field)]


def test_a_folder_gives_every_kind_of_text_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain", encoding="utf-8")
    (tmp_path / "deep").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two"))
    (tmp_path / "deep" / "b.jsonl").write_text(lines, encoding="utf-8")
    pd.DataFrame({"text": ["three", None]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    assert read(tmp_path) == [
        ("a.txt", "plain"),
        ("c.parquet#1", "three"),
        ("deep/b.jsonl#1", "one"),
        ("deep/b.jsonl#2", "two"),
    ]


def test_another_field_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"body": "here"}\n\n', encoding="utf-8")
    assert read(file, "body") == [("a.jsonl#1", "here")]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no such file"):
        read(tmp_path / "none.txt")


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    with pytest.raises(CorpusError, match=r"holds no text: files must end in \.txt"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", r"is not UTF-8 text \(byte 0\)"), (b"ELF\0\0", "it holds zero bytes")],
)
def test_binary_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read(file)


def test_json_lines_that_are_not_json_are_refused_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(CorpusError, match="line 2, is not JSON"):
        read(file)


def test_json_lines_without_the_field_say_which_they_have(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"body": "x", "url": "y"}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"no text in field 'text'; it has body, url.*data-field"):
        read(file)


def test_parquet_without_the_column_says_which_it_has(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pd.DataFrame({"body": ["x"], "stars": [1]}).to_parquet(file)
    with pytest.raises(CorpusError, match="no column 'text'; it has body, stars"):
        read(file)
    with pytest.raises(CorpusError, match="holds int64, not text"):
        read(file, "stars")


def test_a_file_that_only_ends_in_parquet_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_text("no", encoding="utf-8")
    with pytest.raises(CorpusError, match="not a readable Parquet file"):
        read(file)


def test_the_library_leaves_out_tests_tables_and_installed_packages() -> None:
    description, documents = library_documents()
    names = {document.name for document in documents}
    assert "standard library" in description
    assert {"argparse.py", "json/decoder.py"} <= names
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "encodings", "site-packages", "__pycache__"}


def test_an_interpreter_without_sources_falls_back_to_installed_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources.sysconfig, "get_path", lambda name: str(tmp_path))
    description, documents = library_documents()
    assert "installed package torch" in description
    assert next(documents).name.endswith(".py")
    monkeypatch.setattr(sources, "_FALL_BACK_PACKAGES", ())
    with pytest.raises(CorpusError, match="ships without the sources"):
        library_documents()
