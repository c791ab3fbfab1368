"""Published small models, to be placed beside candidates at their predicted speed."""

from __future__ import annotations

from dataclasses import dataclass

from phonesearch.candidate.config import Candidate
from phonesearch.device.data import model_shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A published model that a candidate can represent exactly."""

    name: str
    candidate: Candidate
    source: str
    """Where its shape was read."""


def known_models() -> tuple[KnownModel, ...]:
    """Known small models, in the order of the carried table.

    Models with another block (Gemma's extra norms, LFM2's convolutions, MiniCPM's scaled
    residuals, mixtures of experts) cannot be represented and are not among them.
    """
    return tuple(
        KnownModel(name=shape.name, candidate=shape.candidate, source=shape.source)
        for shape in model_shapes().values()
        if shape.well_known
    )
