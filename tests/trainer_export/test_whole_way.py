"""From a search to a phone's runtimes and back: nothing on the way is skipped or stands in.

A tiny model is searched, exported for transformers, trained there by a program that knows nothing
of phonesearch, brought back, rounded, and run by onnxruntime-genai and by llama.cpp.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime_genai
import pytest
import torch
from llama_cpp_here import generated, logits, need_llama_cpp
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from tried import tried
from typer.testing import CliRunner

from phonesearch.candidate.huggingface import read_candidate
from phonesearch.cli import app
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.proxy.corpus import load_corpus
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.tokens import END_OF_TEXT
from phonesearch.trainer_export.checkpoint import read_checkpoint

HERE = Path(__file__).parent
STEPS = 50
NEW_TOKENS = 20
SPACE = """\
name: whole-way
description: Gated silu, which all runtimes know.
num_hidden_layers: {low: 2, high: 4, step: 1}
hidden_size: {low: 32, high: 128, step: 16}
head_dim: {choices: [16, 32]}
attention_width_ratio: {choices: [1.0]}
num_attention_heads: {low: 1, high: 8}
query_heads_per_key_value_head: [1, 2]
num_key_value_heads: {low: 1, high: 8}
ffn_type: [gated]
ffn_ratio: {low: 2.0, high: 4.0, step: 0.5}
hidden_act: [silu]
tie_word_embeddings: [true]
vocab_size: {choices: [512]}
intermediate_size_multiple_of: 32
fixed: {max_position_embeddings: 256}
"""


def phonesearch(*typed: object) -> str:
    done = CliRunner().invoke(app, [str(part) for part in typed])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def in_transformers(folder: Path, prompt: list[int]) -> tuple[list[int], NDArray[np.float32]]:
    """The prompt and what follows it greedily, without a cache; logits after all of these."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        scores: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
    return tokens, scores


def in_genai(folder: Path, prompt: list[int]) -> list[int]:
    model = onnxruntime_genai.Model(str(folder))
    parameters = onnxruntime_genai.GeneratorParams(model)
    length = len(prompt) + NEW_TOKENS
    parameters.set_search_options(max_length=length, min_length=length)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_searched_model_is_trained_elsewhere_and_runs_on_the_phone_s_runtimes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_llama_cpp()
    import llama_cpp

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = load_corpus(ProxySettings(), cache_dir=tmp_path / "cache")
    words = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    words.save(str(tokenizer / "tokenizer.json"))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT}))
    (tmp_path / "text").mkdir()
    text = words.decode(corpus.train_tokens()[:80_000].tolist())
    (tmp_path / "text" / "text.txt").write_text(text, encoding="utf-8")
    (tmp_path / "space.yaml").write_text(SPACE.replace("whole-way", "space"))
    run, model, trained = (tmp_path / name for name in ("run", "model", "trained"))

    options = ["--space", tmp_path / "space.yaml", "--budget", "250k", "--proxy", "prior"]
    options += ["--trials", "8", "--tokenizer", tokenizer, "--out", run]
    phonesearch("run", *options)
    phonesearch("export", run, "--recommended", "--to", "hf", "--out", model)
    program = [sys.executable, HERE / "train_with_transformers.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*program, model, tmp_path / "text", trained, str(STEPS)],
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["phonesearch_imported"]
    assert len(told["losses"]) == STEPS
    assert told["losses"][-1] < told["losses"][0] - 1

    number = json.loads((run / "front.json").read_text())["recommended"]
    back = ["export", run, "--trial", number, "--weights", trained]
    phonesearch(*back, "--to", "onnx", "--out", tmp_path / "onnx")
    phonesearch(*back, "--to", "gguf", "--out", tmp_path / "gguf")
    phonesearch(*back, "--to", "gguf-q8_0", "--out", tmp_path / "gguf-q8_0")
    phonesearch(*back, "--to", "gguf-f32", "--out", tmp_path / "gguf-f32")
    prompt = words.encode("def read(self, path):\n    if self.path is None:\n").ids
    expected, scores = in_transformers(trained, prompt)
    assert len(set(scores.argmax(axis=1))) > 2, "too few different choices to compare"

    assert generated(tmp_path / "gguf-f32", prompt, len(expected)) == expected
    np.testing.assert_allclose(
        logits(tmp_path / "gguf-f32", expected), scores, rtol=0, atol=1e-3 * scores.std()
    )
    candidate = read_candidate(model)
    settings = GraphSettings(form="portable", weight_bits=32, logits="all")
    graph = export(
        candidate, tmp_path / "f32", settings, weights=read_checkpoint(trained, candidate)
    )
    found = run_in_chunks(graph, np.array([expected], dtype=np.int64), [len(expected)])[0]
    assert found[len(prompt) - 1 : -1].argmax(axis=1).tolist() == expected[len(prompt) :]
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-3 * scores.std())
    for rounded in (
        in_genai(tmp_path / "onnx", prompt),
        generated(tmp_path / "gguf", prompt, len(expected)),
        generated(tmp_path / "gguf-q8_0", prompt, len(expected)),
    ):
        assert rounded[: len(prompt)] == prompt
        assert len(rounded) == len(expected)
    first, last = told["losses"][0], told["losses"][-1]
    trained_so = f"searched, trained {STEPS} steps by transformers ({first:.2f} to {last:.2f} nats)"
    tried(
        "gguf-f32",
        tool="llama-cpp-python",
        version=llama_cpp.__version__,
        what=f"{trained_so}, brought back, {NEW_TOKENS} tokens generated greedily",
        result="the tokens of transformers, logits within 0.1 % of their deviation",
    )
    for target, tool, version in (
        ("onnx", "onnxruntime-genai", onnxruntime_genai.__version__),
        ("gguf", "llama-cpp-python", llama_cpp.__version__),
        ("gguf-q8_0", "llama-cpp-python", llama_cpp.__version__),
    ):
        tried(
            target,
            tool=tool,
            version=version,
            what=f"{trained_so}, brought back, rounded",
            result=f"{NEW_TOKENS} tokens generated",
        )
