"""The file in llama.cpp itself, against our own module and Hugging Face's tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_variants import VARIANTS, lively
from llama_cpp_here import (
    bench,
    generated,
    llama_cpp_version,
    load,
    logits,
    need_llama_cpp,
)
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from tried import tried

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.gguf import GGUF_TARGETS
from phonesearch.units import format_bytes

PROMPT = [5, 9, 77, 3, 200, 14, 68]
LENGTH = 48


@pytest.fixture(autouse=True)
def _runtime() -> None:
    need_llama_cpp()


@pytest.fixture(params=VARIANTS)
def candidate(request: pytest.FixtureRequest, tiny: Candidate) -> Candidate:
    return replace(tiny, **VARIANTS[request.param])


def _ours(candidate: Candidate, weights: dict[str, Tensor]) -> Decoder:
    model = Decoder(candidate)
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def test_llama_cpp_generates_what_our_module_computes(candidate: Candidate, tmp_path: Path) -> None:
    weights = lively(candidate)
    folder = export_to("gguf-f32", candidate, tmp_path / "model", weights=weights)
    model = _ours(candidate, weights)
    ours = model(torch.tensor([PROMPT]))[0].numpy()
    assert ours.std() > 0.3, "logits near zero would agree whatever the model did"
    np.testing.assert_allclose(logits(folder, PROMPT), ours, rtol=0, atol=2e-5)
    tokens = list(PROMPT)
    while len(tokens) < LENGTH:
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert generated(folder, PROMPT, LENGTH) == tokens


@torch.no_grad()
@pytest.mark.parametrize(("target", "bound"), [("gguf", 0.5), ("gguf-q8_0", 0.06)])
def test_rounded_weights_give_logits_nearby(
    target: str, bound: float, candidate: Candidate, tmp_path: Path
) -> None:
    """Errors are root mean squares over that of the logits. With the weights that the file has,
    what is left is that llama.cpp rounds activations to 8 bits, 0.01 to 0.03 here. Against the
    weights as they were it was 0.02 to 0.04 for Q8_0, and 0.24 to 0.46 for Q4_0, whose blocks of
    Gaussian numbers are off by a tenth each, through eleven matrices."""
    weights = lively(candidate)
    folder = export_to(target, candidate, tmp_path / "model", weights=weights)
    theirs = logits(folder, PROMPT)
    assert 0.001 < _share_of_error(theirs, candidate, weights) < bound
    kind = gguf.GGMLQuantizationType[GGUF_TARGETS[target].weight_type]
    rounded = {
        name: torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))
        if weight.dim() > 1
        else weight
        for name, weight in weights.items()
    }
    assert _share_of_error(theirs, candidate, rounded) < 0.06


def _share_of_error(
    theirs: NDArray[np.float32], candidate: Candidate, weights: dict[str, Tensor]
) -> float:
    ours = _ours(candidate, weights)(torch.tensor([PROMPT]))[0].numpy()
    share = float(np.sqrt(((theirs - ours) ** 2).mean()) / ours.std())
    print(f"error / logits: {share:.4f}")
    return share


def test_the_code_in_the_readme_runs(
    tiny: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = export_to("gguf", tiny, tmp_path / "model")
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    exec(code[1], {})
    prompt, generation, tokens = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"prompt: \d+\.\d tokens/s", prompt)
    assert re.fullmatch(r"generation: \d+\.\d tokens/s", generation)
    assert len(tokens.split(",")) == 128


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_speed_is_printed_as_llama_bench_measures_it(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    """Of the first gated silu candidate of 300M: a prompt at once, then tokens one by one."""
    candidate = next(
        one
        for one in drawn
        if (one.ffn_type, one.hidden_act, one.sliding_window) == ("gated", "silu", None)
    )
    folder = export_to("gguf", candidate, tmp_path / "model")
    prompt_tokens, new_tokens = 128, 16
    speeds = bench(folder, prompt_tokens, new_tokens)
    size = format_bytes((folder / "model.gguf").stat().st_size)
    print("| model | size | params | threads | test | t/s |")
    for test, speed in zip((f"pp{prompt_tokens}", f"tg{new_tokens}"), speeds, strict=True):
        print(f"| Q4_0 | {size} | {total_parameters(candidate):,} | 1 | {test} | {speed:.1f} |")
    prefill, decode = speeds
    assert prefill > decode > 0, "a prompt goes through many tokens at a time"
    tried(
        "gguf",
        tool="llama-cpp-python",
        version=llama_cpp_version(),
        what=f"timed like llama-bench, {total_parameters(candidate):,} parameters as Q4_0, one "
        "thread of a shared machine",
        result=f"prompt of {prompt_tokens}: {prefill:.1f} tokens/s; {new_tokens} new: {decode:.1f}",
    )


def _pattern(digits: str) -> pre_tokenizers.PreTokenizer:
    """Source: `pre_tokenizer` in the tokenizer.json of Llama 3 ({1,3}) and of Qwen2 (one)."""
    text = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+"
        r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return pre_tokenizers.Split(Regex(text.replace("DIGITS", digits)), "isolated")


def _splittings() -> Iterator[tuple[str, list[pre_tokenizers.PreTokenizer], bool]]:
    byte_level, bytes_only = (
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex) for regex in (True, False)
    )
    yield "gpt-2", [byte_level], False
    yield "smollm", [pre_tokenizers.Digits(individual_digits=True), byte_level], False
    yield "qwen2", [_pattern(""), bytes_only], False
    yield "llama-bpe", [_pattern("{1,3}"), bytes_only], True


TEXTS = [
    "Hello world, it's 2026 and THEY'RE   here.\n\n  Tabs\tand 1234567 things!",
    "naïve café – déjà vu… 我想在apple工作1314151天～ 🚀🦙",
    "def f(x):\n    return {'a': [x ** 2, 3.14]}\r\n",
    "   leading and trailing   ",
]


@pytest.mark.parametrize(
    ("steps", "whole_words"),
    [pytest.param(steps, whole, id=name) for name, steps, whole in _splittings()],
)
def test_texts_become_the_tokens_that_they_are_in_hugging_face(
    steps: list[pre_tokenizers.PreTokenizer], whole_words: bool, tiny: Candidate, tmp_path: Path
) -> None:
    fast = Tokenizer(models.BPE(ignore_merges=whole_words))
    fast.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(tmp_path / "tokenizer")
    candidate = replace(tiny, vocab_size=448)
    folder = export_to("gguf", candidate, tmp_path / "model", tokenizer=tmp_path / "tokenizer")
    model = load(folder, vocab_only=True)
    for text in [*TEXTS, "</s>some<s>"]:
        theirs = model.tokenize(text.encode(), add_bos=False, special=True)
        assert theirs == fast.encode(text).ids, text
