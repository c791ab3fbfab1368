"""Reads the weights that a trainer left: a Hugging Face folder of config and tensors.

Source of the file's layout: format description of huggingface/safetensors (README, "Format");
of the files' names: `transformers/utils/__init__.py` of transformers 5.23.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.huggingface import read_candidate
from phonesearch.errors import TrainerExportError
from phonesearch.files import read_mapping

if TYPE_CHECKING:
    from torch import Tensor

INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Files that name, for every tensor, the file it is in."""
WHOLE: Final = ("model.safetensors", "pytorch_model.bin")
"""Files that hold all tensors."""
_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of one number, by the name that the header has for its type."""
_LENGTH_BYTES: Final = 8


def read_checkpoint(folder: Path, candidate: Candidate) -> dict[str, Tensor]:
    """The tensors of a trained checkpoint by Hugging Face name, in their own types.

    They are views of the files, which are mapped and not read: memory is needed only for what
    is looked at.

    Args:
        folder: Holds a `config.json` and `model.safetensors`, or several and an index, or the
            `pytorch_model.bin` of older trainers.
        candidate: The architecture that `config.json` must describe.

    Raises:
        TrainerExportError: If the config is of another architecture, naming the fields; if there
            are no weights, or a file is damaged.
        InvalidFileError: If `config.json` or the index cannot be read.
        UnsupportedConfigError: If the config is not of a type that a candidate can be.
    """
    if not (folder / "config.json").is_file():
        raise TrainerExportError(
            f"There is no checkpoint at {folder}: a folder with a config.json and "
            f"{WHOLE[0]} is needed, as `save_pretrained` of transformers writes it."
        )
    _require_same(candidate, read_candidate(folder), folder)
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        try:
            read = _read_safetensors if file.suffix == ".safetensors" else _read_pickle
            tensors |= read(file)
        except OSError as error:
            raise TrainerExportError(f"{file} cannot be read: {error.strerror}.") from error
    return tensors


def _require_same(wanted: Candidate, found: Candidate, folder: Path) -> None:
    different = [
        f"`{field.name}` {getattr(found, field.name)}, not {getattr(wanted, field.name)}"
        for field in fields(Candidate)
        if getattr(found, field.name) != getattr(wanted, field.name)
    ]
    if different:
        raise TrainerExportError(
            f"The checkpoint in {folder} is not of this candidate: its config.json has "
            f"{'; '.join(different)}. Name the trial that was trained, or its own checkpoint."
        )


def _files(folder: Path) -> Iterable[Path]:
    """The files that hold tensors; safetensors where there are both kinds."""
    for index, whole in zip(INDEXES, WHOLE, strict=True):
        if (folder / index).is_file():
            named = set(read_mapping(folder / index).get("weight_map", {}).values())
            missing = sorted(name for name in named if not (folder / name).is_file())
            if missing or not named:
                raise TrainerExportError(
                    f"{folder / index} names {', '.join(missing) or 'no files'}, which "
                    f"{'is' if len(missing) == 1 else 'are'} not there. Copy the whole checkpoint."
                )
            return [folder / name for name in sorted(named)]
        if (folder / whole).is_file():
            return [folder / whole]
    raise TrainerExportError(
        f"There are no weights in {folder}: {' or '.join(WHOLE)} is needed, or one of their "
        "indexes with all files that it names."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import numpy as np
    import torch

    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        text = stream.read(length) if length <= size else b""
    start = _LENGTH_BYTES + length
    try:
        header: dict[str, Any] = json.loads(text)
        header.pop("__metadata__", None)
        stated = {name: _stated(entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, "its header is not that of a safetensors file") from error
    if start + max((end for _, _, end, _ in stated.values()), default=0) > size:
        raise _damaged(path, f"it ends at {size:,} bytes, before its last tensor")
    types = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
    }
    # Copy on write: torch has no read-only tensors, and no file must change by accident.
    content = np.memmap(path, dtype=np.uint8, mode="c") if stated else np.empty(0, np.uint8)
    tensors = {}
    for name, (kind, begin, end, shape) in stated.items():
        if kind not in _SIZES:
            raise TrainerExportError(
                f"{path}: `{name}` is of type {kind}, but trained weights must be floating-point "
                f"({', '.join(_SIZES)}). Give the checkpoint before it was quantised."
            )
        if end - begin != math.prod(shape) * _SIZES[kind]:
            raise _damaged(path, f"`{name}` has {end - begin:,} bytes for a shape of {shape}")
        flat = torch.from_numpy(np.asarray(content[start + begin : start + end]))
        tensors[name] = flat.view(types[kind]).reshape(shape)
    return tensors


def _stated(entry: Any) -> tuple[str, int, int, tuple[int, ...]]:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    return str(entry["dtype"]), begin, end, tuple(int(length) for length in entry["shape"])


def _damaged(path: Path, what: str) -> TrainerExportError:
    return TrainerExportError(f"{path} is damaged: {what}. Copy it again.")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of `torch.save`; anything but tensors in it is refused, not run."""
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise _damaged(path, "torch finds no plain tensors in it") from error
    if not isinstance(content, dict) or not all(torch.is_tensor(t) for t in content.values()):
        raise _damaged(path, "it must hold tensors by name and nothing else")
    return content
