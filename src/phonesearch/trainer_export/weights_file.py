"""Writes a `model.safetensors`: a length, a JSON header, then the tensors' bytes.

Source: format description of huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from phonesearch.errors import TrainerExportError

_TYPES: Final = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
}
_ALIGNMENT: Final = 8


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `tensors` in their own types, in the order of their names.

    Args:
        path: File to write.
        tensors: By name; made contiguous on the CPU one at a time.
        progress: Called with bytes written and bytes in all, after every tensor.

    Raises:
        TrainerExportError: If a tensor is not of a floating-point type that the format has.
        OSError: If the file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype not in _TYPES:
            raise TrainerExportError(f"`{name}` must be floating-point, got {tensor.dtype}.")
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        written = 0
        for name in sorted(tensors):
            flat = tensors[name].detach().cpu().contiguous().flatten()
            stream.write(flat.view(torch.uint8).numpy().data)
            written += flat.numel() * flat.element_size()
            if progress is not None:
                progress(written, end)
