"""How a proxy is sized, trained and scored.

The defaults are meant to take proxies well past the onset of copying in a minute or two on one
core. What decided their length is docs/proxy/study-700k.csv (2026-11-25, recipe 2): 27 trainings of
700,000 tokens, of which 26 had passed the guard of then, ranked 20 architectures after 2,800,000
with a Spearman coefficient of 0.48 (0.28 within one depth), whereas the training loss of the long
ones ranked their own end with 0.22 after 560,000 tokens, 0.46 after 840,000, 0.66 after 1,120,000,
0.84 after 1,400,000 and 0.89 after 1,960,000. Such a training took 33 s, one thread, two at once.
With twice the tokens (docs/proxy/study.csv) it is 0.64 alone, and 0.82 with law and priors.

Before that, on the way to copying at all: measured with 600,000 tokens on 2026-11-24 on two shared
virtual cores of an AMD EPYC (torch 2.13.0, float32, one thread a training, two at a time), on the
embedded corpus of Python 3.11.7; candidates of about 1.35B parameters without embeddings; seed 0:

    candidate (layers x width)           proxy   key/value of  bits a  copy gap  CPU
                                                 query heads   byte    nats      s
    8 x 3328, gated silu, MQA            2 x 98    1 of 3      2.099   0.38      54
    24 x 2048, gated silu, 4 to a group  4 x 76    1 of 4      2.069   0.43      71
    48 x 1536, gated silu, MQA           7 x 58    1 of 4      2.086   0.44      94
    24 x 2304, plain relu2, 3 to a group 4 x 82    2 of 6      2.083   0.43      83
    20 x 1920, gated relu, MHA, wide FFN 4 x 64    4 of 4      2.042   0.48      68
    9 x 3392, plain gelu, MHA            2 x 106   7 of 7      1.916   0.58      65

All six passed. That was recipe 1, in float32 with autograd. Recipe 2 (`proxy.direct`, bfloat16
where the processor multiplies it) gave a loss higher by 0.009 in bfloat16 than in float32, once,
which is less than half of what another seed makes. In a run of the default space at 1.5B, 3 of 12
proxies ended short of the threshold, at 0.25 (gated relu2, one key/value head of seven), 0.27
(plain relu) and 0.29 (7 layers of width 48).

What led there, by the copy gap on the second of them unless said otherwise:
without smeared keys 0.11 after 0.5M tokens (0.55M parameters), 0.08 after 0.3M (0.3M
parameters), and no better where half of the windows were repeated runs, of text or of random
tokens (0.07, 0.09); smeared keys and batches of four windows 0.14 after 0.3M to 0.4M, heads of
32 no better than of 16; batches of two 0.30 after 0.4M. At this length copying is under way,
not complete (proxies of 1M parameters levelled off near 0.8): that plain gelu leads is also
what a 1M-token training said in the experiments this recipe grew from, where its lead shrank
fivefold with twice the tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from phonesearch.errors import SettingsError

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Everything besides the candidate and the seed's draws that decides a proxy loss."""

    parameters: int = 300_000
    """Non-embedding parameters of the proxy of a candidate whose own are as many as the
    budget; others in proportion."""
    tokens: int = 1_400_000
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
    """Files and folders of text, and datasets of the Hugging Face hub (`proxy.hub`); none is the
    embedded corpus."""
    data_field: str = "text"
    """Field of JSON Lines, Parquet and datasets that holds the text."""
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
    precision: PrecisionChoice = "auto"
    """Of matrix products with weights, while training; weights and all else are float32. `auto`:
    bfloat16 on a GPU and on a processor that multiplies it itself, else float32."""
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
        if self.precision not in ("auto", "float32", "bfloat16"):
            refuse("precision", "auto, float32 or bfloat16")
        if not self.data_field:
            refuse("data_field", "the name of a field")

    @property
    def num_steps(self) -> int:
        """Optimiser steps of one training."""
        return self.tokens // (self.batch_size * self.context_length)


def gpu_settings(settings: ProxySettings) -> ProxySettings:
    """The settings with the recipe for a GPU: 10M parameters, 200M tokens, 32 windows of 512.

    A model of that size settles where one of 0.3M does not, and a GPU takes minutes for it. Not
    tried by us for want of a GPU; size, length and batch are those that were recommended from the
    evidence that the recipe for a CPU grew from: 20 tokens a parameter, and 1,024 windows to score.
    """
    return replace(
        settings,
        parameters=10_000_000,
        tokens=200_000_000,
        batch_size=32,
        context_length=512,
        warmup_steps=100,
        validation_windows=1024,
    )
