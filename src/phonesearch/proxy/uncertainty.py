"""How sure a proxy loss is, and whether it may be ranked. Constants measured, with their source."""

from __future__ import annotations

import math
from typing import Final

from phonesearch.proxy.score import WindowLosses

SEED_STANDARD_DEVIATION_BITS_PER_BYTE: Final = 0.012
PAIRED_WINDOW_SHARE: Final = 0.25
COPY_GAP_PASSED_NATS: Final = 0.25
"""Least copy gap of a proxy that may be ranked.

Source: windows of 128 tokens, 0.3M and 0.55M parameters, 2026-11-24. Before copying sets in the
gap is 0.02 to 0.14 in eleven trainings of eight recipes, whatever their loss; the six shapes
trained by the default recipe end between 0.38 and 0.58 (table in `phonesearch.proxy.settings`).
With longer windows the gap before is larger (0.10 to 0.24 at 256 tokens), so the threshold is
for 128 tokens.
"""


def standard_error(losses: WindowLosses) -> float:
    """Standard deviation of one proxy loss, for comparing it with another of the same recipe.

    Two parts: what other seeds (fresh weights and order of batches) would have given, and the
    finite set of held-out windows. All candidates are scored on the same windows, so most of
    the luck of the windows is shared; only the share that remains between two shapes counts.
    The difference between two candidates has sqrt(2) times this standard deviation. It says
    nothing about how well a proxy stands for the full model.

    Args:
        losses: Of the held-out windows.

    Returns:
        Bits per byte.
    """
    windows = PAIRED_WINDOW_SHARE * losses.window_standard_error
    return math.hypot(SEED_STANDARD_DEVIATION_BITS_PER_BYTE, windows)
