"""On a table of 162 decoders whose loss follows a power law with penalties, as trained ones do."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from phonesearch.errors import SettingsError, SpaceExhaustedError
from phonesearch.sampling.improvement import area, staircase
from phonesearch.sampling.sampler import ESTIMATE, CheapObjectiveSampler

Params = dict[str, Any]
SPACE: dict[str, BaseDistribution] = {
    "n_layer": IntDistribution(3, 12, step=3),
    "d_model": CategoricalDistribution([128, 256, 512]),
    "d_inner": CategoricalDistribution([512, 1024, 2048]),
    "n_head": CategoricalDistribution([2, 4, 8]),
    "act": CategoricalDistribution(["silu", "relu2"]),
}
CHOICES: dict[str, list[Any]] = {
    "n_layer": [3, 6, 9, 12],
    "d_model": [128, 256, 512],
    "d_inner": [512, 1024, 2048],
    "n_head": [2, 4, 8],
    "act": ["silu", "relu2"],
}


def size(point: Any) -> float:
    d, inner = point["d_model"], point["d_inner"]
    return float(point["n_layer"] * (4 * d * d + 2 * d * inner))


def seconds(point: Any) -> float:
    return 0.05 * point["n_layer"] + size(point) / 1e7


def luck(point: Any) -> float:
    return math.sin(1e3 * size(point) + 7 * point["n_head"] + len(point["act"]))


def loss(point: Any) -> float:
    aspect = math.log(point["d_model"] / point["n_layer"]) - 3.3
    best = 0.02 if point["act"] == "silu" else 0.0
    return 1.8 + 20 * size(point) ** -0.2 + 0.04 * aspect**2 + best + 0.01 * luck(point)


def every_point() -> list[Params]:
    return [dict(zip(CHOICES, one, strict=True)) for one in itertools.product(*CHOICES.values())]


def suggested(trial: optuna.Trial) -> Params:
    return {
        "n_layer": trial.suggest_int("n_layer", 3, 12, step=3),
        "d_model": trial.suggest_categorical("d_model", [128, 256, 512]),
        "d_inner": trial.suggest_categorical("d_inner", [512, 1024, 2048]),
        "n_head": trial.suggest_categorical("n_head", [2, 4, 8]),
        "act": trial.suggest_categorical("act", ["silu", "relu2"]),
    }


def share(points: list[Params]) -> float:
    """Of the best hypervolume of the table."""
    every = every_point()
    corner = (max(map(seconds, every)), max(map(loss, every)))

    def covered(some: list[Params]) -> float:
        cheap, costly = np.array([*map(seconds, some)]), np.array([*map(loss, some)])
        return area(staircase(cheap, costly, corner=corner))

    return covered(points) / covered(every)


def needed(sampler: optuna.samplers.BaseSampler, target: float = 0.99) -> int:
    """Distinct architectures trained until the share is reached."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    trained: dict[tuple[Any, ...], Params] = {}
    for _ in range(400):
        trial = study.ask()
        point = suggested(trial)
        trained[tuple(point.values())] = point
        study.tell(trial, (seconds(point), loss(point)))
        if share(list(trained.values())) >= target:
            break
    return len(trained)


def sampler_of(seed: int, **options: Any) -> CheapObjectiveSampler:
    cheap: Callable[[Any], float | None] = options.pop("cheap", seconds)
    return CheapObjectiveSampler(cheap, seed=seed, **options)


def test_it_needs_far_fewer_trainings_than_random_draws() -> None:
    ours = np.median([needed(sampler_of(seed)) for seed in range(4)])
    random = np.median([needed(optuna.samplers.RandomSampler(seed=seed)) for seed in range(4)])
    assert ours <= random / 3


SMALL: dict[str, BaseDistribution] = {name: SPACE[name] for name in ("n_layer", "d_model", "act")}


def whole(trial: optuna.Trial) -> Params:
    return {**trial.params, "d_inner": 1024, "n_head": 4}


