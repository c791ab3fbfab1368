"""How sure a proxy loss is, and whether it may be ranked. Constants measured, with their source."""

from __future__ import annotations

import math
from typing import Final

from phonesearch.proxy.paired import window_standard_error
from phonesearch.proxy.result import WindowSums

SEED_STANDARD_DEVIATION_BITS_PER_BYTE: Final = 0.021
"""Of the losses of one shape over seeds, each seed another initialisation and batch order.

Source: docs/proxy/study.csv and study-700k.csv, recipe 2: seven shapes with two seeds each differ
by 0.0207, 0.0205, 0.0204 and 0.0218 after 0.7M, 1.4M, 2.8M and 5.6M tokens (root mean square of
the differences over sqrt(2)); a test holds it to that. Before, recipe 1, three seeds of two shapes
after 0.6M tokens: 2.099, 2.050, 2.086 (8 x 3328) and 2.069, 2.096, 2.097 (24 x 2048), pooled 0.021.
It shrank with neither length nor recipe. Candidates of a run share one seed and its batches; the
level that a seed has for all shapes is near nothing there, so that cancels none of it.
"""
PAIRED_WINDOW_SHARE: Final = 0.10
"""Share of the windows' standard error that two shapes scored on the same windows do not share.

Source: the same two shapes at seed 1, 512 windows: 0.0185 and 0.0191 bits per byte alone, 0.0025
their difference; 0.0025 / sqrt(2) / 0.0188.
"""
COPY_GAP_PASSED_NATS: Final = 0.40
"""Least copy gap of a proxy that may be ranked, in windows of 128 tokens.

Source: all 54 trainings of 2.8M and 5.6M tokens in docs/proxy/study.csv and study-700k.csv, which
are long past the transition, end between 0.405 and 0.612; a test holds it to that. Before copying
sets in the gap is 0.02 to 0.14 in eleven trainings of ten recipes, whatever their loss. Smeared
keys make the onset gradual, so any threshold cuts a slope: it was 0.30, and of 27 trainings of
1.4M tokens two were between, 0.05 and 0.03 bits a byte above the other seed of the same shape.
Seen on Python's sources; text that repeats itself less may end lower, and then nothing of it is
used.
"""
LONG_COPY_GAP_PASSED_NATS: Final = 0.44
"""The same for windows of more than 128 tokens.

Source: windows of 256 tokens, proxies of 1M parameters, experiments that this recipe grew from,
2026-11: 0.10 to 0.24 before copying sets in, 0.44 or more once it has, about 0.8 in the end. For
windows longer than that it is an assumption.
"""


def copy_gap_passed_nats(context_length: int) -> float:
    """Least copy gap, in nats a token, of a proxy that may be ranked.

    Args:
        context_length: Tokens a window.
    """
    return COPY_GAP_PASSED_NATS if context_length <= 128 else LONG_COPY_GAP_PASSED_NATS


def standard_error(windows: WindowSums) -> float:
    """Standard deviation of one proxy loss, for comparing it with another of the same recipe.

    Two parts: what other seeds (fresh weights and order of batches) would have given, and the
    finite set of held-out windows. All candidates are scored on the same windows, so most of
    the luck of the windows is shared; only the share that remains between two shapes counts.
    The difference between two candidates has sqrt(2) times this standard deviation. It says
    nothing about how well a proxy stands for the full model.

    Two proxies whose windows were kept are compared better by `paired.paired_difference`, which
    needs no assumption on what the windows share.

    Args:
        windows: Losses of the held-out windows.

    Returns:
        Bits per byte.
    """
    of_windows = PAIRED_WINDOW_SHARE * window_standard_error(windows)
    return math.hypot(SEED_STANDARD_DEVIATION_BITS_PER_BYTE, of_windows)
