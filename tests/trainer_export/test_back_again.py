"""A model trained elsewhere, in transformers and in the packages that are made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from gguf_variants import PLAIN, lively
from llama_cpp_here import generated, logits, need_llama_cpp
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.quantise import as_deployed
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.checkpoint import read_checkpoint
from phonesearch.trainer_export.deployment import SETTINGS

VARIANTS: dict[str, dict[str, Any]] = {
    "llama untied": {"tie_word_embeddings": False},
    "qwen3": {"qk_norm": True},
    "arcee": PLAIN,
}
PROMPT = [5, 9, 77, 3, 200, 14, 68]
LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint, and what transformers makes of it."""

    candidate: Candidate
    folder: Path
    logits: NDArray[np.float32]
    """After each token of the prompt."""
    tokens: list[int]
    """The prompt and what follows it greedily."""


@pytest.fixture(params=VARIANTS)
def trained(request: pytest.FixtureRequest, tiny: Candidate, tmp_path: Path) -> Trained:
    candidate = replace(tiny, **VARIANTS[request.param])
    exported = export_to("hf", candidate, tmp_path / "hf", weights=lively(candidate))
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    folder = tmp_path / "trained"
    model.save_pretrained(folder, max_shard_size="100KB")
    tokens = list(PROMPT)
    with torch.no_grad():
        first = model(torch.tensor([tokens])).logits[0].numpy()
        while len(tokens) < LENGTH:
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert first.std() > 0.3, "logits near zero would agree whatever the model did"
    return Trained(candidate=candidate, folder=folder, logits=first, tokens=tokens)


def _share(theirs: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of the error over that of the logits."""
    share = float(np.sqrt(((theirs - expected) ** 2).mean()) / expected.std())
    print(f"error / logits: {share:.4f}")
    return share


def test_llama_cpp_goes_on_as_transformers_does(trained: Trained, tmp_path: Path) -> None:
    need_llama_cpp()
    weights = read_checkpoint(trained.folder, trained.candidate)
    folder = export_to("gguf-f32", trained.candidate, tmp_path / "f32", weights=weights)
    np.testing.assert_allclose(logits(folder, PROMPT), trained.logits, rtol=0, atol=2e-5)
    assert generated(folder, PROMPT, LENGTH) == trained.tokens


def test_four_bits_in_llama_cpp_stay_near(trained: Trained, tmp_path: Path) -> None:
    """Bounds as in `test_gguf_runtime.py`: rounding is most of what these small models say."""
    need_llama_cpp()
    weights = read_checkpoint(trained.folder, trained.candidate)
    folder = export_to("gguf", trained.candidate, tmp_path / "q4", weights=weights)
    assert _share(logits(folder, PROMPT), trained.logits) < 0.5


def test_a_graph_in_floats_goes_on_as_transformers_does(trained: Trained, tmp_path: Path) -> None:
    settings = GraphSettings(form="portable", weight_bits=32, logits="all")
    weights = read_checkpoint(trained.folder, trained.candidate)
    model = export(trained.candidate, tmp_path / "f32", settings, weights=weights)
    ids = np.array([trained.tokens], dtype=np.int64)
    found = run_in_chunks(model, ids, [LENGTH])[0]
    np.testing.assert_allclose(found[: len(PROMPT)], trained.logits, rtol=0, atol=2e-5)
    # One pass over what transformers chose: each choice must be that of the token before it.
    assert found[len(PROMPT) - 1 : -1].argmax(axis=1).tolist() == trained.tokens[len(PROMPT) :]


def test_four_bits_in_onnx_runtime_are_the_rounding_and_nothing_else(
    trained: Trained, tmp_path: Path
) -> None:
    """Rounded to 4 bits, two layers of Gaussian numbers say half of something else: 0.4 to 0.6 at
    the last token. With the same rounding in transformers what is left is that MatMulNBits rounds
    activations to 8 bits."""
    weights = read_checkpoint(trained.folder, trained.candidate)
    folder = export_to("onnx", trained.candidate, tmp_path / "q4", weights=weights)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    candidate = trained.candidate
    empty = np.zeros((1, candidate.num_key_value_heads, 0, candidate.head_dim), np.float32)
    inputs: dict[str, Any] = {
        i.name: empty for i in session.get_inputs() if i.name.startswith("past_key_values")
    }
    inputs["input_ids"] = np.array([PROMPT], dtype=np.int64)
    inputs["attention_mask"] = np.ones_like(inputs["input_ids"])
    found = session.run(["logits"], inputs)[0].reshape(-1)
    assert 0.1 < _share(found, trained.logits[-1]) < 0.7
    model = AutoModelForCausalLM.from_pretrained(trained.folder, dtype=torch.float32)
    rounded = as_deployed(candidate, SETTINGS, weights)
    if candidate.tie_word_embeddings:
        rounded["lm_head.weight"] = rounded["model.embed_tokens.weight"]
    model.load_state_dict(rounded)
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0, -1].numpy()
    assert _share(found, expected) < 0.06
