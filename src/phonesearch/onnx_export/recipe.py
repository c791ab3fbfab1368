"""A random export as a recipe: what a phone needs to write the weights itself.

The weights of a 1.5B candidate are 0.9 GB, of which nothing but the graph differs in kind from one
candidate to the next. So only `model.onnx` and a text of some kilobytes cross the cable for each;
the pools of random numbers that weights are cut from (`contents.RandomContents`) cross it once.

A recipe has a line for each stretch of the data file, in order. Numbers are decimal; floats are
the eight hexadecimal digits of a float32's bits; PART is the name of a file, its sha256:

    zero LENGTH                            LENGTH zero bytes
    fill FLOAT COUNT                       a float32, COUNT times
    file PART                              a whole part
    cycle PART START LENGTH                LENGTH bytes of a part from START on, round and round
    scale PART START COUNT ADDED DIVISOR   COUNT float32 of a part from the float START on, round
                                           and round, each (value + ADDED) / DIVISOR in float32

The phone's interpreter is `phone/runner/weights.h`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from phonesearch.candidate.config import Candidate, rope_inverse_frequencies
from phonesearch.errors import ExportError
from phonesearch.files import write_bytes
from phonesearch.onnx_export.contents import (
    SCALES_ADDED,
    Cycle,
    Drawn,
    Pool,
    RandomPlan,
    Step,
    array_bytes,
    rotary_pieces,
)
from phonesearch.onnx_export.deployment import require_runnable
from phonesearch.onnx_export.graph import build_structure, stored_tensors
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import RotaryTable
from phonesearch.onnx_export.write import GRAPH_FILE, lay_out, point_at

RECIPE_FILE: Final = "model.recipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeModel:
    """A graph on disk, with all that is needed to write its weights elsewhere."""

    path: Path
    """The graph, `model.onnx`; refers to weights in `model.onnx.data` beside it."""
    recipe_path: Path
    """How to write them, `model.recipe`."""
    parts: tuple[Path, ...]
    """Files that the recipe names, each named by its sha256; shared between candidates."""
    data_bytes: int
    """Of the weights, once written."""
    sha256: str
    """Of the graph file, in hexadecimal."""


class Parts:
    """A folder of parts, each written once, and what is known of those already there.

    Keep one for a whole search: pools are drawn once for each seed and weight width.
    """

    def __init__(self, folder: Path) -> None:
        """Parts in `folder`, which is made if it does not exist."""
        self._folder = folder
        self._names: dict[tuple[object, ...], str] = {}

    def levels(self, *, bits: int, seed: int) -> Path:
        """Packed random levels."""
        pool = Pool("levels", bits, 0)
        return self._part(("levels", bits, seed), lambda: [Drawn(seed).pool(pool)])

    def uniform(self, *, seed: int) -> Path:
        """Random float32 from 0 to 1."""
        return self._part(("uniform", seed), lambda: [array_bytes(Drawn(seed).uniform)])

    def rotary(self, candidate: Candidate, table: RotaryTable) -> Path:
        """A rotary table."""
        key = (table.function, table.positions, rope_inverse_frequencies(candidate))
        return self._part(key, lambda: rotary_pieces(candidate, table))

    def _part(self, key: tuple[object, ...], pieces: Callable[[], Iterable[memoryview]]) -> Path:
        name = self._names.get(key)
        if name is None or not (self._folder / name).is_file():
            content = b"".join(pieces())
            name = hashlib.sha256(content).hexdigest()
            if not (self._folder / name).is_file():
                self._folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self._folder / name, content)
            self._names[key] = name
        return self._folder / name


def write_recipe(
    candidate: Candidate, folder: Path, settings: GraphSettings, *, parts: Parts, seed: int = 0
) -> RecipeModel:
    """Write the candidate's graph and the recipe of its weights into `folder`.

    The graph is the one that `export` writes with random weights of this seed, and the weights
    that the recipe makes are its weights, byte for byte.

    Args:
        candidate: Architecture.
        folder: Made if it does not exist.
        settings: Of the deployment form.
        parts: What the recipe refers to, added to where something is missing.
        seed: Of the random values.

    Raises:
        ExportError: If the form is another one, no runtime would run the graph, or a file cannot
            be written.
    """
    if settings.form != "deployment":
        raise ExportError(f"A recipe is for the deployment form, got {settings.form!r}.")
    require_runnable(candidate)
    model = build_structure(candidate, settings)
    tensors = stored_tensors(candidate, settings)
    regions = lay_out(tensors)
    point_at(model, regions)
    graph = model.SerializeToString()
    used: dict[Path, None] = {}
    plan = RandomPlan()
    lines = []
    written = 0
    upcoming = iter(regions)
    try:
        for tensor in tensors:
            for step in plan.steps(tensor):
                region = next(upcoming)
                if region.offset > written:
                    lines.append(f"zero {region.offset - written}")
                part, line = _line(step, candidate, parts, seed)
                lines.append(line)
                if part is not None:
                    used[part] = None
                written = region.offset + region.num_bytes
        write_bytes(folder / RECIPE_FILE, "".join(f"{line}\n" for line in lines).encode("ascii"))
        write_bytes(folder / GRAPH_FILE, graph)
    except OSError as error:
        raise ExportError(
            f"The recipe for {folder} could not be written: {error.strerror}. Free space or "
            "choose another folder."
        ) from error
    return RecipeModel(
        path=folder / GRAPH_FILE,
        recipe_path=folder / RECIPE_FILE,
        parts=tuple(used),
        data_bytes=written,
        sha256=hashlib.sha256(graph).hexdigest(),
    )


def _line(step: Step, candidate: Candidate, parts: Parts, seed: int) -> tuple[Path | None, str]:
    """The part that a step needs, and its line."""
    if isinstance(step, RotaryTable):
        part = parts.rotary(candidate, step)
        return part, f"file {part.name}"
    if not isinstance(step, Cycle):
        return None, f"fill {_bits(step.value)} {step.count}"
    if step.pool.kind == "levels":
        part = parts.levels(bits=step.pool.bits, seed=seed)
        return part, f"cycle {part.name} {step.start} {step.num_bytes}"
    assert step.pool.kind == "scales", "the deployment form has no other pools"
    part = parts.uniform(seed=seed)
    numbers = f"{step.start // 4} {step.num_bytes // 4}"
    return part, f"scale {part.name} {numbers} {_bits(SCALES_ADDED)} {_bits(step.pool.divisor)}"


def _bits(value: Any) -> str:
    return f"{int(np.float32(value).view(np.uint32)):08x}"
