"""The decoder with its cache in buffers, against the one whose cache grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.model.decoder import Decoder
from phonesearch.model.static_cache import StaticCacheDecoder

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "untied, relu": {"tie_word_embeddings": False, "hidden_act": "relu"},
    "plain gelu with norms": {"ffn_type": "plain", "hidden_act": "gelu", "qk_norm": True},
    "biases, wide heads": {
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "head_dim": 32,
    },
    "llama3 rope": {"rope_scaling": LLAMA3},
}


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """What the operators of a runtime do, in torch."""
    first, new = int(start), k.shape[1]
    keys[:, first : first + new], values[:, first : first + new] = k, v
    seen = torch.arange(first + new) <= torch.arange(first, first + new).unsqueeze(1)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        keys[:, : first + new].transpose(1, 2),
        values[:, : first + new].transpose(1, 2),
        attn_mask=seen,
        enable_gqa=True,
    )
    return out.transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_in_steps_are_those_of_the_growing_cache(name: str, tiny: Candidate) -> None:
    candidate = replace(tiny, **VARIANTS[name])
    decoder = Decoder(candidate, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in decoder.parameters():
        if parameter.dim() == 1:
            parameter.normal_(generator=generator)
        else:
            parameter.mul_(6)
    module = StaticCacheDecoder(decoder, candidate.max_position_embeddings, attend)
    ids = torch.randint(candidate.vocab_size, (1, 24), generator=generator)
    expected = decoder(ids)[0]
    assert expected.std() > 0.3, "logits near zero would agree whatever the model did"
    begin = 0
    for length in (7, 1, 1, 12, 3):
        found = module(ids[:, begin : begin + length], torch.tensor([begin]))
        begin += length
        torch.testing.assert_close(found[0], expected[begin - 1], rtol=0, atol=2e-5)