def test_every_point_comes_once_and_then_optimize_ends() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        point = {name: trial._suggest(name, kind) for name, kind in SMALL.items()}
        if trial.number % 5 == 4:
            raise optuna.TrialPruned
        return seconds({**point, "d_inner": 1024}), loss(whole(trial))

    sampler = sampler_of(0, cheap=lambda point: seconds({**point, "d_inner": 1024}), space=SMALL)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=500)
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(tried)) == len(tried) == 4 * 3 * 2
    with pytest.raises(SpaceExhaustedError):
        study.ask(SMALL)


def test_who_asks_and_tells_to_the_last_point_is_told_on_asking_again() -> None:
    points = every_point()[:5]
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=sampler_of(0, space=SPACE, points=points)
    )
    assert len({tuple(point.values()) for point in asked(study, 5)}) == 5
    with pytest.raises(SpaceExhaustedError):
        study.ask(SPACE)


def test_points_without_a_cheap_value_and_refused_ones_never_come() -> None:
    def table(point: Any) -> float | None:
        if point["n_layer"] == 12:
            raise KeyError(point["n_layer"])
        return math.nan if point["n_layer"] == 9 else seconds(point)

    sampler = sampler_of(
        0,
        cheap=table,
        space=SPACE,
        accept=lambda point: point["d_model"] != 512 and point["n_head"] == 2,
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (seconds(suggested(trial)), loss(trial.params)), n_trials=500)
    assert len(study.trials) == 2 * 2 * 3 * 2
    assert {trial.params["n_layer"] for trial in study.trials} == {3, 6}
    assert {trial.params["d_model"] for trial in study.trials} == {128, 256}


def test_a_space_without_any_allowed_point_is_refused() -> None:
    sampler = sampler_of(0, space=SPACE, accept=lambda point: False)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    with pytest.raises(SpaceExhaustedError, match="allowed"):
        study.ask(SPACE)


def test_a_table_of_a_few_rows_in_a_large_space_is_found_by_its_cheap_values() -> None:
    """150 of 300,000 combinations: the first draws meet a handful of them."""
    space: dict[str, BaseDistribution] = {
        "d_model": IntDistribution(1, 300),
        "d_inner": IntDistribution(1, 1000),
    }
    places = np.random.default_rng(1).choice(300_000, size=150, replace=False)
    table = {(int(one) // 1000 + 1, int(one) % 1000 + 1): float(one % 977) for one in places}

    def cheap(point: Any) -> float:
        return table[point["d_model"], point["d_inner"]]

    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=CheapObjectiveSampler(cheap, space=space, seed=0),
    )
    study.optimize(
        lambda trial: (
            cheap(
                {
                    name: trial.suggest_int(name, one.low, one.high)
                    for name, one in space.items()
                    if isinstance(one, IntDistribution)
                }
            ),
            float(trial.number),
        ),
        n_trials=160,
    )
    assert len(study.trials) == 150
    found = {(one.params["d_model"], one.params["d_inner"]) for one in study.trials}
    assert found == set(table)


def test_listed_points_are_all_there_is() -> None:
    listed = every_point()[::9]
    sampler = sampler_of(0, space=SPACE, points=listed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (seconds(suggested(trial)), loss(trial.params)), n_trials=500)
    assert {tuple(trial.params.values()) for trial in study.trials} == {
        tuple(point.values()) for point in listed
    }
    assert len(study.trials) == len(listed)


def asked(study: optuna.Study, count: int) -> list[Params]:
    found = []
    for _ in range(count):
        trial = study.ask(SPACE)
        found.append(trial.params)
        study.tell(trial, (seconds(trial.params), loss(trial.params)))
    return found


def test_maximising_speed_proposes_what_minimising_time_does() -> None:
    def speed(point: Any) -> float:
        return 1 / seconds(point)

    slow = optuna.create_study(
        directions=["minimize", "minimize"], sampler=sampler_of(3, space=SPACE, log_cheap=True)
    )
    fast = optuna.create_study(
        directions=["minimize", "maximize"],
        sampler=sampler_of(3, cheap=speed, space=SPACE, cheap_objective=1, log_cheap=True),
    )
    for point in every_point()[::23]:
        for study, values in (
            (slow, (seconds(point), loss(point))),
            (fast, (loss(point), speed(point))),
        ):
            study.add_trial(
                optuna.trial.create_trial(params=point, distributions=SPACE, values=values)
            )
    for _ in range(6):
        one, other = slow.ask(SPACE), fast.ask(SPACE)
        assert one.params == other.params
        slow.tell(one, (seconds(one.params), loss(one.params)))
        fast.tell(other, (loss(other.params), speed(other.params)))


def test_the_same_seed_proposes_the_same() -> None:
    def run() -> list[Params]:
        study = optuna.create_study(
            directions=["minimize", "minimize"], sampler=sampler_of(5, space=SPACE)
        )
        return asked(study, 10)

    assert run() == run()


def test_trials_that_run_elsewhere_are_not_proposed_again_and_count_as_expected() -> None:
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=sampler_of(0, space=SPACE)
    )
    asked(study, 8)
    pending = [study.ask(SPACE).params for _ in range(6)]
    assert len({tuple(point.values()) for point in pending}) == 6
    # Without looking at what runs, all six would be wanted for the same gap of the front.
    speeds = sorted(map(seconds, pending))
    assert speeds[-1] > 1.5 * speeds[0]


