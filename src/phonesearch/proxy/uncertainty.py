"""How sure a proxy loss is, and whether it may be ranked. Constants measured, with their source."""

from __future__ import annotations

import math
from typing import Final

from phonesearch.proxy.score import WindowLosses

SEED_STANDARD_DEVIATION_BITS_PER_BYTE: Final = 0.012
PAIRED_WINDOW_SHARE: Final = 0.25
COPY_GAP_PASSED_NATS: Final = 0.30


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
