"""All but those of phones; the tree is in `errors/__init__.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class PhoneSearchError(Exception):
    """Base of every deliberate error; the command line prints it as one message."""


class InvalidFileError(PhoneSearchError, ValueError):
    """A file does not fit its schema. Lists every problem found, not only the first."""

    def __init__(self, path: Path | str, problems: Sequence[str]) -> None:
        self.path = Path(path)
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{self.path} is not valid:{lines}")


class InvalidCandidateError(PhoneSearchError, ValueError):
    """The fields of a candidate contradict each other."""


class InvalidSpaceError(PhoneSearchError, ValueError):
    """The ranges of a search space contradict each other."""


class UnsupportedConfigError(PhoneSearchError, ValueError):
    """A Hugging Face config describes a model that a `Candidate` cannot represent."""


class BudgetError(PhoneSearchError, ValueError):
    """No candidate in the search space meets the parameter budget."""

    def __init__(self, *, target: int, tolerance: float, nearest: int | None, space: str) -> None:
        hint = (
            f"the nearest reachable budget is {nearest:,} ({nearest / target - 1:+.1%})"
            if nearest is not None
            else "no combination of its ranges is a legal architecture at any budget"
        )
        super().__init__(
            f"No candidate of search space {space!r} has {target:,} parameters to within "
            f"{tolerance:.1%}; {hint}. Change --budget, or widen `num_hidden_layers`, "
            "`hidden_size` or `ffn_ratio` in a copy of the space file and pass it with --space."
        )
        self.target = target
        self.tolerance = tolerance
        self.nearest = nearest


class SpaceExhaustedError(PhoneSearchError):
    """Every distinct architecture of the space at this budget was already evaluated."""


class NotInCatalogError(PhoneSearchError, KeyError):
    """No shipped device profile or search space has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class ProfileError(PhoneSearchError, ValueError):
    """A device profile lacks a number that the question needs."""


class ExportError(PhoneSearchError):
    """A graph or its weights could not be written."""


class TimingError(PhoneSearchError):
    """The device could not be timed; raised rather than returning a doubtful number."""


class QualityError(PhoneSearchError, ValueError):
    """A table, or a set of observations, is too little to fit or to use the law of final loss."""


class CorpusError(PhoneSearchError, ValueError):
    """Text that cannot be read, or too little of it to train and score a proxy."""


class ProxyError(PhoneSearchError):
    """A short training failed (not a number, out of memory); the study records and goes on."""


class ProxyDroppedError(ProxyError):
    """A short training was given up, as it could not come to anything; it can be gone on with."""


class SettingsError(PhoneSearchError, ValueError):
    """Options of a run that contradict each other."""


class RunFolderError(PhoneSearchError):
    """A results folder is missing, belongs to another run, is damaged or in use."""


class TrainerExportError(PhoneSearchError, ValueError):
    """A trainer or runtime cannot express this candidate; names the field."""


class StorageError(PhoneSearchError):
    """The database of a study cannot be reached or used, or holds no such study."""


class WorkerError(PhoneSearchError):
    """Worker processes of a run died again and again, or cannot be placed."""
