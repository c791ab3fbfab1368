"""The trial that `--trial` names."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from phonesearch.errors import SettingsError

if TYPE_CHECKING:
    from phonesearch.study.record import TrialRecord


def of_trial(records: Mapping[int, TrialRecord], number: int, run: Path) -> TrialRecord:
    """The record of a trial.

    Args:
        records: All of the run, by number.
        number: As typed.
        run: Folder, for the message.

    Raises:
        SettingsError: If there is none of that number, naming those that there are.
    """
    if number not in records:
        raise SettingsError(
            f"--trial: {run} has no finished trial {number}; it has {ranges(records) or 'none'}."
        )
    return records[number]


def ranges(numbers: Iterable[int]) -> str:
    """`0 to 3, 5`: runs of three or more numbers by their ends.

    Args:
        numbers: In any order.
    """
    parts = []
    ordered = sorted(numbers)
    for _, group in itertools.groupby(enumerate(ordered), key=lambda at: at[1] - at[0]):
        run = [number for _, number in group]
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    return ", ".join(parts)
