"""What the stored tensors of a graph are: their shape, and which weights they are made from.

A graph part declares these beside its nodes (`fragment.py`); the structure needs only names and
shapes, the export (`write.py`) also fills them with bytes. Nothing here holds a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx import TensorProto

BYTES_PER_ELEMENT: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.UINT8: 1,
}

WeightRole = Literal["matrix", "gain", "bias"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One initializer of the graph, its bytes in the data file."""

    name: str
    dims: tuple[int, ...]
    data_type: int
    """`onnx.TensorProto` element type."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor, without alignment."""
        count = BYTES_PER_ELEMENT[self.data_type]
        for dim in self.dims:
            count *= dim
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMatrix:
    """A weight matrix of `rows` outputs and `columns` inputs, quantised block by block.

    `packed` is in the layout of `MatMulNBits`: (rows, blocks, block bytes), blocks along the
    inputs, the last one padded. `GatherBlockQuantized` reads the same bytes as (rows, row
    bytes): where `gathered_as` is set, a second initializer of that name and shape points at
    the same place of the data file, so that a tied table is stored, and mapped, once. (The
    alternative, a `Reshape` of the table, is folded by ONNX Runtime at load into a copy.)
    """

    name: str
    rows: int
    columns: int
    bits: int
    block_size: int
    sources: tuple[str, ...]
    """Hugging Face names of the matrices stacked along the rows, in order."""
    gathered: bool = False
    """Whether `GatherBlockQuantized` reads it."""
    multiplied: bool = True
    """Whether `MatMulNBits` reads it."""

    @property
    def blocks(self) -> int:
        """Scales of one row."""
        return -(-self.columns // self.block_size)

    @property
    def packed(self) -> Stored:
        """The quantised weights, as `MatMulNBits` wants them."""
        dims = (self.rows, self.blocks, self.block_size * self.bits // 8)
        return Stored(name=f"{self.name}.packed", dims=dims, data_type=TensorProto.UINT8)

    @property
    def packed_rows(self) -> Stored:
        """The same bytes, as `GatherBlockQuantized` wants them."""
        dims = (self.rows, self.blocks * self.block_size * self.bits // 8)
        return Stored(name=f"{self.name}.packed_rows", dims=dims, data_type=TensorProto.UINT8)

    @property
    def scales(self) -> Stored:
        """One float32 a block."""
        dims = (self.rows, self.blocks)
        return Stored(name=f"{self.name}.scales", dims=dims, data_type=TensorProto.FLOAT)

    @property
    def initializers(self) -> tuple[Stored, ...]:
        """Every initializer of the graph that stands for this matrix."""
        weights = (self.packed,) if self.multiplied else ()
        rows = (self.packed_rows,) if self.gathered else ()
        return (*weights, *rows, self.scales)

    @property
    def regions(self) -> tuple[tuple[Stored, ...], ...]:
        """Stretches of the data file, in order, each with the initializers that read it."""
        weights = (self.packed,) if self.multiplied else ()
        rows = (self.packed_rows,) if self.gathered else ()
        return ((*weights, *rows), (self.scales,))


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTensor:
    """A gain, a bias or an unquantised matrix."""

    name: str
    dims: tuple[int, ...]
    """As stored."""
    data_type: int
    sources: tuple[str, ...]
    """Hugging Face names of the tensors joined along their first dimension, in order."""
    transposed: bool = False
    """Whether a matrix is stored as (inputs, outputs), the transpose of PyTorch's."""
    role: WeightRole = "matrix"
    """What it is for; decides the random values of a timing export."""

    @property
    def initializers(self) -> tuple[Stored, ...]:
        """The one initializer."""
        return (Stored(name=self.name, dims=self.dims, data_type=self.data_type),)

    @property
    def regions(self) -> tuple[tuple[Stored, ...], ...]:
        """The one stretch of the data file."""
        return (self.initializers,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryTable:
    """Cosines or sines of all positions, float32, shape (positions, head_dim / 2)."""

    name: str
    positions: int
    pairs: int
    function: Literal["cos", "sin"]

    @property
    def initializers(self) -> tuple[Stored, ...]:
        """The one initializer."""
        dims = (self.positions, self.pairs)
        return (Stored(name=self.name, dims=dims, data_type=TensorProto.FLOAT),)

    @property
    def regions(self) -> tuple[tuple[Stored, ...], ...]:
        """The one stretch of the data file."""
        return (self.initializers,)


Tensor = QuantisedMatrix | FloatTensor | RotaryTable
