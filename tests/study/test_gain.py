from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from phonesearch import files
from phonesearch.candidate.config import candidate_id
from phonesearch.catalog import resolve
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.errors import SettingsError
from phonesearch.proxy.settings import ProxySettings
from phonesearch.sampling.sampler import CheapObjectiveSampler
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.gain import BudgetPoints, gain_sampler
from phonesearch.study.limits import Limits
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.sampler import candidate_of, distributions, positions_of
from phonesearch.study.settings import Constraints, RunSettings
from phonesearch.study.speeds import Speeds
from phonesearch.study.stopwatch import Turn, predicted

SETTINGS = RunSettings(
    device="snapdragon8gen3",
    engine=None,
    space="tiny",
    budget=300_000,
    sampler="gain",
    scored_by="prior",
    proxy=ProxySettings(),
)


@pytest.fixture(scope="module")
def space() -> BudgetedSpace:
    return at_budget(files.read(resolve("tiny", "search_spaces"), SearchSpace), SETTINGS.budget)


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    return read_profile(str(resolve("snapdragon8gen3", "device_profiles")))


@pytest.mark.parametrize("device", ["snapdragon8gen3", "pixel10"])
def test_speeds_are_those_of_the_whole_graph(device: str) -> None:
    known = read_profile(str(resolve(device, "device_profiles")))
    large = at_budget(files.read(resolve("decoder", "search_spaces"), SearchSpace), 1_000_000_000)
    turn = Turn(prompt_tokens=SETTINGS.prompt_tokens, generate_tokens=SETTINGS.generate_tokens)
    speeds = Speeds(SETTINGS, known)
    for place in np.random.default_rng(0).integers(len(large), size=12):
        candidate = large.candidate(int(place))
        whole = predicted(candidate, known, engine=None, turn=turn).speed
        fast = speeds.of(candidate)
        for name in ("ttft", "tpot", "turn"):
            one, other = getattr(fast, name), getattr(whole, name)
            assert one.value_s == pytest.approx(other.value_s, rel=1e-12)


def test_points_are_legal_and_neighbours_near(space: BudgetedSpace) -> None:
    points = BudgetPoints(space)
    drawn = points.draw(np.random.default_rng(0), 30)
    assert len({candidate_id(points.candidate(point)) for point in drawn}) == 30
    assert len(points.draw(np.random.default_rng(0), len(space) + 1)) == len(space)
    here = positions_of(space, dict(drawn[0]))
    near = points.near(drawn[0])
    distances = [
        space.distances(positions_of(space, dict(one)))[space.index_of(here)] for one in near
    ]
    typical = np.median(space.distances(here))
    assert 0 < max(distances) < typical


def drawn(sampler: CheapObjectiveSampler, space: BudgetedSpace, count: int) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(count):
        tell_one(study, space)
    return study


def tell_one(study: optuna.Study, space: BudgetedSpace) -> str:
    trial = study.ask(distributions(space))
    candidate = candidate_of(space, trial.params)
    study.tell(trial, (1e6 / candidate.num_hidden_layers, candidate.hidden_size / 1e4))
    return candidate_id(candidate)


def test_what_breaks_a_constraint_is_never_drawn(
    space: BudgetedSpace, profile: DeviceProfile
) -> None:
    turn = Turn(prompt_tokens=SETTINGS.prompt_tokens, generate_tokens=SETTINGS.generate_tokens)
    speeds = [
        predicted(space.candidate(place), profile, engine=None, turn=turn).speed
        for place in range(0, len(space), 97)
    ]
    least = float(np.quantile([one.decode_tokens_per_s for one in speeds], 0.7))
    settings = replace(SETTINGS, constraints=Constraints(min_speed_tokens_per_s=least))
    sampler = gain_sampler(settings, space, profile, Limits(settings, profile), num_draws=300)
    study = drawn(sampler, space, 12)
    for trial in study.trials:
        candidate = candidate_of(space, trial.params)
        speed = predicted(candidate, profile, engine=None, turn=turn).speed
        assert speed.decode_tokens_per_s >= least


def test_who_goes_on_draws_what_would_have_been_drawn(
    space: BudgetedSpace, profile: DeviceProfile
) -> None:
    def fresh() -> CheapObjectiveSampler:
        return gain_sampler(SETTINGS, space, profile, Limits(SETTINGS, profile), num_draws=300)

    whole = drawn(fresh(), space, 12)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=fresh())
    study.add_trials(whole.trials[:7])
    names = [tell_one(study, space) for _ in range(5)]
    expected = [candidate_id(candidate_of(space, one.params)) for one in whole.trials[7:]]
    assert names == expected


def test_measured_speeds_are_refused(tmp_path: Path) -> None:
    host = read_profile(str(resolve("host", "device_profiles")))
    space = files.read(resolve("tiny", "search_spaces"), SearchSpace)
    with pytest.raises(SettingsError, match="--sampler gain needs predicted speeds"):
        prepare(
            replace(SETTINGS, device="host"), space, host, cache_dir=tmp_path, observer=Silent()
        )
