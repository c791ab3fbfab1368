"""Small datasets for the fake hub, and what is read of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
from fakehub import FakeHub

from phonesearch.proxy.hub import HubText, hub_text

NAME = "somebody/little-texts"
MOST = 10**9


def parquet(texts: list[str | None]) -> bytes:
    """A file with the texts, something else beside them, and ten rows a group."""
    written = io.BytesIO()
    table = pyarrow.table(
        {
            "text": pyarrow.array(texts, pyarrow.string()),
            "stars": pyarrow.array([len(text or "") for text in texts], pyarrow.int64()),
        }
    )
    pyarrow.parquet.write_table(table, written, row_group_size=10)
    return written.getvalue()


def json_lines(texts: list[str | None]) -> bytes:
    rows = [{"text": text, "stars": len(text or "")} for text in texts]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def some_texts(part: int, count: int = 25) -> list[str]:
    return [f"part {part} row {row}: é\u2028\n" + "word " * row for row in range(count)]


ALL = [text for part in range(4) for text in some_texts(part)]


def add_in_four_files(fake: FakeHub, kind: str = "parquet") -> str:
    packed = parquet if kind == "parquet" else json_lines
    files = {f"data/train-{part}.{kind}": packed([*some_texts(part)]) for part in range(4)}
    return fake.add(NAME, files)


def read(
    cache: Path, given: str = f"hf:{NAME}", field: str = "text", *, most_bytes: int = MOST
) -> tuple[HubText, list[tuple[str, str]]]:
    text, documents = hub_text(
        given, field, most_bytes=most_bytes, cache_dir=cache, say=lambda _: None
    )
    return text, [(document.name, document.text) for document in documents]


def file_of(cache: Path, name: str = "text.jsonl") -> Path:
    return next(cache.glob(f"corpora/hub/*/{name}"))


def rows_kept(cache: Path) -> int:
    """Rows that the next run need not read; 0 where nothing was kept yet."""
    found = list(cache.glob("corpora/hub/*/source.json"))
    return int(json.loads(found[0].read_text(encoding="utf-8"))["num_rows"]) if found else 0
