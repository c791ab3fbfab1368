"""What a short training gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLoss:
    """Validation loss of a scaled-down candidate after a short, fixed training.

    It ranks shapes, it does not predict the loss of the full model.
    """

    bits_per_byte: float
    """Validation cross-entropy in bits, over the UTF-8 bytes of the held-out windows."""
    standard_error: float
    """Standard deviation expected of `bits_per_byte` between runs that differ in seed only,
    joined with that of the finite evaluation set; in bits per byte."""
    passed_transition: bool
    """Whether in-context copying has set in. Where it has not, the loss says when a shape
    learns to copy, not how good it is, and must not be ranked against others."""
    copy_gap_nats: float
    """Loss of the first quarter of the window minus that of the last, nats a token; the
    evidence for `passed_transition`."""
    tokens: int
    """Training tokens really seen."""
    seconds: float
    """Wall time of training and evaluation."""
    proxy: dict[str, Any]
    """Fields of the scaled-down candidate that was trained."""
    recipe: dict[str, Any]
    """Settings that must agree before two losses may be compared, corpus fingerprint and
    seed included."""
    curve: tuple[tuple[int, float], ...]
    """(tokens seen, training loss in nats a token), smoothed, in order."""
