"""Writes a `model.gguf`, one tensor at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from phonesearch.candidate.config import (
    Candidate,
    candidate_id,
    rope_inverse_frequencies,
)
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder, fresh_weights
from phonesearch.trainer_export.gguf_names import (
    ROPE_FACTORS,
    Architecture,
    architecture_for,
    metadata,
    tensor_name,
)
from phonesearch.trainer_export.gguf_vocabulary import read_vocabulary
from phonesearch.trainer_export.request import ExportRequest

if TYPE_CHECKING:
    from phonesearch.trainer_export.gguf import WeightType

_FILE_TYPES: Final[Mapping[str, gguf.LlamaFileType]] = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """One parameter and the form it is stored in."""

    name: str
    """By llama.cpp's name."""
    source: str
    """By the name of `Decoder`."""
    shape: tuple[int, ...]
    stored_as: gguf.GGMLQuantizationType

    @property
    def num_bytes(self) -> int:
        """Bytes in the file, without the padding behind them."""
        block, size = gguf.GGML_QUANT_SIZES[self.stored_as]
        return math.prod(self.shape) // block * size


def plan(candidate: Candidate, weight_type: WeightType) -> tuple[PlannedTensor, ...]:
    """Every parameter of the candidate, once, in the order of `Decoder`'s."""
    matrices = gguf.GGMLQuantizationType[weight_type]
    return tuple(
        PlannedTensor(
            name=tensor_name(name),
            source=name,
            shape=tuple(parameter.shape),
            stored_as=matrices if parameter.dim() > 1 else gguf.GGMLQuantizationType.F32,
        )
        for name, parameter in Decoder(candidate, device="meta").named_parameters()
    )


class GgufFile:
    """The content of one file, decided on before it is written."""

    def __init__(self, request: ExportRequest, weight_type: WeightType) -> None:
        self._request = request
        self._weight_type = weight_type
        self._architecture = architecture_for(request.candidate)
        self._tensors = plan(request.candidate, weight_type)
        self.num_bytes = sum(tensor.num_bytes for tensor in self._tensors)
        """Of all tensors; the header adds some kilobytes, and a vocabulary some megabytes."""

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            ExportError: If a weight is not finite.
            OSError: If the file cannot be written.
        """
        writer = gguf.GGUFWriter(path, self._architecture.name)
        factors = _rope_factors(self._request.candidate)
        self._add_metadata(writer)
        if factors is not None:
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for tensor in self._tensors:
            # float32 says only that the shape counts weights and not bytes.
            dtype = np.dtype(np.float32)
            writer.add_tensor_info(
                tensor.name, tensor.shape, dtype, tensor.num_bytes, raw_dtype=tensor.stored_as
            )
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            if factors is not None:
                writer.write_tensor_data(factors)
            written = 0
            for tensor, values in zip(self._tensors, self._values(), strict=True):
                writer.write_tensor_data(gguf.quantize(values, tensor.stored_as))
                written += tensor.num_bytes
                if self._request.progress is not None:
                    self._request.progress(written, self.num_bytes)
        finally:
            writer.close()

    def _add_metadata(self, writer: gguf.GGUFWriter) -> None:
        candidate = self._request.candidate
        writer.add_name(candidate_id(candidate))
        writer.add_file_type(_FILE_TYPES[self._weight_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in metadata(candidate, self._architecture).items():
            _add(writer, key, value)
        if self._request.tokenizer is None:
            writer.add_tokenizer_model("none")
            return
        vocabulary = read_vocabulary(self._request.tokenizer, candidate.vocab_size)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(vocabulary.pre)
        writer.add_token_list(vocabulary.tokens)
        writer.add_token_types(vocabulary.kinds)
        writer.add_token_merges(vocabulary.merges)
        special = vocabulary.special_tokens
        for index, add in (
            (special.bos, writer.add_bos_token_id),
            (special.eos, writer.add_eos_token_id),
            (special.pad, writer.add_pad_token_id),
        ):
            if index is not None:
                add(index)
        writer.add_add_bos_token(vocabulary.add_bos)
        writer.add_add_eos_token(vocabulary.add_eos)

    def _values(self) -> Iterator[NDArray[np.float32]]:
        """Values of the planned tensors, in their order, as llama.cpp wants their rows."""
        given = self._request.weights
        drawn = fresh_weights(self._request.candidate, self._request.seed)
        named = drawn if given is None else ((t.source, given[t.source]) for t in self._tensors)
        for name, weight in named:
            values = weight.detach().to(device="cpu", dtype=torch.float32)
            if not math.isfinite(float(values.amax()) - float(values.amin())):
                raise ExportError(
                    f"{name} cannot be exported: every weight must be finite, got an infinity or "
                    "NaN."
                )
            rows = _in_order(name, values.numpy(), self._request.candidate, self._architecture)
            yield np.ascontiguousarray(rows)


def _in_order(
    name: str,
    values: NDArray[np.float32],
    candidate: Candidate,
    architecture: Architecture,
) -> NDArray[np.float32]:
    """Rows in the order in which the architecture's rotation pairs them."""
    turned = name.rpartition(".")[0].endswith(("q_proj", "k_proj"))
    if not (turned and architecture.pairs_neighbours):
        return values
    halves = values.reshape(-1, 2, candidate.head_dim // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _rope_factors(candidate: Candidate) -> NDArray[np.float32] | None:
    if candidate.rope_scaling is None:
        return None
    plain = rope_inverse_frequencies(replace(candidate, rope_scaling=None))
    stretched = rope_inverse_frequencies(candidate)
    return np.asarray(np.array(plain) / np.array(stretched), dtype=np.float32)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)
