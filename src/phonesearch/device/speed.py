"""The figures of one turn, in the form in which both predictions and measurements give them.

`Speed` alone does not say where it comes from: it travels inside a `LatencyEstimate`
(`device/estimate.py`, a model's output) or a `Measurement` (`timing/base.py`, a stopwatch's),
and those two are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SpeedObjective = Literal["decode", "prefill", "turn"]
"""What "fast" means in a run: see the three properties of `Speed`."""
SPEED_OBJECTIVES: tuple[SpeedObjective, ...] = ("decode", "prefill", "turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A value in seconds with the interval in which the truth is expected to lie."""

    value_s: float
    low_s: float
    high_s: float

    def rate(self, count: int) -> tuple[float, float, float]:
        """`count` a second: value, low, high. A slow time is a low rate."""
        return count / self.value_s, count / self.high_s, count / self.low_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Times of one turn at batch size 1: read a prompt, then generate."""

    prompt_tokens: int
    generate_tokens: int
    ttft: Span
    """Time to first token: the whole prefill, with the logits of its last token."""
    tpot: Span
    """Time per output token, of the decode step in the middle of the generation, that is with
    `prompt_tokens + generate_tokens // 2` tokens in the cache."""
    turn: Span
    """From the prompt to the last generated token."""
    coverage: float
    """Share of cases that the intervals are meant to hold, for example 0.9."""

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens over TTFT."""
        return self.prompt_tokens / self.ttft.value_s

    @property
    def decode_tokens_per_s(self) -> float:
        """One over TPOT."""
        return 1 / self.tpot.value_s

    @property
    def turn_tokens_per_s(self) -> float:
        """All generated tokens over the whole time of the turn, prompt included."""
        return self.generate_tokens / self.turn.value_s

    def tokens_per_s(self, objective: SpeedObjective) -> tuple[float, float, float]:
        """Tokens a second of one objective: value, and the low and high end of its interval."""
        if objective == "decode":
            return self.tpot.rate(1)
        if objective == "prefill":
            return self.ttft.rate(self.prompt_tokens)
        return self.turn.rate(self.generate_tokens)
