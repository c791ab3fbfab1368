"""Candidates of every architecture that llama.cpp shares with us, and weights that tell apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.model.decoder import Decoder

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
PLAIN = {"ffn_type": "plain", "hidden_act": "relu2"}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama untied, multi-head": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "llama with biases": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "llama with qkv bias": {"attention_bias": True},
    "llama3 rope": {"rope_scaling": LLAMA3, "rope_theta": 5e5},
    "llama, heads that do not divide the width": {"num_attention_heads": 6},
    "llama, wide heads, multi-query": {"head_dim": 32, "num_key_value_heads": 1},
    "qwen3": {"qk_norm": True},
    "qwen3 with qkv bias, untied": {
        "qk_norm": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "arcee": PLAIN,
    "arcee with qkv bias, llama3 rope": {**PLAIN, "attention_bias": True, "rope_scaling": LLAMA3},
}


def lively(candidate: Candidate) -> dict[str, Tensor]:
    """Weights whose gains, biases and logits are far from their harmless initial values."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: weight * 6
        if weight.dim() > 1
        else weight + 0.3 * torch.randn(weight.shape, generator=generator)
        for name, weight in Decoder(candidate, seed=1).state_dict().items()
    }
