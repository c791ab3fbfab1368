"""The deployment folder in onnxruntime-genai's own loop, against ONNX Runtime in ours."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime_genai
import pytest
from numpy.typing import NDArray

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "untied, multi-head": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "multi-query, relu": {"num_key_value_heads": 1, "hidden_act": "relu"},
    "plain relu2": {"ffn_type": "plain", "hidden_act": "relu2"},
    "qk norm, gelu": {"qk_norm": True, "hidden_act": "gelu"},
    "biases": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "window": {"sliding_window": 5},
    "llama3 rope": {"rope_scaling": LLAMA3},
    "heads that do not divide the width": {"num_attention_heads": 6},
}
PROMPT = [5, 9, 77, 3, 200, 14, 68]
MAX_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    tokens: list[int]
    logits: NDArray[np.float32]


def _in_genai(folder: Path, *, max_length: int = MAX_LENGTH) -> Generated:
    """Greedy generation in the loop of onnxruntime-genai."""
    model = onnxruntime_genai.Model(str(folder))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(max_length=max_length)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(np.array(PROMPT, dtype=np.int32))
    logits = []
    while not generator.is_done():
        logits.append(np.array(generator.get_logits()).reshape(-1))
        generator.generate_next_token()
    tokens = [int(token) for token in generator.get_sequence(0)]
    return Generated(tokens=tokens, logits=np.stack(logits))


def _in_our_loop(folder: Path, candidate: Candidate, *, max_length: int = MAX_LENGTH) -> Generated:
    """Greedy generation with nothing but an ONNX Runtime session."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    empty = np.zeros((1, candidate.num_key_value_heads, 0, candidate.head_dim), np.float32)
    cache = {i.name: empty for i in session.get_inputs() if i.name.startswith("past_key_values")}
    tokens, new, logits = list(PROMPT), list(PROMPT), []
    while len(tokens) < max_length:
        inputs = {
            "input_ids": np.array([new], dtype=np.int64),
            "attention_mask": np.ones((1, len(tokens)), dtype=np.int64),
        }
        outputs = dict(zip(names, session.run(names, inputs | cache), strict=True))
        logits.append(outputs.pop("logits").reshape(-1))
        cache = {n.replace("present", "past_key_values"): value for n, value in outputs.items()}
        new = [int(logits[-1].argmax())]
        tokens += new
    return Generated(tokens=tokens, logits=np.stack(logits))


def _end_at(folder: Path, token: int) -> None:
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["eos_token_id"] = token
    path.write_text(json.dumps(config), encoding="utf-8")


def _unused(generated: Generated) -> int:
    return next(token for token in range(256) if token not in generated.tokens)


@pytest.fixture(params=VARIANTS)
def candidate(request: pytest.FixtureRequest, tiny: Candidate) -> Candidate:
    return replace(tiny, **VARIANTS[request.param])


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "random"])
def test_genai_generates_what_onnx_runtime_computes(
    trained: bool, candidate: Candidate, tmp_path: Path
) -> None:
    weights = None
    if trained:
        state = Decoder(candidate, seed=1).state_dict()
        weights = {name: t * 6 if t.dim() > 1 else t for name, t in state.items()}
    folder = export_to("onnx", candidate, tmp_path / "model", weights=weights)
    ours = _in_our_loop(folder, candidate)
    _end_at(folder, _unused(ours))
    theirs = _in_genai(folder)
    assert theirs.tokens == ours.tokens
    assert theirs.logits.shape == (MAX_LENGTH - len(PROMPT), candidate.vocab_size)
    assert np.isfinite(theirs.logits).all()
    assert ours.logits.std() > 0.1
    np.testing.assert_allclose(theirs.logits, ours.logits, rtol=0, atol=1e-5)


def test_a_generation_may_use_the_whole_context(tiny: Candidate, tmp_path: Path) -> None:
    folder = export_to("onnx", tiny, tmp_path / "model")
    length = tiny.max_position_embeddings
    ours = _in_our_loop(folder, tiny, max_length=length)
    _end_at(folder, _unused(ours))
    assert _in_genai(folder, max_length=length).tokens == ours.tokens


def test_the_tokenizer_s_end_token_ends_a_generation(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    folder = export_to("onnx", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    assert (config["bos_token_id"], config["eos_token_id"]) == (0, 1)
    ours = _in_our_loop(folder, tiny).tokens
    fourth = ours[len(PROMPT) + 3]
    _end_at(folder, fourth)
    assert _in_genai(folder).tokens == ours[: ours.index(fourth, len(PROMPT))]


def test_without_a_tokenizer_the_last_id_ends_a_generation_and_zero_does_not(
    tiny: Candidate, tmp_path: Path
) -> None:
    folder = export_to("onnx", tiny, tmp_path / "model")
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    assert (config["eos_token_id"], config["pad_token_id"]) == (255, 255)
    assert "it is the last id, 255." in (folder / "README.md").read_text(encoding="utf-8")


def test_the_cache_is_written_in_place(tiny: Candidate, tmp_path: Path) -> None:
    """Otherwise the runtime copies the whole cache at every token."""
    folder = export_to("onnx", tiny, tmp_path / "model")
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    assert config["search"]["past_present_share_buffer"] is True


def test_the_seed_chooses_the_random_weights(tiny: Candidate, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        folder = export_to("onnx", tiny, tmp_path / name, seed=seed)
        return (folder / "model.onnx.data").read_bytes()

    assert weights("a", 1) == weights("b", 1) != weights("c", 2)


def test_the_readme_says_that_random_weights_mean_nothing(tiny: Candidate, tmp_path: Path) -> None:
    random = export_to("onnx", tiny, tmp_path / "random", seed=3)
    trained = export_to("onnx", tiny, tmp_path / "t", weights=Decoder(tiny).state_dict())
    warning = "**The weights are random (seed 3).**"
    assert warning in (random / "README.md").read_text(encoding="utf-8")
    assert "random" not in (trained / "README.md").read_text(encoding="utf-8")


def test_the_code_in_the_readme_runs(
    tiny: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = export_to("onnx", tiny, tmp_path / "model")
    text = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    exec(code[1], {})
    printed = capsys.readouterr().out.replace(",", " ").strip("[] \n").split()
    assert [int(token) for token in printed[:16]] == list(range(16))
    assert 16 <= len(printed) <= 256
