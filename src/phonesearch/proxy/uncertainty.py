"""How sure a proxy loss is, and whether it may be ranked. Constants measured, with their source."""

from __future__ import annotations

import math
from typing import Final

from phonesearch.proxy.paired import window_standard_error
from phonesearch.proxy.result import WindowSums

SEED_STANDARD_DEVIATION_BITS_PER_BYTE: Final = 0.021
"""Of the losses of one shape over seeds, each seed another initialisation and batch order.

Source: docs/proxy/study-700k.csv, recipe 2: seven shapes with two seeds each differ by 0.0207 after
700,000 tokens and by 0.0204 after 2,800,000 (root mean square of the differences over sqrt(2));
a test holds it to that. Before, recipe 1, three seeds of two shapes after 0.6M tokens: 2.099,
2.050, 2.086 (8 x 3328) and 2.069, 2.096, 2.097 (24 x 2048), pooled 0.021. It shrank with neither
length nor recipe. Candidates of a run share one seed and its batches, which may cancel some of it;
that was not measured.
"""
PAIRED_WINDOW_SHARE: Final = 0.10
"""Share of the windows' standard error that two shapes scored on the same windows do not share.

Source: the same two shapes at seed 1, 512 windows: 0.0185 and 0.0191 bits per byte alone, 0.0025
their difference; 0.0025 / sqrt(2) / 0.0188.
"""
COPY_GAP_PASSED_NATS: Final = 0.30
"""Least copy gap of a proxy that may be ranked.

Source: windows of 128 tokens, 0.3M and 0.55M parameters, 2026-11-24. Before copying sets in the
gap is 0.02 to 0.14 in eleven trainings of ten recipes, whatever their loss; the six shapes in
the table of `phonesearch.proxy.settings` end between 0.38 and 0.58. Smeared keys make the onset
gradual, so any threshold cuts a slope: 0.30 lies between, and of the first six proxies of a real
run, the two that ended at 0.25 and 0.29 had the highest losses. With longer windows the
gap before is larger (0.10 to 0.24 at 256 tokens), so the threshold is for 128 tokens.
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
