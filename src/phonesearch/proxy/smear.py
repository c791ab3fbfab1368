"""Keys that hold some of the token before, so that proxies learn to copy from the start.

To continue a run that was seen before, attention must find where the current token stood
earlier and take what followed. In a plain transformer that needs two layers to find each other
(one moves every token to the next position, a later one looks for it), which small models
discover abruptly, after 0.75 to more than 2 million tokens depending on their shape; until
then, a loss tells when a shape makes the discovery and not how good it is. Where each key is a
learned mixture of the current token and the one before, one layer is enough and copying grows
steadily from the first steps, in every shape. The mixture is learned for each pair of channels
that is rotated together, and may go to nothing. At first slowly turning pairs, which compare
content, hold mostly the token before and fast ones, which compare positions, mostly the current
one: halves of both in every channel copied later.

This is the one thing in which a proxy differs from its candidate in kind; all proxies have it.
Measured in `phonesearch.proxy.settings`.

Source: the smeared-key architecture of Olsson et al., "In-context Learning and Induction
Heads", 2022, arXiv 2209.11895, argument 2.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from phonesearch.model.decoder import Decoder

_FIRST_LOGIT: Final = 2.0
"""Of the share of the token before in slow channels: sigmoid(2) is 0.88."""

# Shape suffixes: B batch, L positions, K num_key_value_heads, H head_dim.


class SmearedKeys(nn.Module):
    """A key projection whose output is mixed with that of the position before.

    Args:
        projection: From the residual stream to all keys.
        num_key_value_heads: Heads of these keys.
    """

    def __init__(self, projection: nn.Linear, num_key_value_heads: int) -> None:
        super().__init__()
        self.projection = projection
        head_dim = projection.out_features // num_key_value_heads
        pair_H = torch.arange(head_dim, device=projection.weight.device) % (head_dim // 2)
        slow_H = pair_H >= head_dim // 4
        initial_H = torch.where(slow_H, _FIRST_LOGIT, -_FIRST_LOGIT)
        self.mixture = nn.Parameter(initial_H.repeat(num_key_value_heads, 1))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Keys, shape (batch, positions, num_key_value_heads * head_dim)."""
        keys_BLKH = self.projection(x_BLD).unflatten(-1, (len(self.mixture), -1))
        before_BLKH = F.pad(keys_BLKH, (0, 0, 0, 0, 1, 0))[:, :-1]
        share_KH = torch.sigmoid(self.mixture).to(keys_BLKH.dtype)
        return torch.lerp(keys_BLKH, before_BLKH, share_KH).flatten(2)


def smear_keys(model: Decoder) -> None:
    """Give every layer of a fresh model smeared keys. Its key/value cache must not be used."""
    heads = model.candidate.num_key_value_heads
    for layer in model.model.layers:
        attention = layer.get_submodule("self_attn")
        projection = attention.get_submodule("k_proj")
        assert isinstance(projection, nn.Linear)
        attention.add_module("k_proj", SmearedKeys(projection, heads))
