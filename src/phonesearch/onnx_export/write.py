"""Writes a candidate's graph with its weights: `model.onnx` and `model.onnx.data`.

Bound by writing bytes: the graph takes a millisecond, weights are streamed to one file. Files
appear under their names only when whole, the graph last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import onnx

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.onnx_export.contents import Contents, RandomContents
from phonesearch.onnx_export.deployment import require_runnable
from phonesearch.onnx_export.fragment import DATA_FILE
from phonesearch.onnx_export.graph import OPSET, build_structure, stored_tensors
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import Tensor as StoredTensor
from phonesearch.units import KIB

if TYPE_CHECKING:
    from torch import Tensor

GRAPH_FILE: Final = "model.onnx"
PAGE_ALIGNMENT: Final = 4096
"""Offset multiple of tensors of at least `PAGE_ALIGNED_FROM` bytes, which runtimes map."""
PAGE_ALIGNED_FROM: Final = 64 * KIB
SMALL_ALIGNMENT: Final = 64
"""Offset multiple of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """An exported graph with its weights, on disk."""

    path: Path
    """The graph, `model.onnx`."""
    data_path: Path
    """Its weights, `model.onnx.data`, in the same folder; the graph refers to it by name."""
    candidate: Candidate
    settings: GraphSettings
    sha256: str
    """Of the graph file, in hexadecimal; the weights are not part of it."""
    num_bytes: int
    """Of both files."""
    opset: int
    """Version of the standard operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A stretch of the data file, and the initializers that read it."""

    names: tuple[str, ...]
    offset: int
    num_bytes: int


def export(
    candidate: Candidate,
    folder: Path,
    settings: GraphSettings,
    *,
    weights: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> OnnxModel:
    """Write the candidate's graph and weights into `folder`, replacing an earlier export.

    The graph has exactly the nodes of `build_structure`. A crash leaves at most a hidden
    temporary file, or weights without a graph, never a graph whose weights are not whole.

    Args:
        candidate: Architecture.
        folder: Made if it does not exist.
        settings: Form and weight width.
        weights: By Hugging Face name, from a trained model; None writes random values that are
            good for timing only (`RandomContents`).
        seed: Of the random values; not used with `weights`.
        progress: Called with bytes written and bytes in all, after every piece.

    Raises:
        ExportError: If no runtime would run the graph, the weights do not fit the candidate or
            are not finite, or the files cannot be written; free space is checked before the
            first byte.
    """
    if settings.form == "deployment":
        require_runnable(candidate)
    contents: Contents
    converting: AbstractContextManager[None] = nullcontext()
    if weights is None:
        contents = RandomContents(candidate, seed=seed)
    else:  # torch takes seconds to import, so an export for timing goes without
        from phonesearch.onnx_export.trained import TrainedContents, one_thread

        contents = TrainedContents(candidate, weights)
        converting = one_thread()
    model = build_structure(candidate, settings)
    tensors = stored_tensors(candidate, settings)
    regions = lay_out(tensors)
    point_at(model, regions)
    graph = model.SerializeToString()
    end = regions[-1].offset + regions[-1].num_bytes
    path, data_path = folder / GRAPH_FILE, folder / DATA_FILE
    needed = end + len(graph)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise ExportError(
                f"The export to {folder} needs {needed:,} bytes, but only {free:,} are free "
                "there. Free space or choose another folder; nothing was written."
            )
        with _temporary(data_path) as stream, converting:
            _write_regions(stream, tensors, regions, contents, progress)
            # A graph must never stand beside weights that are not its own.
            path.unlink(missing_ok=True)
        with _temporary(path) as stream:
            _write(stream, memoryview(graph))
    except OSError as error:
        raise ExportError(
            f"The export to {folder} failed ({needed:,} bytes were to be written): "
            f"{error.strerror}. Free space or choose another folder, and export again."
        ) from error
    return OnnxModel(
        path=path,
        data_path=data_path,
        candidate=candidate,
        settings=settings,
        sha256=hashlib.sha256(graph).hexdigest(),
        num_bytes=needed,
        opset=OPSET,
    )


def lay_out(tensors: list[StoredTensor]) -> list[Region]:
    """Where each tensor's bytes go, in order."""
    regions = []
    position = 0
    for tensor in tensors:
        for shared in tensor.regions:
            num_bytes = shared[0].num_bytes
            page = num_bytes >= PAGE_ALIGNED_FROM
            alignment = PAGE_ALIGNMENT if page else SMALL_ALIGNMENT
            position = -(-position // alignment) * alignment
            names = tuple(stored.name for stored in shared)
            regions.append(Region(names=names, offset=position, num_bytes=num_bytes))
            position += num_bytes
    return regions


def point_at(model: onnx.ModelProto, regions: list[Region]) -> None:
    """Write offset and length of every region into the initializers that read it."""
    places = {name: region for region in regions for name in region.names}
    for initializer in model.graph.initializer:
        region = places.get(initializer.name)
        if region is not None:
            for key, value in (("offset", region.offset), ("length", region.num_bytes)):
                entry = initializer.external_data.add()
                entry.key, entry.value = key, str(value)


def _write_regions(
    stream: BinaryIO,
    tensors: list[StoredTensor],
    regions: list[Region],
    contents: Contents,
    progress: Callable[[int, int], None] | None,
) -> None:
    total = regions[-1].offset + regions[-1].num_bytes
    written = 0
    upcoming = iter(regions)
    for tensor in tensors:
        pieces = contents.pieces(tensor)
        for _ in tensor.regions:
            region = next(upcoming)
            _write(stream, memoryview(bytes(region.offset - written)))
            written = region.offset
            end = region.offset + region.num_bytes
            while written < end:
                piece = next(pieces)
                _write(stream, piece)
                written += len(piece)
                if progress is not None:
                    progress(written, total)
            assert written == end, f"{region.names[0]} has {written - end} bytes too many"


def _write(stream: BinaryIO, piece: memoryview) -> None:
    """Write all of `piece`; an unbuffered file may take less in one call."""
    while len(piece):
        piece = piece[stream.write(piece) :]


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """An unbuffered file that becomes `path` once it is whole and on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as stream:
            yield stream
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
