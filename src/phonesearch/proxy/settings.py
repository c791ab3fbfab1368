"""How a proxy is sized, trained and scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from phonesearch.errors import SettingsError

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Everything besides the candidate and the seed's draws that decides a proxy loss."""

    parameters: int = 300_000
    """Non-embedding parameters of the proxy of a candidate whose own are as many as the
    budget; others in proportion."""
    tokens: int = 600_000
    """Training tokens, rounded down to whole batches."""
    batch_size: int = 2
    """Windows a step."""
    context_length: int = 128
    """Tokens a window."""
    horizon_tokens_per_parameter: float = 100.0
    """Length of the planned pre-training; it decides which depth-to-width ratio of the proxy
    stands for that of the candidate."""
    vocab_size: int = 1024
    """Entries of the byte-level vocabulary that is trained on the corpus."""
    data: tuple[str, ...] = ()
    """Files and folders of text; none is the embedded corpus."""
    data_field: str = "text"
    """Field of JSON Lines and Parquet that holds the text."""
    matrix_lr: float = 0.02
    """Peak learning rate of Muon, for the matrices of the blocks."""
    other_lr: float = 3e-3
    """Peak learning rate of AdamW, for tables, head, gains and biases."""
    weight_decay: float = 0.1
    """Of the matrices; the others have none."""
    warmup_steps: int = 50
    cooldown_share: float = 0.3
    """Share of the steps, the last ones, over which learning rates go linearly to zero."""
    validation_windows: int = 512
    """Held-out windows that are scored, the same for all; fewer where the text is short."""
    device: DeviceChoice = "auto"
    """`auto`: the GPU where there is one."""
    seed: int = 0
    """Of the fresh weights and of the order of batches."""

    def __post_init__(self) -> None:
        def refuse(field: str, rule: str) -> None:
            raise SettingsError(f"`proxy.{field}` must be {rule}, got {getattr(self, field)}.")

        for field in ("batch_size", "validation_windows"):
            if getattr(self, field) < 1:
                refuse(field, "at least 1")
        if self.parameters < 5_000:
            refuse("parameters", "at least 5,000")
        if self.context_length < 16:
            refuse("context_length", "at least 16")
        if self.tokens < self.batch_size * self.context_length:
            refuse("tokens", f"at least one batch ({self.batch_size * self.context_length})")
        if not 300 <= self.vocab_size <= 65_536:
            refuse("vocab_size", "from 300 to 65,536")
        if self.warmup_steps < 0 or self.seed < 0:
            refuse("warmup_steps" if self.warmup_steps < 0 else "seed", "0 or more")
        for field in ("horizon_tokens_per_parameter", "matrix_lr", "other_lr"):
            value = getattr(self, field)
            if not (value > 0 and math.isfinite(value)):
                refuse(field, "a finite number above 0")
        if not 0 <= self.cooldown_share <= 1:
            refuse("cooldown_share", "from 0 to 1")
        if self.weight_decay < 0:
            refuse("weight_decay", "0 or more")
        if self.device not in ("auto", "cpu", "cuda"):
            refuse("device", "auto, cpu or cuda")
        if not self.data_field:
            refuse("data_field", "the name of a field")

    @property
    def num_steps(self) -> int:
        """Optimiser steps of one training."""
        return self.tokens // (self.batch_size * self.context_length)
