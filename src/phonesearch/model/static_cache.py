"""The decoder with its cache in buffers of a fixed length, as ahead-of-time exports need it.

Shape suffixes as in `decoder.py`; S is the length of the cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from phonesearch.candidate.config import rope_inverse_frequencies
from phonesearch.model.decoder import Attention, Block, Decoder, rotate

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Writes new keys and values to a cache and returns what the new queries see in it: queries
(1, L, N, H), keys and values (1, L, K, H), the caches (1, S, K, H), position of the first."""


class StaticCacheDecoder(nn.Module):
    """A `Decoder` that reads new tokens and the position of the first, and remembers the rest.

    It shares the decoder's modules. A tied head becomes a projection of its own, with the same
    numbers, since quantisation treats tables and projections differently.

    Args:
        decoder: What it computes; without a sliding window.
        length: Positions of the cache.
        attend: Attention over the cache, as the runtime has it.
    """

    def __init__(self, decoder: Decoder, length: int, attend: Attend) -> None:
        super().__init__()
        candidate = decoder.candidate
        self.backbone = decoder.model
        head = decoder.lm_head
        if head is None:
            head = nn.Linear(candidate.hidden_size, candidate.vocab_size, bias=False)
            head.weight = nn.Parameter(decoder.model.embed_tokens.weight.detach().clone())
        self.lm_head = head
        self._attend = attend
        shape = (1, length, candidate.num_key_value_heads, candidate.head_dim)
        for layer in range(candidate.num_hidden_layers):
            self.register_buffer(f"key_cache_{layer}", torch.zeros(shape))
            self.register_buffer(f"value_cache_{layer}", torch.zeros(shape))
        frequencies = torch.tensor(rope_inverse_frequencies(candidate), dtype=torch.float32)
        angles_SH = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
        self.register_buffer("cosines", angles_SH.cos())
        self.register_buffer("sines", angles_SH.sin())

    def forward(self, input_ids_1L: Tensor, start: Tensor) -> Tensor:
        """Logits after the last token, shape (1, vocab_size).

        Args:
            input_ids_1L: New tokens, int64.
            start: Position of the first of them, int64, shape (1,).
        """
        positions_L = start + torch.arange(input_ids_1L.shape[1])
        cos_L1H = self.get_buffer("cosines")[positions_L].unsqueeze(1)
        sin_L1H = self.get_buffer("sines")[positions_L].unsqueeze(1)
        x_BLD: Tensor = self.backbone.embed_tokens(input_ids_1L)
        for layer, block in enumerate(self.backbone.layers):
            assert isinstance(block, Block)
            normed_BLD = block.input_layernorm(x_BLD)
            x_BLD = x_BLD + self._attention(
                block.self_attn, layer, normed_BLD, cos_L1H, sin_L1H, start
            )
            x_BLD = x_BLD + block.mlp(block.post_attention_layernorm(x_BLD))
        logits: Tensor = self.lm_head(self.backbone.norm(x_BLD[:, -1]))
        return logits

    def _attention(
        self,
        attention: Attention,
        layer: int,
        x_BLD: Tensor,
        cos_L1H: Tensor,
        sin_L1H: Tensor,
        start: Tensor,
    ) -> Tensor:
        heads = (-1, attention.head_dim)
        q_BLNH = attention.q_norm(attention.q_proj(x_BLD).unflatten(-1, heads))
        k_BLKH = attention.k_norm(attention.k_proj(x_BLD).unflatten(-1, heads))
        v_BLKH = attention.v_proj(x_BLD).unflatten(-1, heads)
        out_BLNH = self._attend(
            rotate(q_BLNH, cos_L1H, sin_L1H),
            rotate(k_BLKH, cos_L1H, sin_L1H),
            v_BLKH,
            self.get_buffer(f"key_cache_{layer}"),
            self.get_buffer(f"value_cache_{layer}"),
            start,
        )
        projected: Tensor = attention.o_proj(out_BLNH.flatten(2))
        return projected
