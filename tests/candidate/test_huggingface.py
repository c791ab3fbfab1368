"""Configs in, configs out: nothing is lost, nothing is approximated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from phonesearch.candidate.config import Candidate, RopeScaling, as_dict, rope_inverse_frequencies
from phonesearch.candidate.count import total_parameters
from phonesearch.candidate.huggingface import from_config, read_candidate, to_config
from phonesearch.errors import (
    InvalidCandidateError,
    InvalidFileError,
    PhoneSearchError,
    UnsupportedConfigError,
)
from phonesearch.files import write_yaml

BASE = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)
LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=512
)
BIASES = {"attention_bias": True, "attention_out_bias": True}
EXPRESSIBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "gated": ("llama", {}),
    "untied": ("llama", {"tie_word_embeddings": False}),
    "no default": ("llama", {"rms_norm_eps": 1e-5, "rope_theta": 5e5, "vocab_size": 300}),
    "longer context": ("arcee", {"ffn_type": "plain", "max_position_embeddings": 8192}),
    "wide heads": ("llama", {"head_dim": 48}),
    "biases": ("llama", {**BIASES, "mlp_bias": True, "hidden_act": "gelu"}),
    "llama3 rope": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    "plain": ("arcee", {"ffn_type": "plain", "hidden_act": "relu2"}),
    "plain silu with biases": ("arcee", {"ffn_type": "plain", **BIASES, "mlp_bias": True}),
    "qkv bias": ("qwen2", {"attention_bias": True}),
    "qkv bias, odd heads": ("qwen2", {"attention_bias": True, "num_attention_heads": 6}),
    "qkv bias and window": ("qwen2", {"attention_bias": True, "sliding_window": 8}),
    "qk norm": ("qwen3", {"qk_norm": True}),
    "qk norm and biases": ("qwen3", {"qk_norm": True, **BIASES}),
    "qk norm and window": ("qwen3", {"qk_norm": True, "sliding_window": 8}),
    "window": ("mistral", {"sliding_window": 8}),
    "heads that do not divide the width": ("mistral", {"num_attention_heads": 6}),
}
CONFIG = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 160}
CONFIG |= {"num_hidden_layers": 2, "num_attention_heads": 4}


def _meta_model(config: dict[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    return model


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_transformers_builds_exactly_the_counted_parameters(name: str) -> None:
    model_type, change = EXPRESSIBLE[name]
    candidate = replace(BASE, **change)
    config = to_config(candidate)
    assert config["model_type"] == model_type
    model = _meta_model(config)
    assert type(model).__name__ == config["architectures"][0]
    assert sum(p.numel() for p in model.parameters()) == total_parameters(candidate)


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_a_candidate_survives_the_round_trip(name: str) -> None:
    candidate = replace(BASE, **EXPRESSIBLE[name][1])
    assert from_config(json.loads(json.dumps(to_config(candidate)))) == candidate


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_the_config_that_transformers_saves_reads_back_the_same(name: str, tmp_path: Path) -> None:
    candidate = replace(BASE, **EXPRESSIBLE[name][1])
    AutoConfig.for_model(**to_config(candidate)).save_pretrained(tmp_path)
    assert read_candidate(tmp_path) == candidate


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "phi3", "arcee"])
def test_defaults_are_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    """A config that leaves out all it can stands for what transformers fills in."""
    config = AutoConfig.for_model(model_type, **CONFIG | {"num_attention_heads": 32}, head_dim=8)
    bare = {"model_type": model_type, **CONFIG, "num_attention_heads": 32, "head_dim": 8}
    bare |= {"pad_token_id": None}  # phi3's own lies outside so small a table
    candidate = from_config(bare)
    assert candidate.num_key_value_heads == config.num_key_value_heads
    assert candidate.hidden_act == config.hidden_act
    assert candidate.rms_norm_eps == config.rms_norm_eps
    assert candidate.max_position_embeddings == config.max_position_embeddings
    assert candidate.tie_word_embeddings == config.tie_word_embeddings
    assert candidate.rope_theta == config.rope_parameters["rope_theta"]
    assert candidate.sliding_window == getattr(config, "sliding_window", None)
    if model_type != "phi3":  # its fused projections are the same numbers under other names
        names = {name for name, _ in _meta_model(bare).named_parameters()}
        assert ("model.layers.0.self_attn.q_proj.bias" in names) == candidate.attention_bias
        assert ("model.layers.0.self_attn.o_proj.bias" in names) == candidate.attention_out_bias
        assert ("model.layers.0.self_attn.q_norm.weight" in names) == candidate.qk_norm
    assert sum(p.numel() for p in _meta_model(bare).parameters()) == total_parameters(candidate)


def test_llama3_frequencies_are_those_of_transformers() -> None:
    candidate = replace(BASE, rope_scaling=LLAMA3, head_dim=64, rope_theta=5e5)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**to_config(candidate)))
    ours = torch.tensor(rope_inverse_frequencies(candidate))
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, ours, rtol=1e-6, atol=0)


def test_a_phonelm_config_is_gated_relu_and_written_back_as_llama() -> None:
    config = {**CONFIG, "model_type": "phonelm", "hidden_act": "relu", "tie_word_embeddings": True}
    candidate = from_config(config)
    assert (candidate.ffn_type, candidate.hidden_act) == ("gated", "relu")
    assert candidate.num_key_value_heads == 4
    assert to_config(candidate)["model_type"] == "llama"


def test_rope_theta_is_found_in_the_fields_of_transformers_4_and_5() -> None:
    old = {**CONFIG, "model_type": "llama", "rope_theta": 5e5}
    new = {**CONFIG, "model_type": "llama", "rope_parameters": {"rope_theta": 5e5}}
    assert from_config(old) == from_config(new)
    assert from_config(old).rope_theta == 5e5


def test_of_two_rope_fields_the_one_that_transformers_takes_is_taken() -> None:
    config = {**CONFIG, "model_type": "llama"}
    config["rope_scaling"] = {"rope_type": "default", "rope_theta": 7e4}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 9e4}
    assert from_config(config).rope_theta == 7e4
    assert AutoConfig.for_model(**config).rope_parameters["rope_theta"] == 7e4


def test_a_window_counts_only_where_the_type_looks_at_it() -> None:
    assert (
        from_config({**CONFIG, "model_type": "llama", "sliding_window": 8}).sliding_window is None
    )
    assert from_config({**CONFIG, "model_type": "phi3", "sliding_window": 8}).sliding_window == 8
    qwen = {**CONFIG, "model_type": "qwen2", "sliding_window": 8, "num_key_value_heads": 4}
    assert from_config(qwen).sliding_window is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": ({"model_type": "gemma2"}, "`model_type` 'gemma2'.*phonesearch reads llama"),
    "mixture of experts type": ({"model_type": "mixtral"}, "`model_type` 'mixtral'"),
    "no type": ({"model_type": None}, "`model_type` None"),
    "experts": ({"num_local_experts": 8}, "`num_local_experts` 8 cannot be represented"),
    "partial rotary": ({"partial_rotary_factor": 0.25}, "`partial_rotary_factor` 0.25"),
    "partial rotary inside": (
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "`partial_rotary_factor` 0.5",
    ),
    "softcap": ({"attn_logit_softcapping": 50.0}, "`attn_logit_softcapping` 50.0"),
    "embedding multiplier": ({"embedding_multiplier": 12.0}, "`embedding_multiplier` 12.0"),
    "linear rope": ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "type 'linear'"),
    "incomplete rope": ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks low_freq"),
    "rope by layer": ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "all layers"),
    "rope as text": ({"rope_scaling": "llama3"}, "`rope_scaling` must be a mapping"),
    "theta as text": ({"rope_theta": "big"}, "`rope_theta` must be a number, got 'big'"),
    "eps null": ({"rms_norm_eps": None}, "`rms_norm_eps` must be a number, got None"),
    "head_dim as text": ({"head_dim": "64"}, "`head_dim` must be given as whole numbers"),
    "no width": ({"hidden_size": None}, "`hidden_size` must be given as whole numbers"),
    "activation": ({"hidden_act": "gelu_pytorch_tanh"}, "`hidden_act` 'gelu_pytorch_tanh'"),
    "layers without rope": ({"no_rope_layers": [1, 0]}, "`no_rope_layers`"),
    "quantised": ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
    "layer mixture": (
        {"layer_types": ["full_attention", "sliding_attention"]},
        "`layer_types` mixes full_attention, sliding_attention",
    ),
    "window on some layers": (
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8},
        "`use_sliding_window` puts a window on some layers only",
    ),
    "biases of an unknown kind": (
        {"model_type": "phonelm", "attention_bias": True},
        "`attention_bias` True cannot be represented; it must be absent or False",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_candidate_cannot_represent_is_refused_by_name(name: str) -> None:
    change, message = REFUSED[name]
    with pytest.raises(UnsupportedConfigError, match=message):
        from_config({"model_type": "llama", **CONFIG, **change})


def test_contradicting_fields_are_a_candidate_error() -> None:
    with pytest.raises(InvalidCandidateError, match="multiple of `num_key_value_heads`"):
        from_config({"model_type": "llama", **CONFIG, "num_key_value_heads": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"ffn_type": "plain", "qk_norm": True},
        {"ffn_type": "plain", "sliding_window": 8},
        {"ffn_type": "plain", "num_attention_heads": 6},
        {"attention_out_bias": True},
        {"mlp_bias": True, "qk_norm": True},
        {"attention_bias": True, "qk_norm": True},
        {**BIASES, "num_attention_heads": 6},
    ],
)
def test_a_mixture_that_no_type_has_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConfigError, match="No model type of transformers"):
        to_config(replace(BASE, **change))


def test_our_own_candidate_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    write_yaml(path, as_dict(replace(BASE, rope_scaling=LLAMA3)))
    assert read_candidate(path) == replace(BASE, rope_scaling=LLAMA3)


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(UnsupportedConfigError, match=r"config\.json: `model_type` 'gpt2'"):
        read_candidate(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, column 2"),
        ("[]", "must hold a mapping"),
        ('{"vocab_size": 256, "hiden_size": 64}', "hiden_size: there is no such field"),
    ],
)
def test_a_broken_file_is_a_file_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidFileError, match=message):
        read_candidate(path)


def test_a_missing_file_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(PhoneSearchError, match="cannot be read"):
        read_candidate(tmp_path / "nothing.json")
