"""Datasets of the Hugging Face hub, with the real libraries, from a hub on this machine."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from fakehub import FakeHub
from hubtexts import ALL, NAME, add_in_four_files, file_of, parquet, read

from phonesearch.errors import CorpusError
from phonesearch.proxy.corpus import load_corpus
from phonesearch.proxy.hub import HubDataset, parse_hub_dataset
from phonesearch.proxy.settings import ProxySettings


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("hf:a/b", HubDataset(name="a/b", revision=None, config=None, split="train")),
        ("hf:a/b-1.0@v2", HubDataset(name="a/b-1.0", revision="v2", config=None, split="train")),
        ("hf:a/b:c-10BT", HubDataset(name="a/b", revision=None, config="c-10BT", split="train")),
        ("hf:a/b::test", HubDataset(name="a/b", revision=None, config=None, split="test")),
        (
            "hf:a/b@refs/convert/parquet:20231101.en:validation",
            HubDataset(
                name="a/b",
                revision="refs/convert/parquet",
                config="20231101.en",
                split="validation",
            ),
        ),
    ],
)
def test_a_name_says_which_part_of_which_dataset(given: str, wanted: HubDataset) -> None:
    assert parse_hub_dataset(given) == wanted


@pytest.mark.parametrize(
    "given", ["hf:", "hf:b", "hf://datasets/a/b", "hf:a/b/c", "hf:a/b:c:train[:10%]", "hf:a/b:c:"]
)
def test_a_name_of_another_form_is_refused(given: str) -> None:
    with pytest.raises(CorpusError, match=r"names no dataset.*Write hf:OWNER/NAME"):
        parse_hub_dataset(given)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_texts_of_all_rows_come_in_order(fake: FakeHub, tmp_path: Path, kind: str) -> None:
    commit = add_in_four_files(fake, kind)
    text, documents = read(tmp_path)
    assert documents == [
        (f"hf:{NAME}@{commit}#{number}", told) for number, told in enumerate(ALL, start=1)
    ]
    assert text.num_rows == text.num_texts == 100
    assert text.text_bytes == sum(len(told.encode()) for told in ALL)
    assert text.description == (
        f"hf:{NAME} (configuration default, split train, field text, revision {commit})"
    )


def test_rows_without_text_are_left_out(fake: FakeHub, tmp_path: Path) -> None:
    commit = fake.add(NAME, {"train.parquet": parquet(["one", None, " \n", "two", ""])})
    text, documents = read(tmp_path)
    assert documents == [(f"hf:{NAME}@{commit}#1", "one"), (f"hf:{NAME}@{commit}#2", "two")]
    assert (text.num_rows, text.num_texts) == (5, 2)


def test_configuration_split_field_and_revision_can_be_named(fake: FakeHub, tmp_path: Path) -> None:
    card = (
        "---\nconfigs:\n"
        "- config_name: small\n  data_files:\n  - {split: train, path: small/a.jsonl}\n"
        "  - {split: test, path: small/b.jsonl}\n"
        "- config_name: large\n  data_files: [{split: train, path: large/c.jsonl}]\n---\n"
    )
    rows = {name: json.dumps({"body": name}).encode() for name in ("a", "b", "c")}
    files = {
        "README.md": card.encode(),
        "small/a.jsonl": rows["a"],
        "small/b.jsonl": rows["b"],
        "large/c.jsonl": rows["c"],
    }
    before = fake.add(NAME, files)
    fake.add(NAME, {**files, "large/c.jsonl": json.dumps({"body": "new"}).encode()})
    assert [told for _, told in read(tmp_path, f"hf:{NAME}:small:test", "body")[1]] == ["b"]
    assert [told for _, told in read(tmp_path, f"hf:{NAME}:large", "body")[1]] == ["new"]
    text, documents = read(tmp_path, f"hf:{NAME}@{before}:large", "body")
    assert [told for _, told in documents] == ["c"]
    assert (text.commit, text.config, text.field) == (before, "large", "body")
    with pytest.raises(CorpusError, match=r"no default configuration; it has small, large\. Name"):
        read(tmp_path)
    with pytest.raises(CorpusError, match=r"no configuration 'big'; it has small, large\. Name"):
        read(tmp_path, f"hf:{NAME}:big")


def test_no_more_is_read_than_a_corpus_takes(fake: FakeHub, tmp_path: Path) -> None:
    add_in_four_files(fake)
    most = sum(len(told.encode()) for told in ALL[:30]) + 3
    text, documents = read(tmp_path, most_bytes=most)
    assert [told for _, told in documents] == ALL[:30]
    assert not text.is_whole
    assert text.description.endswith(", its first 30 rows)")
    assert "data/train-2.parquet" not in fake.sent_bytes
    fake.add(NAME, {"train.parquet": parquet(["é" * 50, "more"])})
    _, documents = read(tmp_path, most_bytes=21)
    assert [told for _, told in documents] == ["é" * 10]


def test_the_other_columns_of_a_table_are_not_fetched(fake: FakeHub, tmp_path: Path) -> None:
    noise = os.urandom(10**6)
    written = io.BytesIO()
    table = pyarrow.table({"picture": [noise] * 60, "text": ["word"] * 60})
    pyarrow.parquet.write_table(table, written, use_dictionary=False, compression="none")
    fake.add(NAME, {"train.parquet": written.getvalue()})
    assert len(written.getvalue()) > 60e6
    read(tmp_path)
    assert fake.sent_bytes["train.parquet"] < 30e6


def test_a_corpus_is_made_of_datasets_and_files_and_says_of_which(
    fake: FakeHub, tmp_path: Path
) -> None:
    texts = [f"{number} of many: " + "and so on, " * 40 for number in range(150)]
    commit = fake.add(NAME, {"train.parquet": parquet([*texts])})
    (tmp_path / "mine.txt").write_text("of my own: " * 500, encoding="utf-8")
    settings = ProxySettings(
        data=(f"hf:{NAME}", str(tmp_path / "mine.txt")),
        vocab_size=300,
        tokens=2_000,
        context_length=16,
        device="cpu",
    )
    said: list[str] = []
    corpus = load_corpus(settings, cache_dir=tmp_path / "cache", progress=said.append)
    assert corpus.num_documents == 151
    assert f"revision {commit})" in corpus.description
    assert "mine.txt" in corpus.description
    assert said[0].startswith(f"Streaming hf:{NAME} to ")
    fake.stop()
    said.clear()
    assert load_corpus(settings, cache_dir=tmp_path / "cache", progress=said.append) == corpus
    assert [line.split()[0] for line in said] == ["Corpus:"]
    named = replace(settings, data=(str(file_of(tmp_path / "cache")), settings.data[1]))
    by_file = load_corpus(named, cache_dir=tmp_path / "cache")
    assert by_file.train_text_bytes + by_file.validation_text_bytes == (
        corpus.train_text_bytes + corpus.validation_text_bytes
    )
    assert by_file.fingerprint != corpus.fingerprint


@pytest.mark.network
def test_the_real_hub_gives_a_small_dataset(tmp_path: Path) -> None:
    text, documents = read(tmp_path, "hf:roneneldan/TinyStories::validation", most_bytes=10**6)
    assert 900_000 < text.text_bytes <= 10**6
    assert len(text.commit) == 40
    assert not text.is_whole
    assert all(len(told) > 10 for _, told in documents)
