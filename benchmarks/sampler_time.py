"""Seconds that the sampler `gain` takes for a choice, beside Optuna's GPSampler.

    python benchmarks/sampler_time.py [--trials 500] [--draws 5]

The study is of the default space at 1.5B for a phone, with as many finished trials as asked for:
random legal points, their predicted speed, and a loss by published laws with 1 % of noise. The
first choice of a process also predicts the speeds of all points that are looked at, 20,000; it
stands apart. GPSampler models both objectives of the same trials and looks at no speeds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import optuna

from phonesearch import files
from phonesearch.catalog import resolve
from phonesearch.device.profile import read_profile
from phonesearch.proxy.settings import ProxySettings
from phonesearch.quality.model import quality
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.study.gain import gain_sampler
from phonesearch.study.judge import make_judge
from phonesearch.study.limits import Limits
from phonesearch.study.sampler import candidate_of, distributions, params_of
from phonesearch.study.settings import RunSettings
from phonesearch.study.speeds import Speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--draws", type=int, default=5)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    settings = RunSettings(
        device="snapdragon8gen3",
        engine=None,
        space="decoder",
        budget=1_500_000_000,
        scored_by="each",
        sampler="gain",
        proxy=ProxySettings(),
    )
    profile = read_profile(str(resolve(settings.device, "device_profiles")))
    space = at_budget(
        files.read(resolve(settings.space, "search_spaces"), SearchSpace), settings.budget
    )
    model, speeds = make_judge(settings).model, Speeds(settings, profile)
    kinds, rng = distributions(space), np.random.default_rng(0)

    def told(params: dict[str, object]) -> tuple[float, float]:
        candidate = candidate_of(space, params)
        loss = quality(model, candidate).mean + 0.01 * rng.normal()
        return speeds.of(candidate).decode_tokens_per_s, float(loss)

    study = optuna.create_study(directions=["maximize", "minimize"])
    for place in rng.choice(len(space), chosen.trials, replace=False):
        params = params_of(space, int(place))
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=kinds, values=told(params))
        )
    samplers = {
        "gain": gain_sampler(settings, space, profile, Limits(settings, profile)),
        "gp": optuna.samplers.GPSampler(seed=0),
    }
    several = {name: kind for name, kind in kinds.items() if not kind.single()}
    found: dict[str, object] = {"finished_trials": chosen.trials}
    for name, sampler in samplers.items():
        study.sampler = sampler
        spent = []
        for _ in range(chosen.draws + 1):
            started_s = time.perf_counter()
            trial = study.ask(kinds if name == "gain" else several)
            spent.append(time.perf_counter() - started_s)
            if name == "gain":
                study.tell(trial, told(trial.params))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        found[f"{name}_first_s"] = round(spent[0], 2)
        found[f"{name}_median_s"] = round(float(np.median(spent[1:])), 2)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
