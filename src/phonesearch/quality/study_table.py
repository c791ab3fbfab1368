"""The table of a study: small architectures trained for short and for longer."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonesearch.candidate.config import Candidate
from phonesearch.errors import QualityError


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One training of the study."""

    name: str
    """Of the architecture."""
    seed: int
    longer: int
    """Times the tokens of the recipe: 1 is a short training."""
    is_neutral: bool
    """Whether its depth is that of most, so that it may be compared without the law."""
    tokens: int
    bits_per_byte: float
    standard_error: float
    passed_transition: bool
    parameters: int
    """Non-embedding."""
    proxy: Candidate
    curve: tuple[tuple[int, float], ...] = ()
    """Training loss, nats a token, each over the tokens since the one before; on the same batches
    for all of one seed."""


def read_study(path: Path, *, least_copy_gap_nats: float) -> tuple[StudyRow, ...]:
    """The table of a study, as `benchmarks/proxy_study.py` writes it.

    Args:
        path: The table.
        least_copy_gap_nats: The guard: of a training that is past the transition.

    Raises:
        QualityError: If a row does not fit.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(
            _row(path, number, row, least_copy_gap_nats)
            for number, row in enumerate(csv.DictReader(lines), start=2)
        )


def _row(path: Path, number: int, row: Mapping[str, str], least_copy_gap_nats: float) -> StudyRow:
    try:
        fields: dict[str, Any] = json.loads(row["proxy"])
        return StudyRow(
            name=row["name"],
            seed=int(row["seed"]),
            longer=int(row["longer"]),
            is_neutral=row["is_neutral"] == "True",
            tokens=int(row["tokens"]),
            bits_per_byte=float(row["bits_per_byte"]),
            standard_error=float(row["standard_error"]),
            passed_transition=float(row["copy_gap_nats"]) >= least_copy_gap_nats,
            parameters=int(row["non_embedding_parameters"]),
            proxy=Candidate(**fields),
            curve=tuple(
                (int(tokens), float(nats)) for tokens, nats in json.loads(row.get("curve") or "[]")
            ),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise QualityError(
            f"{path}, line {number}, is no row of a study ({error}). Make the table anew: "
            "python benchmarks/proxy_study.py train"
        ) from error
