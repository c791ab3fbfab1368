"""Keys that hold some of the token before, so that proxies learn to copy from the start.

To continue a run that was seen before, attention must find where the current token stood
earlier and take what followed. In a plain transformer that needs two layers to find each other
(one moves every token to the next position, a later one looks for it), which small models
discover abruptly, after 0.75 to more than 2 million tokens depending on their shape; until
then, a loss tells when a shape makes the discovery and not how good it is. Where each key is a
learned mixture of the current and the previous one, one layer is enough and copying grows
steadily from the first steps, in every shape. The mixture's weight is learned per key/value
head and may go to nothing.

This is the one thing in which a proxy differs from its candidate in kind; all proxies have it.
Measured in `phonesearch.proxy.settings`.

Source: the smeared-key architecture of Olsson et al., "In-context Learning and Induction
Heads", 2022, arXiv 2209.11895, argument 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from phonesearch.model.decoder import Decoder

# Shape suffixes: B batch, L positions, K num_key_value_heads, H head_dim.


class SmearedKeys(nn.Module):
    """A key projection whose output is mixed with that of the position before.

    Args:
        projection: From the residual stream to all keys.
        num_key_value_heads: Heads; each has its own mixture, half and half at first.
    """

    def __init__(self, projection: nn.Linear, num_key_value_heads: int) -> None:
        super().__init__()
        self.projection = projection
        self.mixture = nn.Parameter(
            torch.zeros(num_key_value_heads, 1, device=projection.weight.device)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Keys, shape (batch, positions, num_key_value_heads * head_dim)."""
        keys_BLKH = self.projection(x_BLD).unflatten(-1, (len(self.mixture), -1))
        before_BLKH = F.pad(keys_BLKH, (0, 0, 0, 0, 1, 0))[:, :-1]
        share_K1 = torch.sigmoid(self.mixture).to(keys_BLKH.dtype)
        return torch.lerp(keys_BLKH, before_BLKH, share_K1).flatten(2)


def smear_keys(model: Decoder) -> None:
    """Give every layer of a fresh model smeared keys. Its key/value cache must not be used."""
    heads = model.candidate.num_key_value_heads
    for layer in model.model.layers:
        attention = layer.get_submodule("self_attn")
        projection = attention.get_submodule("k_proj")
        assert isinstance(projection, nn.Linear)
        attention.add_module("k_proj", SmearedKeys(projection, heads))
