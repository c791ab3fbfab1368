"""Holds a profile against a table of measured speeds, row by row.

Nothing is fitted here. A row counts for decode when it has a decode rate of at least
`MIN_GENERATED_TOKENS` tokens, and for prefill when it has a prefill rate and its prompt's length.
Lengths that a source leaves out are taken for decode as the fit takes them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import onnx

from phonesearch import catalog
from phonesearch.candidate.config import Candidate
from phonesearch.device.cost import predict
from phonesearch.device.data import PublishedSpeed, published_speeds
from phonesearch.device.engine_match import carried_as, is_of_device, match_engine
from phonesearch.device.fit import ASSUMED_GENERATE_TOKENS, ASSUMED_PROMPT_TOKENS, Phase
from phonesearch.device.profile import DeviceProfile, profile_sha256
from phonesearch.device.score import PHASES, Case, Exposure
from phonesearch.device.speed_table import SpeedFigure, TableModel, carried_models
from phonesearch.errors import NotInCatalogError, ProfileError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

MIN_GENERATED_TOKENS: Final = 8
"""A decode rate over fewer tokens is mostly that of starting; the fits leave such rows out too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Rows, or single figures of rows, that could not be compared, and why."""

    what: str
    """`row`, or the phase of the figure."""
    because: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What came of holding a profile against a table."""

    profile: str
    profile_sha256: str
    coverage: float
    """Share of cases that the profile's intervals are meant to hold."""
    num_rows: int
    """Rows of the table, compared or not."""
    cases: tuple[Case, ...]
    skipped: tuple[Skipped, ...]


def validate(
    profile: DeviceProfile,
    figures: Sequence[SpeedFigure],
    models: Mapping[str, TableModel],
    *,
    engine: str | None = None,
) -> Validation:
    """Predict every row of `figures` that the profile can, and set it beside its measurement.

    Args:
        profile: One that predicts; its name is the `soc_id` of its rows, or their `device`.
        figures: Rows of any devices.
        models: Shapes of their models.
        engine: Name of the one engine to be looked at; None looks at all of the profile.

    Raises:
        ProfileError: If the profile is of a measured device, has no such engine, or no row
            could be compared; tells why rows were skipped.
    """
    profile.engine(engine)  # an unknown or measured one is an error, not an empty answer
    seen = _Seen.of(profile, figures, models)
    cases: list[Case] = []
    skipped: Counter[tuple[str, str]] = Counter()
    for figure in figures:
        if not is_of_device(figure, profile.name, *profile.aliases):
            skipped["row", "of another device"] += 1
            continue
        match = match_engine(figure, profile, only=engine)
        if match.engine is None:
            skipped["row", match.because] += 1
            continue
        model = models.get(figure.model_id)
        if model is None or model.candidate is None:
            because = "it is not in the table of models" if model is None else model.unknown_because
            skipped["row", f"model {figure.model_id}: {because}"] += 1
            continue
        for phase in PHASES:
            because = _unusable(figure, phase)
            if because:
                skipped[phase, because] += 1
            else:
                cases.append(
                    _case(figure, phase, match.engine, model.candidate, profile=profile, seen=seen)
                )
    if not cases:
        reasons = "; ".join(f"{count} {what}s {why}" for (what, why), count in skipped.items())
        raise ProfileError(
            f"No row of the table can be compared with profile {profile.name!r}: {reasons}. A row "
            f"needs `soc_id` {profile.name}, an engine of the profile "
            f"({', '.join(profile.engines)}) and a model of known shape."
        )
    return Validation(
        profile=profile.name,
        profile_sha256=profile.sha256,
        coverage=profile.coverage,
        num_rows=len(figures),
        cases=tuple(sorted(cases, key=lambda case: list(profile.engines).index(case.engine))),
        skipped=tuple(
            Skipped(what=what, because=because, count=count)
            for (what, because), count in skipped.most_common()
        ),
    )


