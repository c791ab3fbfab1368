"""What goes to the phone for one model, and what the runner is asked to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import onnx

from phonesearch.errors import PhoneFileError
from phonesearch.onnx_export.recipe import RecipeModel
from phonesearch.timing.exchange import Stretch

MEMORY_FACTOR: Final = 1.5
"""Memory that a model takes, over the bytes of its weights: they are packed anew for the kernels
while the file's pages are still there."""
_ELEMENT_BYTES: Final = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneModel:
    """A graph and where its weights come from: a recipe, a file beside it, or the graph itself."""

    graph: Path
    recipe: Path | None = None
    parts: tuple[Path, ...] = ()
    """Files that the recipe names, each named by its sha256."""
    data: Path | None = None
    """Weights that are pushed, `model.onnx.data`."""
    data_bytes: int = 0
    """Of the weights, once the recipe has written them."""

    @classmethod
    def of_recipe(cls, model: RecipeModel) -> Self:
        """A candidate whose weights the phone writes itself."""
        return cls(
            graph=model.path,
            recipe=model.recipe_path,
            parts=model.parts,
            data_bytes=model.data_bytes,
        )

    @property
    def weight_bytes(self) -> int:
        """Of the weights, wherever they come from; with the graph where they lie in it."""
        if self.recipe is not None:
            return self.data_bytes
        return sum(path.stat().st_size for path in (self.graph, self.data) if path is not None)

    def memory_bytes(self, capacity: int) -> int:
        """That it takes while it runs, about.

        Args:
            capacity: Positions in the cache.

        Raises:
            PhoneFileError: If the graph cannot be read.
        """
        return round(MEMORY_FACTOR * self.weight_bytes) + cache_bytes(self.graph, capacity)


def cache_bytes(graph: Path, capacity: int) -> int:
    """Of the key/value cache of a graph.

    Raises:
        PhoneFileError: If the graph cannot be read.
    """
    try:
        model = onnx.load(graph, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors have no common base
        raise PhoneFileError(f"{graph} cannot be read as an ONNX model: {error}") from error
    total = 0
    for value in model.graph.input:
        if value.name.startswith("past_key_values."):
            kind = value.type.tensor_type
            heads, width = (kind.shape.dim[place].dim_value for place in (1, 3))
            total += heads * capacity * width * _ELEMENT_BYTES.get(kind.elem_type, 4)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One process of the runner."""

    stretches: tuple[Stretch, ...]
    num_threads: int
    cpus: tuple[int, ...]
    """Cores that it may use; it ends if it is not granted all of them."""
    warmup_rounds: int = 0
    rounds: int = 1
    is_plain: bool = False
    """Without KleidiAI's kernels, whose rounding the host's do not share."""
    max_seconds: int = 600
    """After which the runner ends itself."""

    @property
    def capacity(self) -> int:
        """Positions in the cache."""
        return max(stretch.longest for stretch in self.stretches)

    def words(self, *, library: str, model: str, dump: str | None = None) -> Sequence[str]:
        """The runner's arguments.

        Args:
            library: Path on the phone.
            model: Path on the phone.
            dump: Where the last output goes, on the phone.
        """
        words = [
            *("--lib", library, "--model", model, "--threads", str(self.num_threads)),
            *("--cpus", ",".join(str(cpu) for cpu in self.cpus)),
            *("--capacity", str(self.capacity), "--warmup-rounds", str(self.warmup_rounds)),
            *("--rounds", str(self.rounds), "--max-seconds", str(self.max_seconds)),
        ]
        for one in self.stretches:
            text = (
                f"{one.new_tokens}:{one.past_tokens}:{one.steps}:{one.repeats}:{one.settling_steps}"
            )
            words += ["--stretch", text]
        if self.is_plain:
            words += ["--config", "mlas.disable_kleidiai", "1"]
        if dump is not None:
            words += ["--dump", dump]
        return words
