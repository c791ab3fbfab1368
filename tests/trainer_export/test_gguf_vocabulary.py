"""Tokenizers that llama.cpp has, and those that it would read differently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.base import export_to

Content = dict[str, Any]


def fields(folder: Path) -> dict[str, Any]:
    """Metadata of the file."""
    reader = gguf.GGUFReader(folder / "model.gguf")
    return {name: field.contents() for name, field in reader.fields.items()}


def _edit(folder: Path, change: Callable[[Content], None], name: str = "tokenizer.json") -> None:
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_without_a_tokenizer_the_file_says_how_many_tokens_there_are(
    tiny: Candidate, tmp_path: Path
) -> None:
    found = fields(export_to("gguf", tiny, tmp_path / "model"))
    assert (found["tokenizer.ggml.model"], found["llama.vocab_size"]) == ("none", 256)
    assert "tokenizer.ggml.tokens" not in found


def test_every_row_of_the_table_has_a_token(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    found = fields(export_to("gguf", tiny, tmp_path / "model", tokenizer=tokenizer_folder))
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert tokens[:2] == ["<s>", "</s>"]
    assert tokens[199:201] == ["ab", "[PAD200]"]
    assert len(tokens) == len(kinds) == tiny.vocab_size
    assert [kinds[index] for index in (0, 1, 2, 199, 200, 255)] == [3, 3, 1, 1, 5, 5]
    assert found["tokenizer.ggml.merges"] == ["a b"]
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (0, 1)
    assert found["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_what_surrounds_a_text_is_written(
    first: bool, last: bool, tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    def surround(content: Content) -> None:
        text = {"Sequence": {"id": "A", "type_id": 0}}
        begin, end = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("<s>", "</s>"))
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [begin] * first + [text] + [end] * last,
            "pair": [],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]},
            },
        }

    _edit(tokenizer_folder, surround)
    found = fields(export_to("gguf", tiny, tmp_path / "model", tokenizer=tokenizer_folder))
    assert found["tokenizer.ggml.add_bos_token"] is first
    assert found["tokenizer.ggml.add_eos_token"] is last


REFUSED: dict[str, tuple[Callable[[Content], None], str]] = {
    "another model": (lambda c: c["model"].update(type="Unigram"), "`model` of type 'Unigram'"),
    "byte fallback": (lambda c: c["model"].update(byte_fallback=True), "`byte_fallback` True"),
    "no merges": (lambda c: c["model"].update(merges=[]), "empty `merges`"),
    "normalised text": (lambda c: c.update(normalizer={"type": "NFC"}), "`normalizer` 'NFC'"),
    "another splitting": (
        lambda c: c.update(pre_tokenizer={"type": "Whitespace"}),
        r"`pre_tokenizer` \(Whitespace\).*gpt-2, smollm, qwen2, llama-bpe",
    ),
    "no splitting": (lambda c: c.update(pre_tokenizer=None), r"`pre_tokenizer` \(none\)"),
    "a space in front": (
        lambda c: c["pre_tokenizer"].update(add_prefix_space=True),
        r"`pre_tokenizer` \(ByteLevel\)",
    ),
    "whole words": (lambda c: c["model"].update(ignore_merges=True), "`ignore_merges` True"),
    "swallowed spaces": (lambda c: c["added_tokens"][0].update(lstrip=True), "`lstrip` on '<s>'"),
    "another ending": (
        lambda c: c.update(post_processor={"type": "BertProcessing"}),
        r"`post_processor` \(BertProcessing\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_read_differently_is_refused(
    name: str, tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    change, message = REFUSED[name]
    _edit(tokenizer_folder, change)
    with pytest.raises(TrainerExportError, match=message):
        export_to("gguf", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
    assert not (tmp_path / "model").exists()


def test_a_tokenizer_that_declares_no_end_is_refused(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    _edit(tokenizer_folder, lambda c: c.pop("eos_token"), "tokenizer_config.json")
    with pytest.raises(TrainerExportError, match=r"no `eos_token`.*id 11"):
        export_to("gguf", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
