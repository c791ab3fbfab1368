"""Bytes of stored tensors from trained weights; the only part of an export that needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from onnx import TensorProto
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.contents import PIECE_ELEMENTS, array_bytes, rotary_pieces
from phonesearch.onnx_export.quantise import quantise
from phonesearch.onnx_export.tensors import FloatTensor, QuantisedMatrix, RotaryTable
from phonesearch.onnx_export.tensors import Tensor as StoredTensor

_TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
}


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
            yield from rotary_pieces(self._candidate, tensor)
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch convert on one core.

    Pieces are too small to share out: with two threads on two cores that were busy otherwise,
    an export took ten times as long as with one, waiting at every step.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _bytes(tensor: Tensor) -> memoryview:
    return array_bytes(tensor.numpy())


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
