"""What a calibration runs: operators alone over a grid of shapes, and small decoders.

Operators alone tell what each costs; decoders tell what it costs among the others, where the
caches hold what ran before, as in the candidates that will be predicted.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.stats import qmc

from phonesearch import catalog, files
from phonesearch.candidate.config import Activation, Candidate, FfnType
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import SettingsError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.timing.exchange import Stretch
from phonesearch.timing.probe_graphs import BLOCK_SIZE, OperatorKind, operator_graph
from phonesearch.units import MIB

PROMPT_TOKENS: Final = 128
CONTEXTS: Final = (128, 1024)
"""Tokens in the cache at which decode steps are timed, about."""
STEPS: Final = 8
SETTLING_STEPS: Final = 12
NUM_DECODERS: Final = 48

_BYTES_A_WEIGHT: Final = 0.5 + 4 / BLOCK_SIZE
_LARGEST_BYTES: Final = 300.0 * MIB
_SMALLEST_BYTES: Final = 4 * MIB


class Probe(Protocol):
    """One graph, and the runs of it that are timed."""

    @property
    def name(self) -> str:
        """What it is called in the record."""
        ...

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The runs."""
        ...

    @property
    def weight(self) -> float:
        """How much it counts in a fit."""
        ...

    def structure(self) -> onnx.ModelProto:
        """The graph without the bytes of its matrices, for counting its work."""
        ...

    def write(self, folder: Path) -> Path:
        """Write it to run, and say where.

        Raises:
            ExportError: If there is no room.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorProbe:
    """One operator over and over."""

    kind: OperatorKind
    sizes: tuple[int, ...]
    """See `probe_graphs.operator_graph`."""
    copies: int
    stretches: tuple[Stretch, ...]
    weight: float = 0.01
    """Little: operators alone settle what decoders leave open, and their caches are warmer."""

    @property
    def name(self) -> str:
        """See `Probe`."""
        return f"{self.kind}-{'x'.join(map(str, self.sizes))}-{self.copies}"

    def structure(self) -> onnx.ModelProto:
        """See `Probe`."""
        return self._graph(with_weights=False)

    def write(self, folder: Path) -> Path:
        """See `Probe`."""
        path = folder / "probe.onnx"
        path.write_bytes(self._graph(with_weights=True).SerializeToString())
        return path

    def _graph(self, *, with_weights: bool) -> onnx.ModelProto:
        longest = max(stretch.longest for stretch in self.stretches)
        return operator_graph(
            self.kind, self.sizes, self.copies, longest=longest, with_weights=with_weights
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderProbe:
    """A whole candidate, exported as a search exports it."""

    candidate: Candidate
    stretches: tuple[Stretch, ...]
    weight: float = 1.0

    @property
    def name(self) -> str:
        """See `Probe`."""
        of = self.candidate
        return (
            f"decoder-{of.num_hidden_layers}x{of.hidden_size}"
            f"-{of.num_attention_heads}/{of.num_key_value_heads}x{of.head_dim}"
            f"-{of.ffn_type}-{of.hidden_act}-{of.intermediate_size}-{of.vocab_size}"
            f"{'-tied' * of.tie_word_embeddings}"
        )

    def structure(self) -> onnx.ModelProto:
        """See `Probe`."""
        return build_structure(self.candidate, GraphSettings())

    def write(self, folder: Path) -> Path:
        """See `Probe`."""
        return export(self.candidate, folder, GraphSettings()).path


def decode_stretch(context: int) -> Stretch:
    """Decode steps around a context, after the caches have settled."""
    return Stretch(
        new_tokens=1,
        past_tokens=max(context - STEPS // 2, 1),
        steps=STEPS,
        settling_steps=SETTLING_STEPS,
    )


def prompt_stretch(tokens: int) -> Stretch:
    """A prefill, twice over."""
    return Stretch(new_tokens=tokens, past_tokens=0, repeats=2)


def operator_probes(cache_bytes: float, *, largest: int | None = None) -> tuple[OperatorProbe, ...]:
    """Operators alone, over a grid of shapes.

    Args:
        cache_bytes: Size of the last cache; weights of a graph are twice that, or a quarter.
        largest: Elements that no matrix may have more of, and no graph much more.
    """
    if largest is not None:
        cache_bytes = min(cache_bytes, largest * _BYTES_A_WEIGHT)
    rows = (decode_stretch(1), *(prompt_stretch(tokens) for tokens in (32, 128, 512)))

    def matrices(inputs: int, outputs: int, share: float) -> int:
        return max(round(share * cache_bytes / (inputs * outputs * _BYTES_A_WEIGHT)), 1)

    shapes = ((256, 768), (384, 1536), (960, 512), (768, 2048), (1024, 4096), (1600, 1600))
    probes = [
        OperatorProbe(kind="matmul", sizes=shape, copies=matrices(*shape, 2), stretches=rows[:3])
        for shape in shapes
    ]
    probes += [
        OperatorProbe(kind="matmul", sizes=shape, copies=matrices(*shape, 0.25), stretches=rows[:1])
        for shape in ((256, 1024), (640, 1920), (1280, 2560))
    ]
    contexts = (
        *(decode_stretch(context) for context in (32, 128, 512, 1024)),
        *(prompt_stretch(tokens) for tokens in (32, 128, 512)),
    )
    for heads, kv_heads, head_dim in (
        *((4, 4, 64), (8, 2, 64), (12, 1, 96), (8, 8, 128), (16, 4, 64), (6, 3, 128)),
        *((2, 1, 96), (9, 3, 64)),
    ):
        cache = 2 * kv_heads * head_dim * 4 * CONTEXTS[-1]
        probes.append(
            OperatorProbe(
                kind="attention",
                sizes=(heads, kv_heads, head_dim),
                copies=max(round(2 * cache_bytes / cache), 1),
                stretches=contexts,
            )
        )
    plain: tuple[OperatorKind, ...] = ("norm", "silu", "gelu", "copy")
    probes += [
        OperatorProbe(kind=kind, sizes=(width,), copies=24, stretches=rows[:3])
        for kind in plain
        for width in (256, 1024, 3072)
    ]
    if largest is not None:
        probes = [
            probe
            for probe in probes
            if probe.kind != "matmul" or probe.sizes[0] * probe.sizes[1] <= largest
        ]
    return tuple(probes)


def decoder_probes(
    count: int = NUM_DECODERS, *, seed: int = 0, largest: int | None = None
) -> tuple[DecoderProbe, ...]:
    """Small decoders that fill the space of shapes evenly, as a Latin hypercube.

    Width is 256 to 2048, weights 4 to 300 MiB, of few layers up to 48. Every one reads a prompt
    of 128 tokens and, the smaller half, one of 512, the larger one of 32.

    Args:
        count: Decoders.
        seed: The same seed gives the same decoders.
        largest: Parameters that none may have more of; then there are fewer decoders.

    Raises:
        SettingsError: If none is so small.
    """
    largest_bytes = _LARGEST_BYTES
    if largest is not None:
        largest_bytes = min(largest_bytes, largest * _BYTES_A_WEIGHT)
    candidates = [
        candidate
        for number, point in enumerate(qmc.LatinHypercube(8, seed=seed).random(count))
        if total_parameters(candidate := _decoder(point, number, largest_bytes))
        <= (largest or math.inf)
    ]
    if not candidates:
        raise SettingsError(f"No decoder has {largest:,} parameters or less. Allow more.")
    middle = statistics.median(total_parameters(candidate) for candidate in candidates)
    return tuple(
        DecoderProbe(
            candidate=candidate,
            stretches=(
                prompt_stretch(512 if total_parameters(candidate) < middle else 32),
                *whole_stretches(),
            ),
        )
        for candidate in candidates
    )


def whole_stretches() -> tuple[Stretch, ...]:
    """What a candidate is checked on: a prefill, and decode steps at each context."""
    return (prompt_stretch(PROMPT_TOKENS), *(decode_stretch(context) for context in CONTEXTS))


BUDGETS: Final = tuple(int(million * 1e6) for million in (20, 32, 50, 80, 125, 200, 315, 500))
"""Parameters of the candidates that a calibration is checked on, embeddings counted."""
_TOLERANCE: Final = 0.1


def unseen_probes(count: int, *, seed: int, largest: int | None = None) -> tuple[DecoderProbe, ...]:
    """Random candidates of the space `decoder`, the budgets in turn.

    Args:
        count: At least 1.
        seed: The same seed gives the same candidates.
        largest: Parameters that none may have more of. Below all budgets they are decoders as
            those of the fit, drawn anew.

    Raises:
        SettingsError: If none is so small.
    """
    budgets = tuple(budget for budget in BUDGETS if largest is None or budget <= largest)
    if not budgets:
        return tuple(
            replace(probe, stretches=whole_stretches())
            for probe in decoder_probes(NUM_DECODERS, seed=seed + 1, largest=largest)[:count]
        )
    space = files.read(catalog.resolve("decoder", "search_spaces"), SearchSpace)
    generator = np.random.default_rng(seed)
    drawn: dict[int, Candidate] = {}
    for offset, budget in enumerate(budgets):
        places = range(offset, count, len(budgets))
        if not places:
            continue
        points = at_budget(space, budget, tolerance=_TOLERANCE)
        numbers = generator.choice(len(points), len(places), replace=False)
        for place, point in zip(places, numbers, strict=True):
            drawn[place] = points.candidate(int(point))
    return tuple(
        DecoderProbe(candidate=drawn[place], stretches=whole_stretches()) for place in sorted(drawn)
    )


def _decoder(point: NDArray[np.float64], number: int, largest_bytes: float) -> Candidate:
    """The decoder at a point of the unit cube."""
    width, dim, ratio, attention, group, gated, weights, words = (float(one) for one in point)
    hidden_size = round(256 * 2 ** (3 * width) / 64) * 64
    head_dim = (64, 96, 128)[int(3 * dim)]
    heads = max(round(hidden_size * (0.5, 0.75, 1.0, 1.25)[int(4 * attention)] / head_dim), 1)
    divisors = [one for one in range(1, heads + 1) if heads % one == 0]
    kv_heads = heads // divisors[int(len(divisors) * group)]
    intermediate_size = max(round(hidden_size * (1 + 5 * ratio) / 64) * 64, 64)
    ffn_type: FfnType = "gated" if gated < 0.5 else "plain"
    activations: tuple[Activation, ...] = ("silu", "gelu", "relu", "relu2")
    vocab_size = (512, 4096, 16384, 49152)[int(4 * words)]
    smallest_bytes = min(_SMALLEST_BYTES, largest_bytes / 4)
    num_bytes = smallest_bytes * (largest_bytes / smallest_bytes) ** weights
    a_layer = hidden_size * (
        2 * head_dim * (heads + kv_heads) + intermediate_size * (3 if ffn_type == "gated" else 2)
    )
    layers = (num_bytes / _BYTES_A_WEIGHT - vocab_size * hidden_size) / a_layer
    return Candidate(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=min(max(round(layers), 1), 48),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        ffn_type=ffn_type,
        hidden_act=activations[number % len(activations)],
    )
