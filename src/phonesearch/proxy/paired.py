"""Bits per byte over held-out windows, and the difference of two proxies on the same windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.errors import ProxyError
from phonesearch.proxy.result import TrainedProxy, WindowSums

_DECIDES_WINDOWS: Final = ("corpus_fingerprint", "context_length", "scored_windows")
"""Fields of a recipe; where they agree, the windows and their order do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much the loss of one proxy is above that of another on the same text."""

    bits_per_byte: float
    """Loss of the first minus that of the second."""
    standard_error: float
    """Of `bits_per_byte` as an estimate for all such text, from the spread over windows. It
    holds nothing of what another seed would have given; for that see `proxy.uncertainty`."""


def bits_per_byte(windows: WindowSums) -> float:
    """All bits over all bytes."""
    return math.fsum(windows.nats) / math.log(2) / sum(windows.num_bytes)


def window_standard_error(windows: WindowSums) -> float:
    """Standard error of `bits_per_byte` as an estimate for all such text, bits per byte.

    That of a ratio of two sums over windows, to first order; infinite for a single window.

    Source: Cochran, Sampling Techniques, 3rd edition, 1977, section 2.11.
    """
    return _ratio_standard_error(_bits(windows), np.array(windows.num_bytes))


def paired_difference(first: TrainedProxy, second: TrainedProxy) -> PairedDifference:
    """Loss of `first` minus that of `second`, in bits per byte, with its standard error.

    Both were scored on the same windows, so a window that is hard for both adds nothing to the
    error of the difference. With d_i the difference in bits on window i and m_i its bytes, the
    difference is R = sum d_i / sum m_i, and its variance, that of a ratio to first order, is
    sum (d_i - R m_i)^2 / (n (n - 1)) / mean(m)^2.

    Args:
        first: A trained proxy.
        second: Another of the same recipe; shape, seed and tokens may differ.

    Raises:
        ProxyError: If the two were not scored on the same windows.

    Source: Cochran, Sampling Techniques, 3rd edition, 1977, sections 2.11 and 6.4.
    """
    differing = [
        name for name in _DECIDES_WINDOWS if first.loss.recipe[name] != second.loss.recipe[name]
    ]
    if differing or first.windows.num_bytes != second.windows.num_bytes:
        raise ProxyError(
            "Two proxies can be compared window by window only where both were scored on the "
            f"same ones; these differ in {', '.join(differing) or 'the bytes of their windows'}."
        )
    bits = _bits(first.windows) - _bits(second.windows)
    num_bytes = np.array(first.windows.num_bytes)
    return PairedDifference(
        bits_per_byte=float(bits.sum() / num_bytes.sum()),
        standard_error=_ratio_standard_error(bits, num_bytes),
    )


def _bits(windows: WindowSums) -> NDArray[np.float64]:
    return np.array(windows.nats, dtype=np.float64) / math.log(2)


def _ratio_standard_error(bits: NDArray[np.float64], num_bytes: NDArray[np.int64]) -> float:
    count = len(num_bytes)
    if count < 2:
        return math.inf
    residual = bits - bits.sum() / num_bytes.sum() * num_bytes
    return float(residual.std(ddof=1) / math.sqrt(count) / num_bytes.mean())
