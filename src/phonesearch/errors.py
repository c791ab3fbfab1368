"""Every error phonesearch raises on purpose.

* PhoneSearchError
  - InvalidFileError         a YAML/JSON/CSV file does not fit its schema
  - InvalidCandidateError    the fields of a candidate contradict each other
  - InvalidSpaceError        the ranges of a search space contradict each other
  - UnsupportedConfigError   a Hugging Face config describes a model that we cannot represent
  - BudgetError              no candidate in the space meets the parameter budget
  - SpaceExhaustedError      every distinct architecture of the space was evaluated
  - NotInCatalogError        no device profile or search space of that name
  - ProfileError             a device profile lacks a number the question needs
  - ExportError              a graph or a folder of weights could not be written
  - TimingError              the device could not be timed (no adb, throttled, crashed)
  - CorpusError              text that cannot be read, or too little of it
  - ProxyError               a short training failed (NaN, out of memory)
  - SettingsError            options of a run that contradict each other
  - RunFolderError           a results folder is missing, foreign, damaged or busy
  - TrainerExportError       a trainer or runtime cannot express this candidate

Anything else that escapes is a bug. A message has up to four parts: what failed, the rule,
the value got, what to do next.
"""

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


class CorpusError(PhoneSearchError, ValueError):
    """Text that cannot be read, or too little of it to train and score a proxy."""


class ProxyError(PhoneSearchError):
    """A short training failed (not a number, out of memory); the study records and goes on."""


class SettingsError(PhoneSearchError, ValueError):
    """Options of a run that contradict each other."""


class RunFolderError(PhoneSearchError):
    """A results folder is missing, belongs to another run, is damaged or in use."""


class TrainerExportError(PhoneSearchError, ValueError):
    """A trainer or runtime cannot express this candidate; names the field."""
