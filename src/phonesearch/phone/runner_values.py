"""The numbers that the runner feeds a model on the phone, bit for bit (`runner/values.h`).

With them the host's ONNX Runtime computes what the phone should give.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TOKEN_STREAM: Final = 0
CACHE_STREAM: Final = 1 << 16
"""Of the first cache among the model's inputs; each cache after it has the next."""
ACTIVATION_STREAM: Final = 1 << 17
"""Of the first activation among the model's inputs; each one after it has the next."""

_DEVIATION: Final = np.float32(float.fromhex("0x1.bb67aep-16"))
"""The square root of 3 over 65536: one over the deviation of four 16-bit numbers' sum."""


def drawn(stream: int, count: int) -> NDArray[np.uint64]:
    """The first `count` numbers of a stream: splitmix64 seeded with the stream's number.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64)
    mixed = np.uint64(stream) + steps * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


def tokens(count: int, *, vocab_size: int) -> NDArray[np.int64]:
    """Token ids of the first `count` positions; shape (count,)."""
    high = drawn(TOKEN_STREAM, count) >> np.uint64(32)
    return (high * np.uint64(vocab_size) >> np.uint64(32)).astype(np.int64)


def floats(stream: int, count: int) -> NDArray[np.float32]:
    """The first `count` numbers of a stream as float32, near a standard normal: the sum of four
    uniform 16-bit numbers, centred, over its deviation."""
    bits = drawn(stream, count)
    sums = sum((bits >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
    centred = np.asarray(sums).astype(np.int64) - 131070
    return centred.astype(np.float32) * _DEVIATION


def cache(number: int, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """What cache `number` among the model's inputs holds before the first run."""
    return floats(CACHE_STREAM + number, int(np.prod(shape))).astype(dtype).reshape(shape)


def activation(number: int, *, capacity: int, width: int) -> NDArray[np.float32]:
    """What activation `number` among the model's inputs holds, by position; shape
    (capacity, width)."""
    return floats(ACTIVATION_STREAM + number, capacity * width).reshape(capacity, width)