def test_a_misleading_guess_is_overruled_by_the_data() -> None:
    def wrong(point: Any) -> tuple[float]:
        return (-10 * (loss(point) - 2.5),)

    misled = np.mean([needed(sampler_of(seed, features=wrong)) for seed in range(3)])
    random = np.mean([needed(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)])
    assert misled <= random / 2


def test_a_good_guess_saves_trainings() -> None:
    def right(point: Any) -> tuple[float]:
        return (loss(point) - 2.5,)

    helped = np.mean([needed(sampler_of(seed, features=right)) for seed in range(3)])
    alone = np.mean([needed(sampler_of(seed)) for seed in range(3)])
    assert helped < alone


def test_what_a_trial_that_was_given_up_said_is_learnt_from() -> None:
    """All that are dropped are said to be bad by their activation, so the other one is tried."""
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=sampler_of(0, space=SPACE)
    )
    for point in every_point()[::23]:
        if point["act"] == "relu2":
            continue
        study.add_trial(
            optuna.trial.create_trial(
                params=point, distributions=SPACE, values=[seconds(point), loss(point)]
            )
        )
    for point in [one for one in every_point() if one["act"] == "relu2"][::9]:
        study.add_trial(
            optuna.trial.create_trial(
                params=point,
                distributions=SPACE,
                state=TrialState.FAIL,
                user_attrs={ESTIMATE: [loss(point) + 1.0, 0.01]},
            )
        )
    proposed = asked(study, 6)
    assert all(point["act"] == "silu" for point in proposed)


def test_threads_of_one_study_take_different_points() -> None:
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=sampler_of(0, space=SPACE)
    )
    study.optimize(
        lambda trial: (seconds(suggested(trial)), loss(trial.params)), n_trials=24, n_jobs=4
    )
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(tried)) == len(tried) == 24


def test_it_can_be_pickled() -> None:
    sampler = pickle.loads(pickle.dumps(sampler_of(0, space=SPACE)))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    assert len(asked(study, 5)) == 5


def test_a_study_of_one_objective_is_refused() -> None:
    study = optuna.create_study(sampler=sampler_of(0, space=SPACE))
    with pytest.raises(SettingsError, match="two objectives"):
        study.ask(SPACE)


def test_an_objective_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="cheap_objective"):
        CheapObjectiveSampler(seconds, cheap_objective=2)


def test_a_space_too_large_to_list_is_searched_around_its_front() -> None:
    wide: dict[str, BaseDistribution] = {
        **SPACE,
        "d_inner": IntDistribution(64, 4096),
        "n_layer": IntDistribution(1, 48),
    }
    sampler = CheapObjectiveSampler(seconds, space=wide, num_draws=200, log_cheap=True, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for _ in range(15):
        trial = study.ask(wide)
        study.tell(trial, (seconds(trial.params), loss(trial.params)))
    pool = sampler._pool
    assert pool is not None
    assert len(pool.points) > 200
