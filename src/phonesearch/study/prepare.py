"""Everything that can be refused is refused here, before a run's folder exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phonesearch.device.profile import DeviceProfile
from phonesearch.errors import SettingsError
from phonesearch.proxy.corpus import Corpus, load_corpus
from phonesearch.sampling.sampler import CheapObjectiveSampler
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.gain import gain_sampler
from phonesearch.study.limits import Limits
from phonesearch.study.observer import RunObserver
from phonesearch.study.settings import RunSettings

_CONSTRAINT_CHECKS = 600
"""Random candidates tried against the constraints before a run is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a search needs besides its folder."""

    space: BudgetedSpace
    limits: Limits
    corpus: Corpus | None
    """None where nothing is trained."""
    trainings: Path
    """The user's cache, which keeps short trainings for all runs."""
    gain: CheapObjectiveSampler | None = None
    """The sampler that keeps what it learnt of the space from draw to draw; None where each draw
    has one of its own."""


def prepare(
    settings: RunSettings,
    space: SearchSpace,
    profile: DeviceProfile,
    *,
    cache_dir: Path,
    observer: RunObserver,
) -> Prepared:
    """Solve the space, check the constraints, and tokenise the corpus. Writes only the cache.

    Args:
        settings: What is asked.
        space: Where candidates come from.
        profile: Where they shall be fast.
        cache_dir: Where tokenised corpora are kept between runs.
        observer: Told what is being done.

    Raises:
        BudgetError: If the space has no candidate at the budget.
        ProfileError: If the profile has no such engine.
        SettingsError: If no candidate meets the constraints.
        CorpusError: If there is no text to train on, or too little.
    """
    if profile.measured and settings.engine is not None:
        raise SettingsError(
            f"--engine cannot be chosen for {profile.name!r}, which is measured with ONNX Runtime."
        )
    if profile.measured and settings.sampler == "gain":
        raise SettingsError(
            f"--sampler gain needs predicted speeds, and those of {profile.name!r} are measured. "
            "Take another one: gp."
        )
    if not profile.measured:
        profile.engine(settings.engine)  # raises where there is none of that name
    observer.say(f"Solving search space {space.name!r} for {settings.budget:,} parameters")
    solved = at_budget(space, settings.budget, counting=settings.counting)
    observer.say(f"{len(solved):,} architectures are within 1 % of the budget")
    limits = Limits(settings, profile)
    order = np.random.default_rng(settings.seed).permutation(len(solved))[:_CONSTRAINT_CHECKS]
    if not any(limits.accepts(solved.candidate(int(point))) for point in order):
        raise SettingsError(limits.why_none(len(order)))
    corpus = None
    if settings.scored_by != "prior":
        corpus = load_corpus(settings.proxy, cache_dir=cache_dir, progress=observer.say)
    gain = None
    if settings.sampler == "gain":
        gain = gain_sampler(settings, solved, profile, limits)
    return Prepared(space=solved, limits=limits, corpus=corpus, trainings=cache_dir, gain=gain)
