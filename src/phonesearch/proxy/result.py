"""What a short training gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

PROXY_CAVEAT: Final = (
    "It is a hint, not a forecast: nothing establishes that a proxy thousands of times smaller, "
    "trained for a minute, ranks full-size models. It can hint at what the feed-forward type, the "
    "activation, its ratio and shared key/value heads are worth. It cannot tell depth from width: "
    "short training favours shallow, wide shapes, so each proxy's depth is set by a law fitted to "
    "published models, which is assumed here and not tested. The embedded corpus is mostly "
    "program code, whose repetition exaggerates the worth of copying, and so of attention. All "
    "proxies get one aid that full-size models lack, keys mixed with the token before, or most "
    "would not learn to copy in this time; one with few key/value heads may gain more from it."
)
"""What a reader must know beside every proxy loss. Source: for the bias of short training,
McLeish et al., arXiv 2502.06857 (at 1B parameters the shape that leads after 10B tokens loses
after 350B)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLoss:
    """Validation loss of a scaled-down candidate after a short, fixed training.

    It ranks shapes, it does not predict the loss of the full model.
    """

    bits_per_byte: float
    """Validation cross-entropy in bits, over the UTF-8 bytes of the held-out windows."""
    standard_error: float
    """Standard deviation expected of `bits_per_byte` between runs that differ in seed only,
    joined with the part of the finite evaluation set's that two shapes scored on the same
    windows do not share; in bits per byte. See `proxy.uncertainty.standard_error`."""
    passed_transition: bool
    """Whether in-context copying has set in. Where it has not, the loss says when a shape
    learns to copy, not how good it is, and must not be ranked against others."""
    copy_gap_nats: float
    """Loss of the first quarter of the window minus that of the last, nats a token; the
    evidence for `passed_transition`."""
    tokens: int
    """Training tokens really seen."""
    seconds: float
    """Wall time of training and evaluation, when it was trained and in all its sittings; not
    that of finding it in a cache."""
    proxy: dict[str, Any]
    """Fields of the scaled-down candidate that was trained."""
    recipe: dict[str, Any]
    """Settings that must agree before two losses may be compared, corpus fingerprint and
    seed included."""
    curve: tuple[tuple[int, float], ...]
    """(tokens seen, training loss in nats a token), smoothed, in order."""
    from_cache: bool = False
    """Whether the training was made earlier and only looked up now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSums:
    """Loss of a proxy on each held-out window, in order, for comparing two proxies window by
    window."""

    nats: tuple[float, ...]
    """Cross-entropy of all tokens of a window."""
    num_bytes: tuple[int, ...]
    """UTF-8 bytes that these tokens stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedProxy:
    """All that a training gives: the loss that records hold, and what they are too small for."""

    loss: ProxyLoss
    windows: WindowSums
