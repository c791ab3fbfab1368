"""The sampler of one draw: seeded by the run and the trial's number, so that it can be repeated."""

from __future__ import annotations

import numpy as np
import optuna
from numpy.typing import NDArray

from phonesearch.study.prepare import Prepared
from phonesearch.study.sampler import BudgetSampler, make_sampler
from phonesearch.study.settings import RunSettings

_NUM_STARTUP_TRIALS = 6
"""Trials drawn far from each other before the sampler is asked. Fewer leave a Gaussian process
with less than one point an axis; more leave it too few of a laptop's 12 to 24 trials."""


def sampler_of(
    settings: RunSettings,
    prepared: Prepared,
    number: int,
    *,
    again: int = 0,
    known: dict[int, NDArray[np.int32]] | None = None,
) -> optuna.samplers.BaseSampler:
    """The sampler that draws a trial.

    Args:
        settings: Of the run.
        prepared: Its space and constraints.
        number: Of the trial.
        again: Draws of it before, whose architecture another worker took meanwhile.
        known: See `BudgetSampler`.
    """
    if settings.sampler == "gain":
        assert prepared.gain is not None
        return prepared.gain
    entropy = [settings.seed, number, again] if again else [settings.seed, number]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    return BudgetSampler(
        prepared.space,
        make_sampler(
            settings.sampler,
            seed=seed,
            num_startup_trials=_NUM_STARTUP_TRIALS,
            num_trials=settings.trials,
        ),
        seed=seed,
        num_startup_trials=_NUM_STARTUP_TRIALS,
        accept=prepared.limits.accepts,
        known=known,
    )
