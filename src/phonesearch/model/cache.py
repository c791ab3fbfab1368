"""Keys and values that a decoder has already computed."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Rotated keys and values of every layer, grown by concatenation as tokens come in.

    Starts empty and takes its type, device and batch size from what is first appended. With a
    sliding window nothing is dropped: the mask hides what a query may not see, so that a step
    gives the same logits as the whole sequence at once.
    """

    def __init__(self, num_hidden_layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * num_hidden_layers
        self._values: list[Tensor | None] = [None] * num_hidden_layers

    @property
    def num_tokens(self) -> int:
        """Positions that every layer holds."""
        last = self._keys[-1]
        return 0 if last is None else last.shape[2]

    def append(self, layer: int, k_BKLH: Tensor, v_BKLH: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions of one layer and give back all of that layer's.

        Args:
            layer: Index of the layer, from 0.
            k_BKLH: Rotated keys, shape (batch, num_key_value_heads, new positions, head_dim).
            v_BKLH: Values, of the same shape.

        Returns:
            All keys and all values, shape (batch, num_key_value_heads, positions, head_dim).
        """
        old_k, old_v = self._keys[layer], self._values[layer]
        if old_k is not None and old_v is not None:
            k_BKLH = torch.cat((old_k, k_BKLH), dim=2)
            v_BKLH = torch.cat((old_v, v_BKLH), dim=2)
        self._keys[layer], self._values[layer] = k_BKLH, v_BKLH
        return k_BKLH, v_BKLH
