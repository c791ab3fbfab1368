"""What a trainer cannot express, as a table of fields; a candidate beyond it is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.request import ExportRequest


@dataclass(frozen=True, slots=True)
class Limit:
    """One field of a candidate that a trainer has only some values of."""

    field: str
    """Name in `Candidate`."""
    allows: Callable[[Candidate], bool]
    """Whether the trainer has the value that this candidate has."""
    rule: str
    """What the trainer does have; read after the field's name and value."""


ONE_BIAS_SWITCH: Final = (
    Limit(
        "attention_out_bias",
        lambda c: c.attention_out_bias == c.mlp_bias,
        "one switch there stands for this and `mlp_bias`",
    ),
    Limit(
        "attention_bias",
        lambda c: c.attention_bias or not c.mlp_bias,
        "it cannot be without one where `mlp_bias` is true",
    ),
)
"""Of trainers with one switch for all biases, and another that adds those before attention."""
WHOLE_ROPE_THETA: Final = Limit(
    "rope_theta", lambda c: c.rope_theta == int(c.rope_theta), "a whole number there"
)
"""Of trainers that keep the base of the rotation as a whole number."""


def require_within(trainer: str, limits: Sequence[Limit], request: ExportRequest) -> None:
    """Refuse what goes beyond `limits`, all fields at once, and weights.

    Args:
        trainer: Its name, as people write it.
        limits: In the order in which they are named.
        request: What is to be written.

    Raises:
        TrainerExportError: Naming every field, its value, and what the trainer has instead.
    """
    if request.weights is not None:
        raise TrainerExportError(
            f"The export for {trainer} writes no weights: a training starts from fresh ones. "
            "Export trained weights to `hf` or `onnx`."
        )
    candidate = request.candidate
    broken = [
        f"`{limit.field}` {getattr(candidate, limit.field)} ({limit.rule})"
        for limit in limits
        if not limit.allows(candidate)
    ]
    if broken:
        these = "this field" if len(broken) == 1 else "these fields"
        raise TrainerExportError(
            f"{trainer} cannot express this candidate: {'; '.join(broken)}. Change {these}, or "
            "export to another target."
        )
