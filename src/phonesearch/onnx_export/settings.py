"""Which graph to build: its form, its weight width and its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phonesearch.errors import ExportError

GraphForm = Literal["deployment", "portable"]
WeightBits = Literal[4, 8, 16, 32]

_WEIGHT_BITS: dict[str, tuple[int, ...]] = {"deployment": (4, 8), "portable": (16, 32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """How a candidate becomes a graph. The same settings always give the same nodes."""

    form: GraphForm = "deployment"
    """`deployment`: block-quantised weights and ONNX Runtime's fused operators, what phones
    run. `portable`: standard ONNX operators only."""
    weight_bits: WeightBits = 4
    """4 or 8 for `deployment` (activations and cache float32); 16 or 32 for `portable`
    (weights, activations and cache float16 or float32)."""
    block_size: int = 32
    """Weights of one row that share a scale, in the deployment form: a power of two, 16 to
    256."""
    accuracy_level: int = 4
    """`MatMulNBits` attribute: 4 lets a kernel round activations to int8 (what is fast), 1
    keeps them float32, 0 leaves the choice to the kernel."""
    logits: Literal["last", "all"] = "last"
    """`last`: logits of the last position only, shape (batch, 1, vocab_size), so that the head
    costs one row in prefill. `all`: of every position."""

    def __post_init__(self) -> None:
        allowed = _WEIGHT_BITS.get(self.form)
        if allowed is None:
            raise ExportError(f"`form` must be deployment or portable, got {self.form!r}.")
        if self.weight_bits not in allowed:
            raise ExportError(
                f"`weight_bits` of the {self.form} form must be {allowed[0]} or {allowed[1]}, "
                f"got {self.weight_bits}."
            )
        if self.block_size not in (16, 32, 64, 128, 256):
            raise ExportError(
                f"`block_size` must be 16, 32, 64, 128 or 256, got {self.block_size}."
            )
        if self.accuracy_level not in (0, 1, 2, 3, 4):
            raise ExportError(f"`accuracy_level` must be 0 to 4, got {self.accuracy_level}.")
        if self.logits not in ("last", "all"):
            raise ExportError(f"`logits` must be last or all, got {self.logits!r}.")
