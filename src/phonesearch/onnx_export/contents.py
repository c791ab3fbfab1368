"""Where the bytes of the stored tensors come from: trained weights, or random ones.

Both give a tensor's bytes piece by piece, so that an export never holds more than some tens of
megabytes beside the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from phonesearch.candidate.config import Candidate, rope_inverse_frequencies
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.quantise import quantise
from phonesearch.onnx_export.tensors import FloatTensor, QuantisedMatrix, RotaryTable
from phonesearch.onnx_export.tensors import Tensor as StoredTensor
from phonesearch.units import MIB

PIECE_ELEMENTS: Final = MIB // 4
"""Weights converted at a time; few enough to stay in a core's cache between the steps."""
RANDOM_BYTES: Final = 32 * MIB
RANDOM_FLOATS: Final = MIB

_TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
}


class Contents(Protocol):
    """Gives the bytes of stored tensors."""

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """Bytes of `tensor`, in order: packed weights, then scales, where it is quantised."""
        ...


class TrainedContents:
    """Weights by Hugging Face name, checked on entry, converted as they are written."""

    def __init__(self, candidate: Candidate, weights: Mapping[str, Tensor]) -> None:
        """Take `weights`, any float type, on any device.

        Raises:
            ExportError: If a weight is missing, unknown or of another shape.
        """
        _check(candidate, weights)
        self._candidate = candidate
        self._weights = weights

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """See `Contents`.

        Raises:
            ExportError: If a weight is not finite, or not in the range of float16.
        """
        if isinstance(tensor, QuantisedMatrix):
            yield from self._quantised(tensor)
        elif isinstance(tensor, RotaryTable):
            yield from _rotary_pieces(self._candidate, tensor)
        else:
            yield from self._plain(tensor)

    def _quantised(self, matrix: QuantisedMatrix) -> Iterator[memoryview]:
        scales = []
        rows = max(1, PIECE_ELEMENTS // matrix.columns)
        for source in matrix.sources:
            for piece in torch.split(self._weights[source], rows):
                quantised = quantise(piece, bits=matrix.bits, block_size=matrix.block_size)
                scales.append(quantised.scales)
                yield _bytes(quantised.packed)
        for scale in scales:
            yield _bytes(scale)

    def _plain(self, tensor: FloatTensor) -> Iterator[memoryview]:
        for source in tensor.sources:
            weight = self._weights[source].detach()
            if tensor.transposed:
                weight = weight.t()
            # A transposed piece takes whole cache lines, 64 bytes, of the rows that it cuts.
            least = 64 if tensor.transposed else 1
            rows = max(least, PIECE_ELEMENTS // math.prod(weight.shape[1:]))
            for piece in torch.split(weight, rows):
                converted = piece.to(device="cpu", dtype=_TORCH_TYPES[tensor.data_type])
                # The extremes show an infinity or NaN at a fraction of the time of `isfinite`.
                if not math.isfinite(float(converted.amax()) - float(converted.amin())):
                    raise ExportError(
                        f"{source} cannot be exported: every weight must be finite in "
                        f"{str(converted.dtype).removeprefix('torch.')}, got an infinity or NaN."
                    )
                yield _bytes(converted.contiguous())


class RandomContents:
    """Values good for timing only: drawn once, written over and over at shifting offsets.

    A kernel's time does not depend on the values, as long as none is subnormal, infinite or NaN:
    quantised levels are uniform, scales are such that a product keeps the size of its input,
    gains are one and biases zero. Neighbouring tensors share stretches of bytes, so nothing
    about quality, or about how well the file compresses, follows from them.
    """

    def __init__(self, candidate: Candidate, *, seed: int) -> None:
        """Draw the values; the same seed writes the same file."""
        self._candidate = candidate
        generator = np.random.default_rng(seed)
        self._levels = memoryview(generator.bytes(RANDOM_BYTES))
        self._uniform = generator.random(RANDOM_FLOATS, dtype=np.float32)
        self._normal = generator.standard_normal(RANDOM_FLOATS, dtype=np.float32)
        self._cached: dict[tuple[str, int, int], memoryview] = {}
        self._position = 0

    def pieces(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """See `Contents`."""
        if isinstance(tensor, QuantisedMatrix):
            yield from self._cycle(self._levels, tensor.packed.num_bytes)
            scales = self._scales(tensor.columns, tensor.bits)
            yield from self._cycle(scales, tensor.scales.num_bytes)
        elif isinstance(tensor, RotaryTable):
            yield from _rotary_pieces(self._candidate, tensor)
        elif tensor.role == "matrix":
            inputs = tensor.dims[0] if tensor.transposed else tensor.dims[1]
            values = self._floats(inputs, tensor.data_type)
            yield from self._cycle(values, tensor.initializers[0].num_bytes)
        else:
            value = 1.0 if tensor.role == "gain" else 0.0
            yield _bytes(torch.full(tensor.dims, value, dtype=_TORCH_TYPES[tensor.data_type]))

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

    def _scales(self, inputs: int, bits: int) -> memoryview:
        key = ("scales", inputs, bits)
        if key not in self._cached:
            # Levels -h to h - 1, equally likely, have a mean square of (2 h**2 + 1) / 6.
            spread = math.sqrt((2 * 4 ** (bits - 1) + 1) / 6)
            values = (self._uniform + np.float32(0.5)) / np.float32(spread * math.sqrt(inputs))
            self._cached[key] = _array_bytes(values)
        return self._cached[key]

    def _floats(self, inputs: int, data_type: int) -> memoryview:
        key = ("floats", inputs, data_type)
        if key not in self._cached:
            values = self._normal / np.float32(math.sqrt(inputs))
            if data_type == TensorProto.FLOAT16:
                self._cached[key] = _array_bytes(values.astype(np.float16))
            else:
                self._cached[key] = _array_bytes(values)
        return self._cached[key]


def _rotary_pieces(candidate: Candidate, table: RotaryTable) -> Iterator[memoryview]:
    """Rows of the table, angles in float32 as the torch model computes them."""
    frequencies = torch.tensor(rope_inverse_frequencies(candidate), dtype=torch.float32)
    rows = max(1, PIECE_ELEMENTS // table.pairs)
    for start in range(0, table.positions, rows):
        positions = torch.arange(start, min(start + rows, table.positions), dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        yield _bytes(angles.cos() if table.function == "cos" else angles.sin())


def _bytes(tensor: Tensor) -> memoryview:
    return _array_bytes(tensor.numpy())


def _array_bytes(values: np.ndarray[Any, Any]) -> memoryview:
    return values.data.cast("B")


def _check(candidate: Candidate, weights: Mapping[str, Tensor]) -> None:
    expected = {
        name: tuple(parameter.shape)
        for name, parameter in Decoder(candidate, device="meta").state_dict().items()
    }
    problems = [f"{name} is missing" for name in expected if name not in weights]
    for name, weight in weights.items():
        if name == "lm_head.weight" and candidate.tie_word_embeddings:
            table = weights.get("model.embed_tokens.weight")
            if table is not None and not torch.equal(table, weight):
                problems.append("lm_head.weight differs from the table it is tied to")
        elif name not in expected:
            problems.append(f"{name} has no place in this candidate")
        elif tuple(weight.shape) != expected[name]:
            problems.append(f"{name} must be {expected[name]}, got {tuple(weight.shape)}")
    if problems:
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        listed = "".join(f"\n  - {problem}" for problem in problems[:8])
        raise ExportError(f"The weights do not fit the candidate:{listed}{more}")
