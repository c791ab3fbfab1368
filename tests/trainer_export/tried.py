"""Writes down what a target was really tried with, for docs/handoff.md; see `make handoff`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainer_python import run_in_trainer

FILE_VARIABLE = "PHONESEARCH_TRIED"
"""Names the file that lines are added to. Without it nothing is written."""


def tried(target: str, *, tool: str, version: str, what: str, result: str) -> None:
    """Add a line on a test that has just passed.

    Args:
        target: Of the export.
        tool: What read the folder.
        version: Of that.
        what: Was done, as a clause.
        result: Figures seen.
    """
    path = os.environ.get(FILE_VARIABLE)
    if path is None:
        return
    line = {"target": target, "tool": tool, "version": version, "what": what, "result": result}
    with Path(path).open("a", encoding="utf-8") as lines:
        lines.write(f"{json.dumps(line)}\n")


def trainer_version(package: str, distribution: str | None = None) -> str:
    """Of a package in the trainers' own environment."""
    code = f"import importlib.metadata as m; print(m.version({distribution or package!r}))"
    return run_in_trainer(package, "-c", code).split()[-1]