def architecture_of(candidate: Candidate) -> Candidate:
    """What two models must agree in to be one: all that costs time."""
    return replace(candidate, rope_theta=10000.0, rope_scaling=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a profile was fitted on."""

    figures: frozenset[tuple[int, str, Phase]]
    """(row of the carried tables or, for a profile of one's own, of the table at hand; engine;
    phase)."""
    models: frozenset[tuple[str, Candidate]]
    """(engine, architecture). The phases share coefficients, so that one fitted on a model's
    decode has seen its prefill too."""
    is_shipped: bool

    @classmethod
    def of(
        cls,
        profile: DeviceProfile,
        figures: Iterable[SpeedFigure | PublishedSpeed],
        models: Mapping[str, TableModel],
    ) -> _Seen:
        is_shipped = _is_shipped(profile)
        if is_shipped:
            models = carried_models()
            figures = published_speeds()
        candidates = {
            figure.id: model.candidate
            for figure in figures
            if is_of_device(figure, profile.name, *profile.aliases)
            and (model := models.get(figure.model_id)) is not None
            and model.candidate is not None
        }
        fitted = frozenset(
            (row, name, phase)
            for name, engine in profile.engines.items()
            for phase in PHASES
            for row in (engine.decode if phase == "decode" else engine.prefill).rows
        )
        return cls(
            figures=fitted,
            models=frozenset(
                (name, architecture_of(candidates[row]))
                for row, name, _ in fitted
                if row in candidates
            ),
            is_shipped=is_shipped,
        )

    def exposure(
        self, figure: SpeedFigure, phase: Phase, engine: str, architecture: Candidate
    ) -> Exposure:
        row: int | None = figure.id
        if self.is_shipped:
            carried = carried_as(figure)
            row = None if carried is None else carried.id
        if row is not None and (row, engine, phase) in self.figures:
            return "fitted figure"
        return "fitted model" if (engine, architecture) in self.models else "unseen"


def _is_shipped(profile: DeviceProfile) -> bool:
    """Whether the profile is the package's, whose row numbers are those of its own tables."""
    try:
        path = catalog.resolve(profile.name, "device_profiles")
    except NotInCatalogError:
        return False
    return profile.sha256 == profile_sha256(path)


def _unusable(figure: SpeedFigure, phase: Phase) -> str:
    """Why a row says nothing of a phase; empty where it does."""
    if figure.tokens_per_s(phase) is None:
        return "the row has no such rate"
    if phase == "prefill" and figure.prompt_tokens is None:
        return "the length of the prompt is not known"
    generated = figure.generate_tokens or MIN_GENERATED_TOKENS
    if phase == "decode" and generated < MIN_GENERATED_TOKENS:
        return f"fewer than {MIN_GENERATED_TOKENS} tokens were generated"
    return ""


def _case(
    figure: SpeedFigure,
    phase: Phase,
    engine: str,
    candidate: Candidate,
    *,
    profile: DeviceProfile,
    seen: _Seen,
) -> Case:
    prompt = figure.prompt_tokens or ASSUMED_PROMPT_TOKENS
    generate = figure.generate_tokens or ASSUMED_GENERATE_TOKENS
    estimate = predict(
        _structure(candidate, figure.block_size),
        profile,
        engine=engine,
        prompt_tokens=prompt,
        generate_tokens=generate,
    )
    value, low, high = estimate.speed.tokens_per_s(phase)
    architecture = architecture_of(candidate)
    carried = carried_as(figure)
    return Case(
        row=figure.id,
        device=figure.device,
        model=figure.model,
        architecture=architecture,
        processor=profile.engines[engine].processor,
        engine=engine,
        weight_bits=profile.engines[engine].weight_bits,
        phase=phase,
        prompt_tokens=prompt,
        generate_tokens=generate,
        lengths_assumed=phase == "decode"
        and None in (figure.prompt_tokens, figure.generate_tokens),
        measured_tokens_per_s=figure.tokens_per_s(phase) or math.nan,
        predicted_tokens_per_s=value,
        predicted_low_tokens_per_s=low,
        predicted_high_tokens_per_s=high,
        exposure=seen.exposure(figure, phase, engine, architecture),
        doubt="" if carried is None else carried.left_out_because,
        confidence=figure.confidence,
        source=figure.source,
    )


@lru_cache(maxsize=64)
def _structure(candidate: Candidate, block_size: int) -> onnx.ModelProto:
    """The 4-bit graph, which stands for the shape at any weight width."""
    return build_structure(candidate, GraphSettings(block_size=block_size))
