"""Says which engine of a profile a row of a published table was measured with.

Tables print an engine as its authors do, with build, app or commit; profiles name it
`FAMILY[-QUALIFIER]-BITSbit`. A row is of an engine when all of these hold:

1. Its printed engine is of the family, by the first pattern of `FAMILIES` that it has. Forks and
   engines built on others (T-MAC, ik_llama.cpp, Ollama, EIE) are families of their own.
2. Its processor is the engine's, and its `weight_bits` are the engine's. A row without a weight
   width is of no engine.
3. Where the engine has a qualifier, the row has it too: a year (`llamacpp-2024-4bit`) is that of
   the build, from the printed engine or else from the row's date; a quantisation
   (`llamacpp-q4_0-4bit`) stands in the row's `quant`, `Q4_0_4_8` and the like being Q4_0 in
   another order; so does one of the recipes of whoever made the file
   (`executorch-xnnpack-meta-4bit`, see `RECIPES`). Rows of engines without a qualifier may have
   any.

Of several, the one with a quantisation or recipe goes before the one with a year, and that before
one without. Two things go before all rules: a row whose `engine` is the engine's own name, as in a
table of one's own, and a row that the package carries, which is of the engine it is carried for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from phonesearch.catalog import fold
from phonesearch.device.data import PublishedSpeed, published_speeds
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.speed_table import SpeedFigure

FAMILIES: Final = (
    (r"executorch.*\bxnnpack", "executorch-xnnpack"),
    (r"executorch.*\bqnn", "executorch-qnn"),
    (r"llama\.?cpp\b", "llamacpp"),
    (r"mnn\b", "mnn"),
    (r"litert.*\bxnnpack", "litert-xnnpack"),
    (r"litert-lm\b", "litert-lm"),
    (r".*\bgenie\b", "qnn-genie"),
    (r"mllm\b", "mllm"),
)
"""Pattern that the printed engine begins with, in small letters, and its family."""

RECIPES: Final = {"meta": r"spinquant|qlora|\bqat\b"}
"""Who made a file, and the pattern that its `quant` has, in small letters."""

_ENGINE_NAME: Final = re.compile(
    r"(?P<family>.+?)(?:-(?:(?P<year>20\d\d)|(?P<quantisation>i?q\d\w*)|"
    rf"(?P<recipe>{'|'.join(RECIPES)})))?-(?P<bits>\d+)bit"
)
_YEAR: Final = re.compile(r"\b(20\d\d)\b")
_SAME_RATE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMatch:
    """The engine of a row, or why there is none."""

    engine: str | None
    because: str
    """Why there is none; empty where there is one."""


def match_engine(
    figure: SpeedFigure, profile: DeviceProfile, *, only: str | None = None
) -> EngineMatch:
    """The engine of `profile` that `figure` was measured with, by the rules of this module.

    Args:
        figure: A row of the profile's device.
        profile: One that predicts.
        only: Name of the one engine to be looked at; None looks at all of them.
    """
    found = _matching(figure, profile)
    if found is None:
        width = "no weight width" if figure.weight_bits is None else f"{figure.weight_bits}-bit"
        printed = f"{figure.engine!r}, {figure.processor}, {width}"
        return EngineMatch(engine=None, because=f"no engine of the profile is its own ({printed})")
    if only is not None and found != only:
        return EngineMatch(engine=None, because=f"of engine {found}, not of {only}")
    return EngineMatch(engine=found, because="")


def is_of_device(figure: SpeedFigure | PublishedSpeed, *names: str) -> bool:
    """Whether a row's `soc_id` or `device` is one of `names`, whatever hyphens and capitals."""
    return not {fold(figure.soc_id), fold(figure.device)}.isdisjoint(map(fold, names))


def carried_as(figure: SpeedFigure) -> PublishedSpeed | None:
    """The row of the package's own tables that is this very figure; None where none is.

    It has the same device, model and two rates, and no other engine or weight width as far as
    the figure tells. A table of somebody else may number its rows anew and tell less or more of
    their lengths, so that `id` decides only between several.
    """
    found = [
        speed
        for speed in _carried().get((figure.soc_id, figure.model_id), ())
        if _same(speed.decode_tokens_per_s, figure.decode_tokens_per_s)
        and _same(speed.prefill_tokens_per_s, figure.prefill_tokens_per_s)
        and _may_be_engine(figure, speed.engine)
    ]
    return min(found, key=lambda speed: speed.id != figure.id, default=None)


def _may_be_engine(figure: SpeedFigure, name: str) -> bool:
    """Whether nothing in the row speaks against it being of the engine `name`."""
    parts = _ENGINE_NAME.fullmatch(name)
    if parts is None:
        return True
    family, bits = family_of(figure.engine), figure.weight_bits
    return family in (None, parts["family"]) and bits in (None, int(parts["bits"]))


def _matching(figure: SpeedFigure, profile: DeviceProfile) -> str | None:
    if figure.engine in profile.engines:
        return figure.engine
    carried = carried_as(figure)
    engine = None if carried is None else profile.engines.get(carried.engine)
    if carried is not None and engine is not None and engine.processor == figure.processor:
        return carried.engine
    found: list[tuple[int, str]] = []
    for name, engine in profile.engines.items():
        if (figure.processor, figure.weight_bits) == (engine.processor, engine.weight_bits):
            rank = _rank(figure, name)
            if rank is not None:
                found.append((rank, name))
    return min(found)[1] if found else None


def _rank(figure: SpeedFigure, name: str) -> int | None:
    """How closely the row fits the engine's name, 0 being closest; None if it does not."""
    parts = _ENGINE_NAME.fullmatch(name)
    if parts is None or parts["family"] != family_of(figure.engine):
        return None
    if parts["quantisation"]:
        wanted = rf"\b{re.escape(parts['quantisation'])}(?:_\d_\d)?\b"
        return 0 if re.search(wanted, figure.quantisation.lower()) else None
    if parts["recipe"]:
        return 0 if re.search(RECIPES[parts["recipe"]], figure.quantisation.lower()) else None
    if parts["year"]:
        return 1 if _year_of(figure) == parts["year"] else None
    return 2


def family_of(printed: str) -> str | None:
    """Family of an engine as a table prints it; None for one that is not in `FAMILIES`."""
    small = printed.strip().lower()
    return next((family for pattern, family in FAMILIES if re.match(pattern, small)), None)


def _year_of(figure: SpeedFigure) -> str | None:
    """Year of the build; None where the row has a span of years or none."""
    for text in (figure.engine, figure.date):
        years = set(_YEAR.findall(text))
        if years:
            return years.pop() if len(years) == 1 else None
    return None


@cache
def _carried() -> dict[tuple[str, str], tuple[PublishedSpeed, ...]]:
    found: dict[tuple[str, str], tuple[PublishedSpeed, ...]] = {}
    for speed in published_speeds():
        key = (speed.soc_id, speed.model_id)
        found[key] = (*found.get(key, ()), speed)
    return found


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _SAME_RATE * one
