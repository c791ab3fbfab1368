from __future__ import annotations

import numpy as np
import optuna
import pytest

from phonesearch import files
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import total_parameters
from phonesearch.catalog import resolve
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.sampler import (
    BudgetSampler,
    NoneAcceptedError,
    candidate_of,
    distributions,
    make_sampler,
)
from phonesearch.study.settings import OPTUNA_SAMPLERS, OptunaSamplerName

BUDGET = 300_000


@pytest.fixture(scope="module")
def space() -> BudgetedSpace:
    return at_budget(files.read(resolve("tiny", "search_spaces"), SearchSpace), BUDGET)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def drawn(
    space: BudgetedSpace,
    name: OptunaSamplerName,
    *,
    trials: int,
    seed: int = 0,
    accept=lambda _: True,
) -> list[Candidate]:
    """Draw as a run does: a fresh sampler a trial, objectives told at once."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    found = []
    for number in range(trials):
        study.sampler = BudgetSampler(
            space,
            make_sampler(name, seed=seed + number, num_startup_trials=4, num_trials=20),
            seed=seed + number,
            num_startup_trials=4,
            accept=accept,
        )
        trial = study.ask(distributions(space))
        candidate = candidate_of(space, trial.params)
        found.append(candidate)
        study.tell(trial, (1e6 / candidate.num_hidden_layers, float(candidate.hidden_size)))
    return found


@pytest.mark.parametrize("name", OPTUNA_SAMPLERS)
def test_every_draw_is_legal_new_and_within_the_budget(
    space: BudgetedSpace, name: OptunaSamplerName
) -> None:
    candidates = drawn(space, name, trials=14)
    assert len({candidate_id(candidate) for candidate in candidates}) == len(candidates)
    for candidate in candidates:
        assert abs(total_parameters(candidate) / BUDGET - 1) <= 0.01


@pytest.mark.parametrize("name", OPTUNA_SAMPLERS)
def test_the_same_seed_draws_the_same_and_another_does_not(
    space: BudgetedSpace, name: OptunaSamplerName
) -> None:
    first = drawn(space, name, trials=8)
    assert drawn(space, name, trials=8) == first
    assert drawn(space, name, trials=8, seed=100) != first


def test_the_startup_draws_lie_apart(space: BudgetedSpace) -> None:
    """Farther from each other than as many random points are on average."""

    def spread(points: list[int]) -> float:
        return float(
            np.mean([np.sort(space.distances(space.positions[p])[points])[1] for p in points])
        )

    lookup = {candidate_id(space.candidate(p)): p for p in range(len(space))}
    apart = [lookup[candidate_id(c)] for c in drawn(space, "random", trials=4)]
    generator = np.random.default_rng(0)
    by_chance = [spread(generator.choice(len(space), 4, replace=False).tolist()) for _ in range(50)]
    assert spread(apart) > np.mean(by_chance)


def test_what_is_not_accepted_is_never_drawn(space: BudgetedSpace) -> None:
    candidates = drawn(space, "gp", trials=10, accept=lambda c: c.num_hidden_layers <= 3)
    assert max(candidate.num_hidden_layers for candidate in candidates) <= 3


def test_constraints_that_nothing_meets_end_the_draw(space: BudgetedSpace) -> None:
    with pytest.raises(NoneAcceptedError):
        drawn(space, "random", trials=1, accept=lambda _: False)


def test_what_optuna_stores_is_the_point_that_was_evaluated(space: BudgetedSpace) -> None:
    """Every legal point survives the way through Optuna's parameters and back."""
    wanted = distributions(space)
    for point in np.random.default_rng(1).integers(len(space), size=200):
        params = {}
        for axis, position in zip(space.axes, space.positions[point], strict=True):
            from phonesearch.study.sampler import _value

            params[axis.name] = _value(axis, int(position))
            internal = wanted[axis.name].to_internal_repr(params[axis.name])
            assert wanted[axis.name]._contains(internal)
            params[axis.name] = wanted[axis.name].to_external_repr(internal)
        assert candidate_of(space, params) == space.candidate(int(point))


def test_a_small_space_is_drawn_to_its_last_point() -> None:
    tiny = files.read(resolve("tiny", "search_spaces"), SearchSpace)
    from dataclasses import replace

    from phonesearch.errors import SpaceExhaustedError
    from phonesearch.space.schema import Numbers

    small = replace(
        tiny,
        num_hidden_layers=Numbers(choices=(2, 3)),
        ffn_type=("gated",),
        hidden_act=("silu", "relu"),
        tie_word_embeddings=(True,),
        ffn_ratio=Numbers(choices=(2.0, 3.0)),
    )
    solved = at_budget(small, BUDGET)
    assert 1 < len(solved) < 120
    everything = drawn(solved, "random", trials=len(solved))
    assert len({candidate_id(candidate) for candidate in everything}) == len(solved)
    with pytest.raises(SpaceExhaustedError, match="were evaluated"):
        drawn(solved, "random", trials=len(solved) + 1)
