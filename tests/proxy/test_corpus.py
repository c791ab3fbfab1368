from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from phonesearch.errors import CorpusError
from phonesearch.proxy.corpus import Corpus, load_corpus, split
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.sources import Document, user_documents


def decode(corpus: Corpus, tokens: np.ndarray) -> str:
    tokenizer = Tokenizer.from_file(str(corpus.tokenizer_path))
    return str(tokenizer.decode(tokens.tolist(), skip_special_tokens=False))


def test_every_text_is_in_one_part_whole_and_never_in_the_other(
    corpus: Corpus, settings: ProxySettings
) -> None:
    train = decode(corpus, corpus.train_tokens()).split("<|endoftext|>")[:-1]
    held_out = decode(corpus, corpus.validation_tokens()).split("<|endoftext|>")[:-1]
    texts = [document.text for document in user_documents(settings.data, "text")]
    assert sorted(train + held_out) == sorted(texts)
    assert len(held_out) >= 2
    assert not set(train) & set(held_out)


def test_of_few_documents_the_tails_are_held_out() -> None:
    documents = [Document(name="a", text="x" * 100), Document(name="b", text="y" * 40)]
    assert split(documents) == (["x" * 95, "y" * 38], ["x" * 5, "y" * 2])


def test_token_bytes_add_up_to_the_text(corpus: Corpus) -> None:
    lengths = corpus.token_bytes()
    assert lengths[corpus.validation_tokens()].sum() == corpus.validation_text_bytes
    assert lengths[corpus.train_tokens()].sum() == corpus.train_text_bytes


def test_characters_of_several_bytes_are_counted_in_bytes(tmp_path: Path) -> None:
    text = "".join(f"schöne Grüße {number * 7919}, 漢字 und 😀!\n" for number in range(800))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    settings = ProxySettings(
        data=(str(tmp_path),), vocab_size=300, context_length=16, tokens=128, batch_size=1
    )
    corpus = load_corpus(settings, cache_dir=tmp_path / "cache")
    lengths = corpus.token_bytes()
    assert lengths[corpus.train_tokens()].sum() == corpus.train_text_bytes
    assert corpus.train_text_bytes > len(text) * 0.95


def test_a_copy_of_a_text_is_dropped(text_folder: Path, settings: ProxySettings) -> None:
    once = load_corpus(settings, cache_dir=text_folder.parent / "cache")
    twice = replace(settings, data=(*settings.data, str(text_folder / "part001.txt")))
    assert load_corpus(twice, cache_dir=text_folder.parent / "cache").fingerprint == (
        once.fingerprint
    )


def test_the_cache_is_used_again_and_survives_pickling(
    settings: ProxySettings, tmp_path: Path
) -> None:
    said: list[str] = []
    first = load_corpus(settings, cache_dir=tmp_path, progress=said.append)
    changed_at = (first.folder / "train.bin").stat().st_mtime_ns
    assert any("Tokenising" in line for line in said)
    said.clear()
    second = load_corpus(settings, cache_dir=tmp_path, progress=said.append)
    assert not any("Tokenising" in line for line in said)
    assert second == first == pickle.loads(pickle.dumps(first))
    assert (first.folder / "train.bin").stat().st_mtime_ns == changed_at


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "corpus.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_a_damaged_cache_is_made_again(
    settings: ProxySettings, tmp_path: Path, name: str, damage: str
) -> None:
    first = load_corpus(settings, cache_dir=tmp_path)
    file = first.folder / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2])
    again = load_corpus(settings, cache_dir=tmp_path)
    assert file.read_bytes() == whole
    assert again.num_train_tokens == first.num_train_tokens


def test_changed_text_and_another_vocabulary_are_other_corpora(
    settings: ProxySettings, tmp_path: Path, text_folder: Path
) -> None:
    cache = tmp_path / "cache"
    copied = tmp_path / "text"
    copied.mkdir()
    for file in text_folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    there = replace(settings, data=(str(copied),))
    same = load_corpus(there, cache_dir=cache)
    (copied / "part000.txt").write_text("something else\n", encoding="utf-8")
    other = load_corpus(there, cache_dir=cache)
    larger = load_corpus(replace(there, vocab_size=330), cache_dir=cache)
    assert len({same.fingerprint, other.fingerprint, larger.fingerprint}) == 3


def test_empty_text_is_refused(tmp_path: Path, settings: ProxySettings) -> None:
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"no text to train proxies on: .*a\.txt is empty"):
        load_corpus(replace(settings, data=(str(tmp_path / "a.txt"),)), cache_dir=tmp_path)


def test_too_little_text_for_the_vocabulary_is_refused(
    tmp_path: Path, settings: ProxySettings
) -> None:
    (tmp_path / "a.txt").write_text("a few words", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"too little text.*to make a vocabulary of 320"):
        load_corpus(replace(settings, data=(str(tmp_path),)), cache_dir=tmp_path)


def test_too_little_text_for_the_training_is_refused(
    settings: ProxySettings, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=r"needs 250,000, so that it sees none more than 4 times"):
        load_corpus(replace(settings, tokens=1_000_000), cache_dir=tmp_path)
    with pytest.raises(CorpusError, match="too little text to score on"):
        load_corpus(replace(settings, context_length=512, batch_size=1), cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    settings: ProxySettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(CorpusError, match="cannot be kept in"):
        load_corpus(settings, cache_dir=tmp_path / "file")
