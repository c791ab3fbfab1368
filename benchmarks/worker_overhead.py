"""What it costs a trial to be shared: storage and sampling besides the sampler's own choice.

Trials do nothing but be drawn at random, counted and stored, with a record of usual size, on a
PostgreSQL that this script starts, or on SQLite. Beside them runs what Optuna does by itself:
`study.optimize` with its RandomSampler, the same parameters, and the record as an attribute, on
the same server and in as many processes. Goals: at most 50 ms of bookkeeping a trial of one
worker, at least 20 trials a second of 8 workers on 2 cores.

    python benchmarks/worker_overhead.py [--engine postgresql|sqlite] [--trials 200] [--workers 8]

Needs PostgreSQL's server programs (Debian: postgresql) and `pip install psycopg[binary]`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.pool
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "workers"))

import optuna
from fleets import QuickRun, check_counts
from postgres import Server

from phonesearch.study.folder import open_folder
from phonesearch.study.observer import Silent
from phonesearch.study.sampler import BudgetSampler, distributions
from phonesearch.study.settings import RunSettings
from phonesearch.study.shared import fleet_of, shared_study
from phonesearch.study.worker import Tools, Worker

_FLEET = {"heartbeat_s": 15, "grace_s": 60}


def ours(url: str, path: Path, barrier: Any) -> tuple[float, float, int]:
    """When the first trial began, and of how long the sampler chose; trials."""
    choosing = 0.0
    sample = BudgetSampler.sample_relative

    def timed(self: BudgetSampler, *given: Any) -> dict[str, Any]:
        nonlocal choosing
        began_s = time.perf_counter()
        try:
            return sample(self, *given)
        finally:
            choosing += time.perf_counter() - began_s

    BudgetSampler.sample_relative = timed  # type: ignore[method-assign]
    folder = open_folder(path)
    with shared_study(url, "quick", fleet=fleet_of(folder.settings)) as study:
        prepared = prepared_of(folder.settings, path)
        tools = Tools(name=f"{multiprocessing.current_process().pid}", train=None, meter=None)
        worker = Worker(study, folder, prepared, tools=tools, observer=Silent())
        barrier.wait()
        done = worker.work()
    BudgetSampler.sample_relative = sample  # type: ignore[method-assign]
    return time.time(), choosing, done


def prepared_of(settings: RunSettings, path: Path) -> Any:
    from fleets import solved

    return solved(settings, open_folder(path), path)


def optunas(url: str, path: Path, barrier: Any) -> tuple[float, float, int]:
    """The same with what Optuna has."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = open_folder(path)
    space = distributions(prepared_of(folder.settings, path).space)
    record = "x" * 3000
    storage = optuna.storages.RDBStorage(
        url.replace("{", "%7B"), heartbeat_interval=15, grace_period=60
    )
    study = optuna.load_study(
        study_name="optuna", storage=storage, sampler=optuna.samplers.RandomSampler()
    )
    wanted = folder.settings.trials
    done = 0

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        nonlocal done
        for name, entry in space.items():
            if isinstance(entry, optuna.distributions.CategoricalDistribution):
                trial.suggest_categorical(name, entry.choices)
            elif isinstance(entry, optuna.distributions.IntDistribution):
                trial.suggest_int(name, entry.low, entry.high, step=entry.step)
            elif isinstance(entry, optuna.distributions.FloatDistribution):
                trial.suggest_float(name, entry.low, entry.high, step=entry.step)
        trial.set_user_attr("record", record)
        done += 1
        return 1.0, 2.0

    full = optuna.study.MaxTrialsCallback(wanted, states=None)
    barrier.wait()
    study.optimize(objective, callbacks=[full])
    return time.time(), 0.0, done


def trials_per_second(
    what: Callable[..., tuple[float, float, int]], url: str, path: Path, workers: int
) -> tuple[float, float, int]:
    """Of all processes together, from when all were ready; and seconds of choosing a trial."""
    context = multiprocessing.get_context("spawn")
    with multiprocessing.Manager() as manager, context.Pool(workers) as pool:
        barrier = manager.Barrier(workers + 1)
        results = [pool.apply_async(what, (url, path, barrier)) for _ in range(workers)]
        barrier.wait()
        began_s = time.time()
        found = [result.get() for result in results]
    total = sum(done for _, _, done in found)
    elapsed_s = max(ended for ended, _, _ in found) - began_s
    return total / elapsed_s, sum(choosing for _, choosing, _ in found) / total, total


def main() -> None:
    arguments = argparse.ArgumentParser(description="What it costs a trial to be shared.")
    arguments.add_argument("--engine", choices=("postgresql", "sqlite"), default="postgresql")
    arguments.add_argument("--trials", type=int, default=200)
    arguments.add_argument("--workers", type=int, default=8)
    given = arguments.parse_args()
    with ExitStack() as stack:
        server = None
        if given.engine == "postgresql":
            server = Server()
            stack.callback(server.close)
        summary: dict[str, Any] = {"engine": given.engine, "trials": given.trials}
        for workers in (1, given.workers):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = server.database(f"d{workers}") if server else f"sqlite:///{folder / 'study.db'}"
            run = QuickRun.make(folder / "run", url, stack, trials=given.trials, fleet=_FLEET)
            optuna.create_study(
                study_name="optuna",
                storage=url.replace("{", "%7B"),
                directions=["maximize", "minimize"],
            )
            theirs = trials_per_second(optunas, url, run.folder.path, workers)
            found = trials_per_second(ours, url, run.folder.path, workers)
            check_counts(run, given.trials)
            print(
                f"{workers} workers: {found[0]:.1f} trials/s ({found[2]} trials; sampler "
                f"{found[1] * 1e3:.1f} ms a trial), Optuna's own loop {theirs[0]:.1f} "
                f"({theirs[2]} trials): ratio {found[0] / theirs[0]:.2f}"
            )
            summary[f"trials_per_s_{workers}"] = found[0]
            summary[f"optuna_trials_per_s_{workers}"] = theirs[0]
            if workers == 1:
                bookkeeping_s = 1 / found[0] - found[1]
                print(f"besides the sampler: {bookkeeping_s * 1e3:.1f} ms a trial, evaluation too")
                summary["bookkeeping_s"] = bookkeeping_s
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
