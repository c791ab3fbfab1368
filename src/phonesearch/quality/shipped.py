"""The fits and their evidence as a file: made from a table, shipped, and compared with a refit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from phonesearch import files
from phonesearch.errors import QualityError
from phonesearch.quality.anchor_evidence import ANCHOR_SETS, AnchorScore, anchor_scores
from phonesearch.quality.evidence import (
    FinalRanks,
    GroupRanks,
    ShortRun,
    final_ranks,
    group_ranks,
    short_runs,
)
from phonesearch.quality.fit_law import LawFit, fit_law
from phonesearch.quality.shape_table import ShapeTable
from phonesearch.quality.suites import anchor_set, gemstones, morph

COMMAND: Final = "phonesearch quality fit TABLES.csv --out shape_law.json"
FITS: Final = ("gemstones", "morph", "joint")
_DIGITS: Final = 6
_SAME: Final = 1e-3
"""Relative difference of two numbers that counts as none; machines differ in the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the fits say of what they have not seen."""

    morph_law_on_gemstones: FinalRanks
    short_runs_with_morph_law: tuple[ShortRun, ...]
    gemstones_law_on_morph: GroupRanks
    anchors: tuple[AnchorScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSource:
    """Where the losses of one suite are from."""

    suite: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeLaw:
    """Every fit of the law, with what it was made from and how."""

    command: str
    table_sha256: str
    """Of the table it was fitted on."""
    sources: tuple[SuiteSource, ...]
    standard_errors: str
    """How they were found."""
    gemstones: LawFit
    morph: LawFit
    joint: LawFit
    """Both suites, one k and one mu. The one that the quality model uses."""
    evidence: Evidence


def make_shape_law(table: ShapeTable) -> ShapeLaw:
    """Fit both suites, alone and together, and hold the fits against what they have not seen.

    Raises:
        QualityError: If the table lacks a suite, or has too little of it.
    """
    deep, wide = gemstones(table), morph(table)
    on_gemstones, on_morph = fit_law(deep), fit_law(wide)
    return ShapeLaw(
        command=COMMAND,
        table_sha256=table.sha256,
        sources=tuple(
            SuiteSource(suite=suite.name, source=suite.source, licence=suite.licence)
            for suite in (deep, wide)
        ),
        standard_errors=(
            "sandwich over shapes, as the points of one are not independent, times "
            "shapes / (shapes - coefficients)"
        ),
        gemstones=on_gemstones,
        morph=on_morph,
        joint=fit_law(deep, wide),
        evidence=Evidence(
            morph_law_on_gemstones=final_ranks(deep, on_morph.base(wide.name), on_morph.aspect),
            short_runs_with_morph_law=short_runs(deep, on_morph.aspect),
            gemstones_law_on_morph=group_ranks(wide, on_gemstones.aspect),
            anchors=tuple(
                score for name in ANCHOR_SETS for score in anchor_scores(anchor_set(table, name))
            ),
        ),
    )


def law_content(law: ShapeLaw) -> dict[str, Any]:
    """What is written of a law to JSON, numbers to six digits."""
    content: dict[str, Any] = _rounded(asdict(law))
    return content


def shipped_path() -> Path:
    """The file that comes with the package."""
    return Path(str(resources.files("phonesearch") / "quality" / "data" / "shape_law.json"))


@cache
def shipped_law() -> ShapeLaw:
    """The fits that come with the package."""
    return read_law(shipped_path())


def read_law(path: Path) -> ShapeLaw:
    """The law in a file that `phonesearch quality fit --out` wrote.

    Raises:
        InvalidFileError: If it cannot be read, or is not such a file.
    """
    return files.read(path, ShapeLaw)


def differences(law: ShapeLaw, other: ShapeLaw) -> tuple[str, ...]:
    """Fields in which two laws differ by more than a thousandth; empty if in none."""
    mine, theirs = dict(_leaves(law_content(law))), dict(_leaves(law_content(other)))
    return tuple(
        sorted(
            name
            for name in mine.keys() | theirs.keys()
            if not _is_same(mine.get(name), theirs.get(name))
        )
    )


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=1e-9)
    return bool(one == other)


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, Sequence) and not isinstance(content, str):
        for index, value in enumerate(content):
            yield from _leaves(value, f"{name}[{index}]")
    else:
        yield name, content


def _rounded(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    if isinstance(content, float):
        if not math.isfinite(content):
            raise QualityError("A fit gave a number that is not finite; use the whole table.")
        return float(f"{content:.{_DIGITS}g}")
    return content
