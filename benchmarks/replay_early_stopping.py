"""Early stopping replayed on the exhaustive table: tokens spent, and front lost.

    OMP_NUM_THREADS=1 python benchmarks/replay_early_stopping.py [--orders 10] [--confidence 0.95]

The candidates of `docs/search/losses.csv` are trained in random order, or in that of the sampler
(`--order gain`), the first twelve to their end. Each other is asked at every rung of a run what it
will come to, by the forecast that runs use (`phonesearch.sampling.forecast`) from those that ended;
it is dropped where even the good end of the forecast is no better than one as fast that ended.
Speed is the one measured, loss the bits per byte of the table, so nothing here depends on the
quality model. Printed are the share of all training tokens, the share of the table's hypervolume
that those have which were trained to their end, and how many of those dropped would have been on
the front of all. Before that: how well the curve alone tells the end at each rung. After it: how
many of those dropped would have ended below the good end of their forecast, where 5 % are expected.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import optuna
import pandas as pd
from replay_search import FOLDER, Table, own_table
from scipy.special import ndtri

from phonesearch.proxy.loop import RUNG_SHARES
from phonesearch.sampling.encoding import Encoder
from phonesearch.sampling.forecast import Trained, forecast, overconfidence
from phonesearch.sampling.improvement import area, staircase
from phonesearch.sampling.sampler import CheapObjectiveSampler
from phonesearch.study.early import FEWEST_ENDED


def curves() -> tuple[np.ndarray, np.ndarray]:
    """Shares of the tokens at the rungs, and log loss of each row of `own_table` there."""
    speeds = pd.read_csv(FOLDER / "speeds.csv").set_index("candidate_id")
    losses = pd.read_csv(FOLDER / "losses.csv")
    rows = losses[losses.seed == 0].set_index("candidate_id")
    rows = speeds.join(rows, how="inner").sort_index()
    every = [json.loads(text) for text in rows.curve]
    tokens = np.array([point[0] for point in every[0]])
    places = [int(np.argmin(np.abs(tokens / tokens[-1] - share))) for share in RUNG_SHARES]
    losses_at = np.log(np.array([[point[1] for point in one] for one in every])[:, places])
    return tokens[places] / tokens[-1], losses_at


class _Order:
    """Which row is next: at random, or what the sampler takes from what ended."""

    def __init__(self, table: Table, seed: int, *, by_gain: bool) -> None:
        self._table, self._by_gain = table, by_gain
        self._rows = list(np.random.default_rng(seed).permutation(len(table.rows)))
        known = {tuple(row.values()): place for place, row in enumerate(table.rows)}
        self._known = known
        self._study = optuna.create_study(
            directions=["minimize", "minimize"],
            sampler=CheapObjectiveSampler(
                lambda point: float(table.cheap[known[tuple(point[name] for name in table.space)]]),
                space=table.space,
                points=table.rows,
                seed=seed,
            ),
        )

    def take(self) -> int:
        if not self._by_gain:
            return int(self._rows.pop())
        self._trial = self._study.ask(self._table.space)
        return self._known[tuple(self._trial.params[name] for name in self._table.space)]

    def tell(self, value: float, *, ended: bool) -> None:
        if not self._by_gain:
            return
        if ended:
            place = self._known[tuple(self._trial.params[name] for name in self._table.space)]
            self._study.tell(self._trial, (float(self._table.cheap[place]), value))
        else:
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)


def replay(
    table: Table, shares: np.ndarray, standing: np.ndarray, order: _Order, z: float
) -> tuple[float, list[int], list[int], int]:
    """Share of tokens, rows that ended and rows that were dropped, and how many of these would have
    ended below the good end of their forecast."""
    features = Encoder(table.space).rows(table.rows)
    final = np.log(table.costly)
    ended: list[int] = []
    dropped: list[int] = []
    tokens, below = 0.0, 0
    for _ in range(len(table.rows)):
        row = order.take()
        share = 1.0
        rivals = [one for one in ended if table.cheap[one] <= table.cheap[row]]
        for rung, at in enumerate(shares if len(ended) >= FEWEST_ENDED and rivals else []):
            trained = Trained(
                features=features[ended], standing=standing[ended, rung], final=final[ended]
            )
            best = min(final[one] for one in rivals)
            mean, sd = forecast(
                trained, features=features[row], standing=float(standing[row, rung])
            )
            if mean - z * sd <= best:
                continue
            good_end = mean - z * sd * overconfidence(trained)
            if good_end > best:
                share = float(at)
                below += int(final[row] < good_end)
                break
        tokens += share
        (ended if share == 1.0 else dropped).append(row)
        order.tell(float(table.costly[row]), ended=share == 1.0)
    return tokens / len(table.rows), ended, dropped, below


def by_curve_alone(table: Table, shares: np.ndarray, standing: np.ndarray) -> None:
    """Print the deviation of log losses around a straight line through where curves stood."""
    final = np.log(table.costly)
    print(f"log losses deviate by {final.std():.2%}; by the curve alone, after so many tokens:")
    for rung, share in enumerate(shares):
        line = np.polynomial.Polynomial.fit(standing[:, rung], final, 1)
        left = (final - line(standing[:, rung])).std()
        print(f"    {share:.0%}: {left:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--order", choices=["random", "gain"], default="random")
    parser.add_argument("--confidence", type=float, default=0.95)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = own_table()
    shares, standing = curves()
    steps = staircase(table.cheap, table.costly, corner=table.corner)
    on_front = {
        row
        for row in range(len(table.rows))
        if any(
            table.cheap[row] == edge and table.costly[row] == level
            for edge, level in zip(steps.edges[1:-1], steps.levels[1:], strict=True)
        )
    }
    z = float(ndtri(chosen.confidence))
    by_curve_alone(table, shares, standing)
    found = []
    for seed in range(chosen.orders):
        order = _Order(table, seed, by_gain=chosen.order == "gain")
        spent, ended, dropped, below = replay(table, shares, standing, order, z)
        reached = staircase(table.cheap[ended], table.costly[ended], corner=table.corner)
        kept = area(reached) / area(steps)
        lost = len(on_front & set(dropped))
        found.append((spent, kept, lost, len(dropped), below))
        print(
            f"order {seed}: {spent:.1%} of the tokens, {len(dropped)} of {len(table.rows)} "
            f"dropped, {lost} of {len(on_front)} of the front among them, "
            f"hypervolume {kept:.2%}",
            flush=True,
        )
    means = np.mean(found, axis=0)
    print(
        f"mean: {means[0]:.1%} of the tokens, hypervolume {means[1]:.2%} (least "
        f"{min(one[1] for one in found):.2%}); of {sum(one[3] for one in found)} dropped "
        f"{sum(one[2] for one in found)} were of the front, and "
        f"{sum(one[4] for one in found)} would have ended below the good end of their forecast"
    )


if __name__ == "__main__":
    main()
