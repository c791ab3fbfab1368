"""The torch model against transformers' models, and against itself token by token."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, Phi3Config, Phi3ForCausalLM

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.candidate.huggingface import from_config, to_config
from phonesearch.model.cache import KVCache
from phonesearch.model.decoder import Decoder, fresh_weights
from phonesearch.model.weights import weights_for

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
BIASES = {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama untied, wide heads": {"tie_word_embeddings": False, "head_dim": 48},
    "llama with biases": {**BIASES, "hidden_act": "gelu"},
    "llama relu": {"hidden_act": "relu", "num_key_value_heads": 4},
    "llama relu2, multi-query": {"hidden_act": "relu2", "num_key_value_heads": 1},
    "llama3 rope": {"rope_scaling": LLAMA3, "rope_theta": 5e5},
    "arcee": {"ffn_type": "plain", "hidden_act": "relu2"},
    "arcee gelu with biases": {"ffn_type": "plain", "hidden_act": "gelu", **BIASES},
    "qwen2": {"attention_bias": True},
    "qwen2 window": {"attention_bias": True, "sliding_window": 5},
    "qwen3": {"qk_norm": True, "head_dim": 32},
    "qwen3 window": {"qk_norm": True, "sliding_window": 5},
    "mistral window": {"sliding_window": 5},
    "mistral, heads that do not divide the width": {"num_attention_heads": 6},
}
LENGTH = 24


@pytest.fixture(params=VARIANTS)
def candidate(request: pytest.FixtureRequest, tiny: Candidate) -> Candidate:
    return replace(tiny, **VARIANTS[request.param])


def _lively(candidate: Candidate) -> Decoder:
    """A model whose gains, biases and logits are far from their harmless initial values."""
    model = Decoder(candidate, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(generator=generator)
            else:
                parameter.mul_(6)
    return model.eval()


def _ids(candidate: Candidate, length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(candidate.vocab_size, (2, length), generator=generator)


def _assert_same(actual: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.3, "logits near zero would agree whatever the model did"
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_logits_are_those_of_transformers_with_the_same_weights(candidate: Candidate) -> None:
    model, ids = _lively(candidate), _ids(candidate)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**to_config(candidate))).eval()
    result = theirs.load_state_dict(model.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == (["lm_head.weight"] if candidate.tie_word_embeddings else [])
    _assert_same(model(ids), theirs(ids).logits)


@torch.no_grad()
def test_prefill_and_steps_give_the_logits_of_the_whole(candidate: Candidate) -> None:
    model, ids = _lively(candidate), _ids(candidate)
    cache = KVCache(candidate.num_hidden_layers)
    parts = [model(ids[:, :9], cache), model(ids[:, 9:13], cache)]
    parts += [model(ids[:, i : i + 1], cache) for i in range(13, LENGTH)]
    assert cache.num_tokens == LENGTH
    _assert_same(torch.cat(parts, dim=1), model(ids))


@torch.no_grad()
def test_a_later_token_changes_no_earlier_logits(candidate: Candidate) -> None:
    model, ids = _lively(candidate), _ids(candidate)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % candidate.vocab_size
    torch.testing.assert_close(model(ids)[:, :-1], model(changed)[:, :-1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_window_hides_what_lies_outside_all_layers_reach(tiny: Candidate) -> None:
    """Two layers of window 5 reach 2 x (5 - 1) = 8 tokens back, and no further."""
    model, ids = _lively(replace(tiny, sliding_window=5)), _ids(tiny)
    changed = ids.clone()
    changed[:, LENGTH - 1 - 9] = (changed[:, LENGTH - 1 - 9] + 1) % tiny.vocab_size
    torch.testing.assert_close(model(ids)[:, -1], model(changed)[:, -1], rtol=0, atol=1e-5)
    changed[:, LENGTH - 1 - 8] = (changed[:, LENGTH - 1 - 8] + 1) % tiny.vocab_size
    assert (model(ids)[:, -1] - model(changed)[:, -1]).abs().max() > 1e-3


@torch.no_grad()
def test_phi3_s_fused_checkpoint_gives_its_logits() -> None:
    config = Phi3Config(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        sliding_window=7,
        pad_token_id=None,
        eos_token_id=None,
    )
    theirs = Phi3ForCausalLM(config).eval()
    for parameter in theirs.parameters():
        parameter.mul_(6 if parameter.dim() > 1 else 1)
    candidate = from_config(config.to_dict())
    model = Decoder(candidate)
    model.load_state_dict(weights_for(candidate, theirs.state_dict()))
    ids = _ids(candidate)
    _assert_same(model(ids), theirs(ids).logits)


def test_the_same_seed_draws_the_same_weights(tiny: Candidate) -> None:
    first, again = Decoder(tiny, seed=7).state_dict(), Decoder(tiny, seed=7).state_dict()
    other = Decoder(tiny, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(first[name], other[name])


def test_weights_drawn_one_by_one_are_those_of_the_whole(tiny: Candidate) -> None:
    model = Decoder(replace(tiny, **BIASES), seed=7)
    drawn = list(fresh_weights(model.candidate, 7))
    assert [name for name, _ in drawn] == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in drawn)


def test_drawing_weights_leaves_torch_s_own_generator_alone(tiny: Candidate) -> None:
    before = torch.get_rng_state()
    Decoder(tiny, seed=7)
    assert torch.equal(before, torch.get_rng_state())


def test_fresh_weights_have_the_stated_spread(tiny: Candidate) -> None:
    wide = replace(tiny, hidden_size=256, num_hidden_layers=8, **BIASES)
    state = Decoder(wide).state_dict()
    layer = "model.layers.3."
    assert state[layer + "mlp.up_proj.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert state[layer + "mlp.down_proj.weight"].std() == pytest.approx(0.02 / 4, rel=0.02)
    assert state[layer + "self_attn.o_proj.weight"].std() == pytest.approx(0.02 / 4, rel=0.03)
    assert state["model.embed_tokens.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert torch.equal(state[layer + "input_layernorm.weight"], torch.ones(256))
    assert not state[layer + "self_attn.q_proj.bias"].any()


def test_a_fresh_model_predicts_close_to_uniformly(tiny: Candidate) -> None:
    ids = _ids(tiny)
    logits = Decoder(tiny)(ids[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


def test_every_parameter_learns(candidate: Candidate) -> None:
    model, ids = _lively(candidate), _ids(candidate)
    torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@torch.no_grad()
def test_bfloat16_weights_keep_exact_rotary_frequencies(tiny: Candidate) -> None:
    """Frequencies rounded to bfloat16 would turn position 255 by whole radians too far."""
    candidate = replace(tiny, rope_theta=1e6)
    model = _lively(candidate)
    ids = _ids(candidate, 256)
    expected = model(ids)
    rounded = model.to(torch.bfloat16)(ids)
    assert rounded.dtype == torch.bfloat16
    agree = torch.nn.functional.cosine_similarity(rounded.float(), expected, dim=-1)
    assert agree.min() > 0.98


def test_a_meta_model_holds_no_memory(tiny: Candidate) -> None:
    huge = replace(tiny, hidden_size=8192, intermediate_size=32768, num_hidden_layers=60)
    assert all(p.is_meta for p in Decoder(huge, device="meta").parameters())
