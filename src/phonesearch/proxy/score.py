"""Loss of a trained proxy over held-out windows, in bits per byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import nn

from phonesearch.proxy.paired import bits_per_byte
from phonesearch.proxy.result import WindowSums

_WINDOWS_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLosses:
    """Losses of every position of every held-out window, and the bytes these stand for."""

    nats: NDArray[np.float64]
    """Cross-entropy a token, shape (windows, context_length)."""
    num_bytes: NDArray[np.int64]
    """UTF-8 bytes of the predicted tokens, shape (windows,)."""

    @property
    def sums(self) -> WindowSums:
        """The losses of each window, added up."""
        return WindowSums(
            nats=tuple(self.nats.sum(axis=1).tolist()), num_bytes=tuple(self.num_bytes.tolist())
        )

    @property
    def bits_per_byte(self) -> float:
        """All bits over all bytes. End-of-text costs bits and stands for no bytes."""
        return bits_per_byte(self.sums)

    @property
    def copy_gap_nats(self) -> float:
        """Mean loss of the first quarter of the positions minus that of the last, a token."""
        quarter = max(1, self.nats.shape[1] // 4)
        return float(self.nats[:, :quarter].mean() - self.nats[:, -quarter:].mean())


def window_losses(
    model: nn.Module,
    windows: NDArray[np.int64],
    token_bytes: NDArray[np.uint16],
    *,
    device: torch.device,
) -> WindowLosses:
    """Losses of `model` over held-out windows.

    Args:
        model: From token ids (batch, length) to logits (batch, length, vocabulary).
        windows: Token ids, shape (windows, context_length + 1).
        token_bytes: UTF-8 bytes of every token id.
        device: Where the model is.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            ids_BL = torch.from_numpy(windows[start : start + _WINDOWS_AT_ONCE]).to(device)
            logits_BLV = model(ids_BL[:, :-1]).float()
            losses = F.cross_entropy(
                logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten(), reduction="none"
            )
            parts.append(losses.view(len(ids_BL), -1).double().cpu().numpy())
    return WindowLosses(
        nats=np.concatenate(parts),
        num_bytes=token_bytes[windows[:, 1:]].sum(axis=1, dtype=np.int64),
    )
