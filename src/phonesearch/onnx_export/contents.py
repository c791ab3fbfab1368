"""Where the bytes of the stored tensors come from: trained weights, or random ones.

Both give a tensor's bytes piece by piece, so that an export never holds more than some tens of
megabytes beside the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from phonesearch.candidate.config import Candidate, rope_inverse_frequencies
from phonesearch.onnx_export.tensors import BYTES_PER_ELEMENT, QuantisedMatrix, RotaryTable
from phonesearch.onnx_export.tensors import Tensor as StoredTensor
from phonesearch.units import MIB

PIECE_ELEMENTS: Final = MIB // 4
"""Weights converted at a time; few enough to stay in a core's cache between the steps."""
RANDOM_BYTES: Final = 32 * MIB
RANDOM_FLOATS: Final = MIB
SCALES_ADDED: Final = np.float32(0.5)
"""To numbers from 0 to 1, so that scales differ by a factor of three at most."""

_NUMPY_TYPES: Final[dict[int, type[np.floating[Any]]]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
}


class Contents(Protocol):
    """Gives the bytes of stored tensors."""

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """Bytes of `tensor`, in order: packed weights, then scales, where it is quantised."""
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """Random bytes that tensors of one kind are cut from."""

    kind: Literal["levels", "scales", "floats"]
    bits: int
    """Width of a level; 0 for floats."""
    inputs: int
    """Columns of the matrices, which set the size of a value; 0 for levels."""
    data_type: int = TensorProto.FLOAT

    @property
    def num_bytes(self) -> int:
        """Before it starts again."""
        if self.kind == "levels":
            return RANDOM_BYTES
        return RANDOM_FLOATS * BYTES_PER_ELEMENT[self.data_type]

    @property
    def divisor(self) -> np.float32:
        """What drawn floats are divided by."""
        spread = levels_deviation(self.bits) if self.kind == "scales" else 1.0
        return np.float32(spread * math.sqrt(self.inputs))


@dataclass(frozen=True, slots=True)
class Cycle:
    """`num_bytes` of a pool from `start` on, round and round."""

    pool: Pool
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One value over and over."""

    value: float
    count: int
    data_type: int


Step = Cycle | Fill | RotaryTable


class RandomPlan:
    """How tensors are filled with random values, without the values: see `RandomContents`."""

    def __init__(self) -> None:
        self._position = 0

    def steps(self, tensor: StoredTensor) -> Iterator[Step]:
        """What `tensor` is made of; tensors must be asked for in the order of the data file."""
        if isinstance(tensor, QuantisedMatrix):
            yield self._cycle(Pool("levels", tensor.bits, 0), tensor.packed.num_bytes)
            scales = Pool("scales", tensor.bits, tensor.columns)
            yield self._cycle(scales, tensor.scales.num_bytes)
        elif isinstance(tensor, RotaryTable):
            yield tensor
        elif tensor.role == "matrix":
            inputs = tensor.dims[0] if tensor.transposed else tensor.dims[1]
            values = Pool("floats", 0, inputs, tensor.data_type)
            yield self._cycle(values, tensor.initializers[0].num_bytes)
        else:
            value = 1.0 if tensor.role == "gain" else 0.0
            yield Fill(value, math.prod(tensor.dims), tensor.data_type)

    def _cycle(self, pool: Pool, count: int) -> Cycle:
        """Going on where the tensor before ended."""
        # A multiple of 4 keeps floats whole.
        start = self._position % pool.num_bytes // 4 * 4
        self._position += count + 4
        return Cycle(pool, start, count)


class Drawn:
    """The random numbers of a seed, from which pools are made."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.bytes = np.frombuffer(generator.bytes(RANDOM_BYTES), dtype=np.uint8)
        self.uniform: NDArray[np.float32] = generator.random(RANDOM_FLOATS, dtype=np.float32)
        self.normal: NDArray[np.float32] = generator.standard_normal(
            RANDOM_FLOATS, dtype=np.float32
        )

    def pool(self, pool: Pool) -> memoryview:
        """The bytes of a pool."""
        if pool.kind == "levels":
            return array_bytes(symmetric_levels(self.bytes, pool.bits))
        if pool.kind == "scales":
            return array_bytes((self.uniform + SCALES_ADDED) / pool.divisor)
        return array_bytes((self.normal / pool.divisor).astype(_NUMPY_TYPES[pool.data_type]))


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
        self._drawn = Drawn(seed)
        self._plan = RandomPlan()
        self._pools: dict[Pool, memoryview] = {}

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """See `Contents`."""
        for step in self._plan.steps(tensor):
            if isinstance(step, Cycle):
                yield from self._cycle(step)
            elif isinstance(step, RotaryTable):
                yield from rotary_pieces(self._candidate, step)
            else:
                yield array_bytes(np.full(step.count, step.value, _NUMPY_TYPES[step.data_type]))

    def _cycle(self, step: Cycle) -> Iterator[memoryview]:
        if step.pool not in self._pools:
            self._pools[step.pool] = self._drawn.pool(step.pool)
        start, count = step.start, step.num_bytes
        while count:
            piece = self._pools[step.pool][start : start + count]
            yield piece
            count -= len(piece)
            start = 0


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
