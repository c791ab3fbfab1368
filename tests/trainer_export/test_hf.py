"""The folder for transformers, read by transformers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.candidate.huggingface import read_candidate
from phonesearch.errors import TrainerExportError
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.weights_file import write_safetensors

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "arcee": {"ffn_type": "plain", "hidden_act": "relu2"},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True},
    "mistral": {"num_attention_heads": 6},
}


@pytest.fixture(params=VARIANTS)
def candidate(request: pytest.FixtureRequest, tiny: Candidate) -> Candidate:
    return replace(tiny, **VARIANTS[request.param])


@torch.no_grad()
def test_exported_weights_give_the_same_logits_in_transformers(
    candidate: Candidate, tmp_path: Path
) -> None:
    ours = Decoder(candidate, seed=5)
    folder = export_to("hf", candidate, tmp_path / "model", weights=ours.state_dict())
    theirs, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(candidate.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-6)


def test_the_folder_reads_back_as_the_candidate(candidate: Candidate, tmp_path: Path) -> None:
    assert read_candidate(export_to("hf", candidate, tmp_path / "model")) == candidate


@pytest.mark.parametrize("trained", [False, True])
def test_the_code_in_the_readme_builds_the_counted_parameters(
    trained: bool,
    candidate: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = Decoder(candidate).state_dict() if trained else None
    folder = export_to("hf", candidate, tmp_path / "model", weights=weights)
    text = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    exec(code[1], {})
    count = f"{total_parameters(candidate):,} parameters"
    assert count in capsys.readouterr().out
    assert count in text
    assert ("no weights here" in text) == (not trained)


def test_no_weights_are_written_where_none_are_given(tiny: Candidate, tmp_path: Path) -> None:
    folder = export_to("hf", tiny, tmp_path / "model")
    names = sorted(path.name for path in folder.iterdir())
    recipe = ["TRAINING.md", "training_recipe.json"]
    assert sorted(names) == sorted(["README.md", "config.json", "generation_config.json", *recipe])


def test_the_tokenizer_s_special_tokens_are_the_model_s(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    folder = export_to("hf", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
    config = AutoModelForCausalLM.from_pretrained(
        export_to(
            "hf",
            tiny,
            tmp_path / "trained",
            tokenizer=tokenizer_folder,
            weights=Decoder(tiny).state_dict(),
        )
    ).generation_config
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, None)


def test_a_special_token_without_an_id_is_refused(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    path = tokenizer_folder / "tokenizer_config.json"
    text = path.read_text(encoding="utf-8").replace('"</s>"', '"<end>"')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrainerExportError, match="`eos_token` '<end>', which has no id"):
        export_to("hf", tiny, tmp_path / "model", tokenizer=tokenizer_folder)


def test_ids_with_gaps_count_up_to_the_highest(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    path = tokenizer_folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] = 300
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TrainerExportError, match=r"`vocab_size` 256 is too small.*up to 300"):
        export_to("hf", tiny, tmp_path / "model", tokenizer=tokenizer_folder)


def test_a_folder_without_a_tokenizer_is_refused(tiny: Candidate, tmp_path: Path) -> None:
    with pytest.raises(TrainerExportError, match=r"no tokenizer at .*tokenizer\.json is needed"):
        export_to("hf", tiny, tmp_path / "model", tokenizer=tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weights_file_is_read_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    state: dict[str, Tensor] = {
        "b": torch.randn(3, 5).to(dtype).t(),  # not contiguous
        "a": torch.randn(7).to(dtype),
    }
    write_safetensors(tmp_path / "x.safetensors", state)
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert all(read[name].dtype == dtype for name in state)
    content = (tmp_path / "x.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0, "tensors must start aligned"


def test_integers_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(TrainerExportError, match="`ids` must be floating-point"):
        write_safetensors(tmp_path / "x.safetensors", {"ids": torch.arange(3)})
