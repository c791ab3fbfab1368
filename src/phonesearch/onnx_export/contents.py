"""Where the bytes of the stored tensors come from: trained weights, or random ones.

Both give a tensor's bytes piece by piece, so that an export never holds more than some tens of
megabytes beside the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from phonesearch.candidate.config import Candidate, rope_inverse_frequencies
from phonesearch.onnx_export.tensors import QuantisedMatrix, RotaryTable
from phonesearch.onnx_export.tensors import Tensor as StoredTensor
from phonesearch.units import MIB

PIECE_ELEMENTS: Final = MIB // 4
"""Weights converted at a time; few enough to stay in a core's cache between the steps."""
RANDOM_BYTES: Final = 32 * MIB
RANDOM_FLOATS: Final = MIB

_NUMPY_TYPES: Final[dict[int, type[np.floating[Any]]]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
}


class Contents(Protocol):
    """Gives the bytes of stored tensors."""

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """Bytes of `tensor`, in order: packed weights, then scales, where it is quantised."""
        ...


class RandomContents:
    """Values good for timing only: drawn once, written over and over at shifting offsets.

    A kernel's time does not depend on the values, as long as none is subnormal, infinite or NaN:
    quantised levels are symmetric about zero, scales are such that a product keeps the size of
    its input, gains are one and biases zero. A mean other than zero would add one direction to
    every product, layer upon layer, until queries and keys are alike and the softmax of their
    scores is full of subnormals: uniform levels of -8 to 7 slowed attention by half that way.
    Neighbouring tensors share stretches of bytes, so nothing about quality, or about how well
    the file compresses, follows from them.
    """

    def __init__(self, candidate: Candidate, *, seed: int) -> None:
        """Draw the values; the same seed writes the same file."""
        self._candidate = candidate
        generator = np.random.default_rng(seed)
        self._drawn = np.frombuffer(generator.bytes(RANDOM_BYTES), dtype=np.uint8)
        self._uniform = generator.random(RANDOM_FLOATS, dtype=np.float32)
        self._normal = generator.standard_normal(RANDOM_FLOATS, dtype=np.float32)
        self._cached: dict[tuple[str, int, int], memoryview] = {}
        self._position = 0

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """See `Contents`."""
        if isinstance(tensor, QuantisedMatrix):
            yield from self._cycle(self._levels(tensor.bits), tensor.packed.num_bytes)
            scales = self._scales(tensor.columns, tensor.bits)
            yield from self._cycle(scales, tensor.scales.num_bytes)
        elif isinstance(tensor, RotaryTable):
            yield from rotary_pieces(self._candidate, tensor)
        elif tensor.role == "matrix":
            inputs = tensor.dims[0] if tensor.transposed else tensor.dims[1]
            values = self._floats(inputs, tensor.data_type)
            yield from self._cycle(values, tensor.initializers[0].num_bytes)
        else:
            value = 1.0 if tensor.role == "gain" else 0.0
            yield array_bytes(np.full(tensor.dims, value, dtype=_NUMPY_TYPES[tensor.data_type]))

    def _cycle(self, buffer: memoryview, count: int) -> Iterator[memoryview]:
        """`count` bytes of `buffer`, going on where the tensor before ended, round and round."""
        # A multiple of 4 keeps floats whole.
        start = self._position % len(buffer) // 4 * 4
        self._position += count + 4
        while count:
            piece = buffer[start : start + count]
            yield piece
            count -= len(piece)
            start = 0

    def _levels(self, bits: int) -> memoryview:
        key = ("levels", 0, bits)
        if key not in self._cached:
            self._cached[key] = array_bytes(symmetric_levels(self._drawn, bits))
        return self._cached[key]

    def _scales(self, inputs: int, bits: int) -> memoryview:
        key = ("scales", inputs, bits)
        if key not in self._cached:
            spread = levels_deviation(bits)
            values = (self._uniform + np.float32(0.5)) / np.float32(spread * math.sqrt(inputs))
            self._cached[key] = array_bytes(values)
        return self._cached[key]

    def _floats(self, inputs: int, data_type: int) -> memoryview:
        key = ("floats", inputs, data_type)
        if key not in self._cached:
            values = self._normal / np.float32(math.sqrt(inputs))
            if data_type == TensorProto.FLOAT16:
                self._cached[key] = array_bytes(values.astype(np.float16))
            else:
                self._cached[key] = array_bytes(values)
        return self._cached[key]


def symmetric_levels(drawn: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Packed random levels with a mean of zero: the lowest, which has no opposite, becomes zero.

    Args:
        drawn: Random bytes.
        bits: Width of a level, 4 (two a byte) or 8; stored with an offset of half its range.
    """
    zero = 1 << (bits - 1)
    packed = np.arange(256, dtype=np.uint8)
    for shift in range(0, 8, bits):
        level = (packed >> shift) & (2**bits - 1)
        packed = np.where(level == 0, packed | (zero << shift), packed).astype(np.uint8)
    return packed[drawn]


def levels_deviation(bits: int) -> float:
    """Standard deviation of `symmetric_levels`, in levels.

    With h half the range: -h + 1 to h - 1, each once in 2 h but zero twice, have a mean square
    of (h - 1) (2 h - 1) / 6.
    """
    half = 2 ** (bits - 1)
    return math.sqrt((half - 1) * (2 * half - 1) / 6)


def rotary_pieces(candidate: Candidate, table: RotaryTable) -> Iterator[memoryview]:
    """Rows of the table, angles in float32 as the torch model computes them."""
    frequencies = np.array(rope_inverse_frequencies(candidate), dtype=np.float32)
    rows = max(1, PIECE_ELEMENTS // table.pairs)
    for start in range(0, table.positions, rows):
        positions = np.arange(start, min(start + rows, table.positions), dtype=np.float32)
        angles = np.outer(positions, frequencies)
        yield array_bytes(np.cos(angles) if table.function == "cos" else np.sin(angles))


def array_bytes(values: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of an array, without a copy."""
    return values.data.cast("B")
