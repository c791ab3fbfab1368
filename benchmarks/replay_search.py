"""Searches replayed on tables with known truth: how many trainings each sampler needs.

    python benchmarks/replay_search.py run --shape-tables FILE [--samplers ours,gp] [--seeds 10]
    python benchmarks/replay_search.py score
    python benchmarks/replay_search.py plot

FILE is a `tables.csv` of published shapes and losses with the LTS tables (arXiv 2203.02094), not
in this repository; of it the six with a measured latency are used. To them comes the exhaustive
table of our own (`benchmarks/exhaustive_table.py`). Every sampler goes through Optuna's ordinary
interface and proposes points of a box around the table's rows; each proposal is moved to the
nearest row not trained yet, and the sampler is told of that row (NSGA-II: of its values at the
proposed point, or it would not count a generation), so that none loses a training to a repeat or to
an architecture that the table lacks. Results are rows of `docs/search/replay.csv`, added to as they
come: it may be stopped and called again. GPSampler takes a second or so a trial, so all of it takes
an hour or two.

`--samplers ours-botorch` puts BoTorch's `SingleTaskGP` (a Matern kernel and a linear one) in the
place of our surrogate; it needs `pip install botorch`.

`score` gives the trainings that each sampler needs for 99 % of the best hypervolume, from the worst
values of the table as the corner, and the fewest that anybody who knew the truth would need. `plot`
draws the curves of hypervolume, `docs/search/replay.png`.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from phonesearch.report.look import OPERATOR_COLOURS
from phonesearch.sampling.improvement import area, staircase
from phonesearch.sampling.sampler import CheapObjectiveSampler
from phonesearch.sampling.surrogate import Evaluations

FOLDER = Path(__file__).parents[1] / "docs" / "search"
RESULTS = FOLDER / "replay.csv"
MOST_TRIALS = 100
SHARES = (0.95, 0.98, 0.99)
_DRAWN = {
    "ours": "ours",
    "gp": "GPSampler",
    "nsga2": "NSGA-II, population 10",
    "nsga2-50": "NSGA-II, population 50",
    "tpe": "TPE, multivariate",
    "random": "random",
}


@dataclass(frozen=True)
class Table:
    """Architectures with both objectives, all minimised."""

    name: str
    rows: list[dict[str, Any]]
    space: dict[str, BaseDistribution]
    cheap: np.ndarray
    costly: np.ndarray

    @property
    def corner(self) -> tuple[float, float]:
        """The worst values of the table."""
        return float(self.cheap.max()), float(self.costly.max())

    def covered(self, places: list[int]) -> float:
        """Share of the best hypervolume that these rows have."""
        every = area(staircase(self.cheap, self.costly, corner=self.corner))
        found = staircase(self.cheap[places], self.costly[places], corner=self.corner)
        return area(found) / every


def lts_tables(path: Path) -> list[Table]:
    every = pd.read_csv(path)
    tables = []
    for name, rows in every[every.dataset.str.startswith("lts/pareto")].groupby("dataset"):
        rows = rows[rows.value.notna() & rows.latency.notna()]
        names = [one for one in ("n_layer", "d_model", "d_ff", "n_head") if rows[one].notna().all()]
        rows = rows.drop_duplicates(names)
        space = {one: IntDistribution(int(rows[one].min()), int(rows[one].max())) for one in names}
        points = rows[names].astype(int).to_dict("records")
        cheap, costly = rows.latency.to_numpy(float), rows.value.to_numpy(float)
        tables.append(Table(str(name).removeprefix("lts/pareto_"), points, space, cheap, costly))
    return tables


def own_table(seed: int = 0) -> Table:
    speeds = pd.read_csv(FOLDER / "speeds.csv").set_index("candidate_id")
    losses = pd.read_csv(FOLDER / "losses.csv")
    rows = speeds.join(losses[losses.seed == seed].set_index("candidate_id"), how="inner")
    rows = rows.sort_index()
    space: dict[str, BaseDistribution] = {
        "num_hidden_layers": IntDistribution(4, 26),
        "query_heads_per_key_value_head": CategoricalDistribution(["1", "4", "all"]),
        "ffn_type": CategoricalDistribution(["gated", "plain"]),
        "ffn_ratio": FloatDistribution(1.5, 5.0),
        "hidden_act": CategoricalDistribution(["silu", "relu2"]),
    }
    points = rows[list(space)].to_dict("records")
    cheap = 1 / rows.measured_decode_tokens_per_s.to_numpy(float)
    return Table("exhaustive", points, space, cheap, rows.bits_per_byte.to_numpy(float))


def _ours(table: Table, seed: int, **options: Any) -> optuna.samplers.BaseSampler:
    known = {tuple(row.values()): value for row, value in zip(table.rows, table.cheap, strict=True)}
    return CheapObjectiveSampler(
        lambda point: known[tuple(point[name] for name in table.space)],
        space=table.space,
        points=table.rows,
        seed=seed,
        **options,
    )


class _BotorchSurrogate:
    """What `phonesearch.sampling.surrogate.Surrogate` does, by BoTorch."""

    def fit(self, seen: Evaluations) -> None:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
        from gpytorch.kernels import LinearKernel, ScaleKernel
        from gpytorch.mlls import ExactMarginalLogLikelihood

        features = self._features(seen.encoded, seen.trend)
        kernel = get_covar_module_with_dim_scaled_prior(
            ard_num_dims=features.shape[1], use_rbf_kernel=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model = SingleTaskGP(
                features,
                torch.tensor(seen.values)[:, None],
                covar_module=ScaleKernel(kernel) + LinearKernel(),
            )
            fit_gpytorch_mll(ExactMarginalLogLikelihood(self._model.likelihood, self._model))

    def predict(self, encoded: np.ndarray, trend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            found = self._model.posterior(self._features(encoded, trend))
        return found.mean.numpy()[:, 0], np.sqrt(found.variance.numpy()[:, 0])

    def take_as_seen(self, encoded: np.ndarray, trend: np.ndarray, values: np.ndarray) -> None:
        raise AssertionError("nothing is pending in a replay")

    @staticmethod
    def _features(encoded: np.ndarray, trend: np.ndarray) -> torch.Tensor:
        """The encoded parameters, and of the trend what is not among them: the cheap objective."""
        return torch.tensor(
            np.concatenate([encoded, trend[:, encoded.shape[1] :] / 2 + 0.5], axis=1)
        )


SAMPLERS: dict[str, Callable[[Table, int], optuna.samplers.BaseSampler]] = {
    "random": lambda table, seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda table, seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
    "nsga2-50": lambda table, seed: optuna.samplers.NSGAIISampler(seed=seed),
    "tpe": lambda table, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda table, seed: optuna.samplers.GPSampler(seed=seed),
    "ours": _ours,
    "ours-botorch": lambda table, seed: _ours(table, seed, make_surrogate=_BotorchSurrogate),
}


def replay(table: Table, name: str, seed: int) -> tuple[list[float], float]:
    """Share of the best hypervolume after each training; seconds a trial of the sampler."""
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=SAMPLERS[name](table, seed)
    )
    numbers = [one for one, kind in table.space.items() if not _is_named(kind)]
    names = [one for one in table.space if one not in numbers]
    rows = pd.DataFrame(table.rows)
    span = (rows[numbers].max() - rows[numbers].min()).replace(0, 1)
    places: list[int] = []
    curve: list[float] = []
    spent_s = 0.0
    for _ in range(min(MOST_TRIALS, len(rows))):
        started_s = time.perf_counter()
        trial = study.ask(table.space)
        spent_s += time.perf_counter() - started_s
        far = (
            ((rows[numbers] - pd.Series(trial.params)[numbers].astype(float)) / span)
            .abs()
            .sum(axis=1)
        )
        far = far + 0.5 * sum((rows[one] != trial.params[one]).astype(float) for one in names)
        far.iloc[places] = np.inf
        place = int(np.argmin(far))
        places.append(place)
        values = [float(table.cheap[place]), float(table.costly[place])]
        # NSGA-II counts its generations in trials of its own, so it is told at its own point.
        is_there = all(trial.params[one] == rows[one].iloc[place] for one in table.space)
        if is_there or name.startswith("nsga2"):
            study.tell(trial, values)
        else:
            study.tell(trial, state=TrialState.FAIL)
            study.add_trial(
                optuna.trial.create_trial(
                    params=table.rows[place], distributions=table.space, values=values
                )
            )
        curve.append(table.covered(places))
        if curve[-1] >= max(SHARES) and len(curve) >= 30:
            break
    return curve, spent_s / len(curve)


def _is_named(kind: BaseDistribution) -> bool:
    return isinstance(kind, CategoricalDistribution)


def oracle(table: Table, share: float) -> int:
    """Trainings of one who knows the truth, and takes what adds most each time."""
    places: list[int] = []
    while not places or table.covered(places) < share:
        left = [place for place in range(len(table.rows)) if place not in places]
        places.append(max(left, key=lambda place: table.covered([*places, place])))
    return len(places)


def run(tables: list[Table], names: list[str], seeds: int) -> None:
    known = set()
    if RESULTS.is_file():
        done = pd.read_csv(RESULTS)
        known = set(zip(done.table, done.sampler, done.seed, strict=True))
    for seed in range(seeds):
        for table in tables:
            for name in names:
                if (table.name, name, seed) in known:
                    continue
                curve, seconds = replay(table, name, seed)
                row = {
                    "table": table.name,
                    "sampler": name,
                    "seed": seed,
                    **{f"trainings_{share:.0%}": _reached(curve, share) for share in SHARES},
                    "sampler_s": round(seconds, 4),
                    "curve": json.dumps([round(one, 4) for one in curve]),
                }
                is_new = not RESULTS.is_file()
                with RESULTS.open("a", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, list(row), lineterminator="\n")
                    if is_new:
                        writer.writeheader()
                    writer.writerow(row)
                print({key: value for key, value in row.items() if key != "curve"}, flush=True)


def _reached(curve: list[float], share: float) -> int:
    """Trainings until a share; one more than were made, where they did not reach it."""
    return next((at + 1 for at, one in enumerate(curve) if one >= share), len(curve) + 1)


def score(tables: list[Table]) -> None:
    done = pd.read_csv(RESULTS)
    column = "trainings_99%"
    for table in tables:
        rows = done[done.table == table.name]
        medians = rows.groupby("sampler")[column].median()
        print(f"{table.name}: {len(table.rows)} architectures, fewest {oracle(table, 0.99)}")
        for name, median in medians.items():
            ratio = f", {medians['ours'] / median:.2f} of it" if "ours" in medians else ""
            print(
                f"    {name}: {median:g} trainings (median of {sum(rows.sampler == name)}{ratio})"
            )


def plot() -> None:
    """Hypervolume against trainings: the median of the seeds, and the middle eight of ten."""
    done = pd.read_csv(RESULTS)
    names = list(dict.fromkeys(done.table))
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4, sharey=True).flatten()
    for one, name in zip(axes, names, strict=False):
        rows = done[done.table == name]
        longest = 100 if name == "exhaustive" else 40
        for (sampler, label), colour in zip(_DRAWN.items(), OPERATOR_COLOURS, strict=False):
            curves = [json.loads(text) for text in rows[rows.sampler == sampler].curve]
            if not curves:
                continue
            # A replay ends once it has 99 %, and stays where it is.
            padded = [(curve + curve[-1:] * longest)[:longest] for curve in curves]
            low, middle, high = np.quantile(np.array(padded), (0.1, 0.5, 0.9), axis=0)
            at = np.arange(1, longest + 1)
            width = 2.2 if sampler == "ours" else 1.2
            one.plot(at, middle, color=colour, linewidth=width, label=label)
            if sampler in ("ours", "gp"):
                one.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        one.axhline(0.99, color="#59636e", linewidth=0.8, linestyle=":")
        one.set_title(name, fontsize=10)
        one.set_ylim(0.6, 1.005)
        one.set_xlabel("trainings")
    for one in axes[::4]:
        one.set_ylabel("share of the best hypervolume")
    axes[len(names)].axis("off")
    axes[len(names)].legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure.savefig(FOLDER / "replay.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "score", "plot"])
    parser.add_argument("--shape-tables", type=Path)
    parser.add_argument("--samplers", default="random,nsga2,nsga2-50,tpe,gp,ours")
    parser.add_argument("--tables", default="")
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    if chosen.command == "plot":
        plot()
        return
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = [] if chosen.shape_tables is None else lts_tables(chosen.shape_tables)
    if (FOLDER / "losses.csv").is_file():
        tables.append(own_table())
    tables = [one for one in tables if not chosen.tables or one.name in chosen.tables.split(",")]
    if chosen.command == "run":
        run(tables, chosen.samplers.split(","), chosen.seeds)
    else:
        score(tables)


if __name__ == "__main__":
    main()
