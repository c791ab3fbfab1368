"""What was asked of the profiles, and which groups of models meet it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from phonesearch.candidate.count import total_parameters
from phonesearch.device.engine_plans import engine_plan
from phonesearch.device.fit import Phase
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.score import PHASES, Case, Group, Score, groups, score
from phonesearch.report.accuracy_format import percent

Shipped = Mapping[str, tuple[DeviceProfile, Sequence[Case]]]
"""Profile, and its figures each predicted by a fit without their model, by name."""

GOAL_MODELS: Final = 6
"""Groups with fewer are not judged."""
GOAL_MEDIAN: Final[dict[Phase, float]] = {"decode": 0.10, "prefill": 0.15}
GOAL_WITHIN_20: Final = 0.8
GOAL_TAU: Final = 0.9

_PARAMETERS: Final = (0.1e9, 4.1e9)
"""0.1B to 4B, with the room that rounded names take: Qwen3-4B has 4.02B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One phase of one group held against what was asked of it."""

    profile: str
    group: Group
    phase: Phase
    score: Score
    shortfalls: tuple[str, ...]


def goals(shipped: Shipped) -> tuple[Goal, ...]:
    """Groups with enough models of the size and confidence that the goal is set for.

    Builds of one engine are one group, each figure predicted by the fit of its own build: that a
    fit tells them apart must not take them out of the goal.
    """
    found = []
    low, high = _PARAMETERS
    for name, (_, cases) in shipped.items():
        for group in groups(
            replace(case, engine=engine_plan(case.engine).build_of or case.engine) for case in cases
        ):
            for phase in PHASES:
                own = tuple(
                    case
                    for case in group.cases
                    if case.phase == phase
                    and case.confidence in ("A", "B")
                    and low <= total_parameters(case.architecture) <= high
                )
                figures = score(own)
                if figures.models >= GOAL_MODELS:
                    found.append(
                        Goal(
                            profile=name,
                            group=Group(
                                processor=group.processor,
                                engine=group.engine,
                                weight_bits=group.weight_bits,
                                cases=own,
                            ),
                            phase=phase,
                            score=figures,
                            shortfalls=_shortfalls(figures, phase),
                        )
                    )
    return tuple(found)


def _shortfalls(figures: Score, phase: Phase) -> tuple[str, ...]:
    limit = GOAL_MEDIAN[phase]
    short = []
    if figures.median_error is not None and figures.median_error > limit:
        short.append(f"median {percent(figures.median_error)}, above {percent(limit, digits=0)}")
    if figures.within_20 is not None and figures.within_20 < GOAL_WITHIN_20:
        short.append(
            f"{percent(figures.within_20, digits=0)} within 20 %, below "
            f"{percent(GOAL_WITHIN_20, digits=0)}"
        )
    if figures.kendall_tau is not None and figures.kendall_tau < GOAL_TAU - 1e-9:
        short.append(f"tau {figures.kendall_tau:.2f}, below {GOAL_TAU:.1f}")
    return tuple(short)
