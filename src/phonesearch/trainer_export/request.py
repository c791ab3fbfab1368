"""What is to be written, and the seam that every target fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from phonesearch.candidate.config import Candidate
from phonesearch.trainer_export.tokenizer import SpecialTokens, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """One candidate with what goes along with it."""

    candidate: Candidate
    weights: Mapping[str, Tensor] | None
    """By the names of `Decoder`; None where there are no trained ones."""
    seed: int
    """Of random weights, where a target needs some and none are given."""
    tokenizer: Tokenizer | None
    progress: Callable[[int, int], None] | None
    """Called with bytes written and bytes in all."""

    @property
    def special_tokens(self) -> SpecialTokens:
        """Those of the tokenizer; none are known without one."""
        return SpecialTokens() if self.tokenizer is None else self.tokenizer.special_tokens


class TrainerExporter(Protocol):
    """Writes one candidate in the words of one trainer or runtime."""

    def check(self, request: ExportRequest) -> None:
        """Refuse, before anything is written, what this target cannot express.

        Raises:
            TrainerExportError: Naming the field.
        """
        ...

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`, which exists and is empty."""
        ...
