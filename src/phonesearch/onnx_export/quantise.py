"""Block-wise symmetric quantisation, in the layout that ONNX Runtime's kernels read.

Both `MatMulNBits` and `GatherBlockQuantized` take a weight as `(q - 2**(bits - 1)) * scale` where
no zero points are given, so one packed table serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.onnx_export.graph import stored_tensors
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import QuantisedMatrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """A matrix of `rows` x `columns` in blocks along its columns."""

    packed: Tensor
    """uint8, shape (rows, blocks, block_size * bits / 8); of two 4-bit values in a byte the
    first is the low half. The last block of a row is padded with the value of zero."""
    scales: Tensor
    """float32, shape (rows, blocks); may be negative."""
    columns: int
    """Inputs, without the padding."""
    bits: int


def quantise(weight: Tensor, *, bits: int, block_size: int) -> Quantised:
    """`weight` rounded to `bits` a value with one scale a block.

    The value of largest magnitude of a block, with its sign, becomes the lowest level,
    -2**(bits - 1), exactly: all levels are used, at the price that an equally large value of
    the other sign is cut off by one level. No value is off by more than one scale; none but
    that extreme by more than half.

    Args:
        weight: Shape (rows, columns), any float type.
        bits: 4 or 8.
        block_size: Columns that share a scale; even.

    Raises:
        ExportError: If a weight is not finite.

    Source: the rule of llama.cpp's `Q4_0` and of ONNX Runtime's own symmetric quantiser.
    """
    rows, columns = weight.shape
    blocks = -(-columns // block_size)
    values = weight.detach().to(device="cpu", dtype=torch.float32)
    if blocks * block_size != columns:
        values = torch.nn.functional.pad(values, (0, blocks * block_size - columns))
    values = values.reshape(rows, blocks, block_size)
    low, high = values.amin(dim=2), values.amax(dim=2)
    extreme = torch.where(high > -low, high, low)
    half = 2 ** (bits - 1)
    scales = extreme / -half
    if not bool(torch.isfinite(scales).all()):
        raise ExportError(
            "The weights cannot be quantised: all must be finite, got an infinity or NaN. "
            "Export a checkpoint from before the training diverged."
        )
    # Blocks that are zero, or so small that 1 / scale overflows, become zero.
    usable = scales.abs() > torch.finfo(torch.float32).tiny * 4
    scales = torch.where(usable, scales, 0.0)
    inverse = torch.where(usable, 1.0 / torch.where(usable, scales, 1.0), 0.0)
    # Half is added so that cutting off the fraction rounds to the nearest level.
    levels = torch.mul(values, inverse.unsqueeze(2)).add_(half + 0.5).clamp_(0, 2 * half - 1)
    packed = levels.to(torch.uint8)
    if bits == 4:
        # Pairs of bytes (first, second) as first + 256 * second; all at once, not by halves.
        pairs = packed.view(torch.int16)
        packed = pairs.bitwise_or(pairs >> 4).to(torch.uint8)
    return Quantised(packed=packed, scales=scales, columns=columns, bits=bits)


def dequantise(quantised: Quantised) -> Tensor:
    """The float32 matrix, shape (rows, columns), that the quantised one stands for."""
    packed = quantised.packed
    rows, blocks, _ = packed.shape
    if quantised.bits == 4:
        packed = torch.stack((packed & 15, packed >> 4), dim=3).reshape(rows, blocks, -1)
    levels = packed.to(torch.float32) - 2 ** (quantised.bits - 1)
    values: Tensor = levels * quantised.scales.unsqueeze(2)
    return values.reshape(rows, -1)[:, : quantised.columns]


def as_deployed(
    candidate: Candidate, settings: GraphSettings, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights that a deployment graph computes with: matrices rounded, the rest as it is.

    Load these into torch to see what quantisation alone costs, or to compare runtimes.

    Args:
        candidate: Architecture of the weights.
        settings: Of the deployment form.
        weights: By Hugging Face name.

    Returns:
        As many tensors, float32, by the same names.
    """
    deployed = {name: weight.detach().float() for name, weight in weights.items()}
    for tensor in stored_tensors(candidate, settings):
        if isinstance(tensor, QuantisedMatrix):
            for source in tensor.sources:
                rounded = quantise(weights[source], bits=tensor.bits, block_size=tensor.block_size)
                deployed[source] = dequantise(rounded)
    return deployed
