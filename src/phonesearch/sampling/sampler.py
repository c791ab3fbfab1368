"""An Optuna sampler for two objectives of which one is cheap and exact and the other is dear.

General samplers model both objectives, and spend trials on points whose cheap objective alone shows
that they cannot be on the front. This one asks for the cheap objective of very many points, models
only the costly one, and takes the point that is expected to add most to the dominated area.

    import optuna
    from phonesearch.sampling.sampler import CheapObjectiveSampler

    def seconds(params):                     # cheap: exact, and asked thousands of times
        return params["n_layer"] * params["d_model"] ** 2 * 1e-9

    def objective(trial):
        params = {
            "n_layer": trial.suggest_int("n_layer", 2, 24),
            "d_model": trial.suggest_categorical("d_model", [256, 512, 768, 1024]),
        }
        return seconds(params), train(params)

    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=CheapObjectiveSampler(seconds, cheap_objective=0, seed=0),
    )
    study.optimize(objective, n_trials=40)
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from phonesearch.errors import SettingsError, SpaceExhaustedError
from phonesearch.sampling.improvement import expected_gain, staircase
from phonesearch.sampling.points import Crossed, Listed, Point, Points
from phonesearch.sampling.pool import Pool
from phonesearch.sampling.surrogate import Beliefs, Evaluations, Surrogate

Array = NDArray[np.float64]

ESTIMATE: Final = "phonesearch:estimate"
"""User attribute of a trial that ended without its costly objective, with what is known of it:
[expected value, standard deviation]."""
NUM_DRAWS: Final = 20_000
_MANY_MISSING: Final = 0.5
"""Share of the points drawn that do not exist, from which on more are drawn, as where a table holds
some combinations of a large space."""
_MOST_TIMES: Final = 50.0
"""Times `num_draws` that are drawn then at most."""
_STARTUP_TRIALS: Final = 3
"""Evaluations before the model is asked. With 2 or 5 the public tables take no fewer in all."""
_STARTUP_SHARES: Final = (0.5, 0.0, 1.0, 0.25, 0.75, 0.125, 0.875, 0.375, 0.625)
"""Quantiles of the cheap objective at which the first evaluations are made."""
_STARTUP_WINDOW: Final = 0.05


def _none(point: Point) -> tuple[float, ...]:
    return ()


def _any(point: Point) -> bool:
    return True


class CheapObjectiveSampler(optuna.samplers.BaseSampler):
    """Takes the point that is expected to add most area to the front.

    Ordinary in every other way: objectives may be minimised or maximised, parameters be of any
    kind. Trials that run elsewhere count with what is expected of them, trials that failed are not
    tried again, and no point is proposed twice. A trial that was given up with an estimate, see
    `ESTIMATE`, teaches the model that much.

    Args:
        cheap: The cheap objective of a point (a mapping of all parameters by name), in the unit
            that the study is told. A point for which it gives None or NaN, or raises a
            `LookupError`, does not exist and is never proposed.
        cheap_objective: Which of the study's two objectives that is.
        space: Search space, by parameter. None: learnt from the first trial, which is random.
        points: All points that there are: a sequence of mappings, or `Points`. None: every
            combination of the space.
        features: Numbers from about -1 to 1 for a point, which the costly objective may depend on
            in a straight line; a guess at it made elsewhere is the best one.
        accept: Whether a point may be proposed at all.
        noise_sd: Standard deviation of the costly objective between two evaluations of one point;
            None: estimated.
        log_cheap: Count area in the logarithm of the cheap objective, so that twice as fast is
            worth the same everywhere.
        make_surrogate: Another model of the costly objective than ours, new for each choice.
        num_startup_trials: Evaluations, spread over the cheap objective, before the model is asked.
        num_draws: Points looked at in a space that has more; points near the front come on top.
            Where most of them do not exist, up to fifty times as many.
        seed: Of the draws. None: other ones each time.

    Raises:
        SettingsError: If the study has not two objectives.
        SpaceExhaustedError: From `study.ask`, when every point was tried. `study.optimize` ends
            without an error.
    """

    def __init__(
        self,
        cheap: Callable[[Point], float | None],
        *,
        cheap_objective: int = 0,
        space: Mapping[str, BaseDistribution] | None = None,
        points: Sequence[Point] | Points | None = None,
        features: Callable[[Point], Sequence[float]] | None = None,
        accept: Callable[[Point], bool] | None = None,
        noise_sd: float | None = None,
        log_cheap: bool = False,
        make_surrogate: Callable[[], Beliefs] | None = None,
        num_startup_trials: int = _STARTUP_TRIALS,
        num_draws: int = NUM_DRAWS,
        seed: int | None = None,
    ) -> None:
        if cheap_objective not in (0, 1):
            raise SettingsError(f"`cheap_objective` must be 0 or 1, got {cheap_objective}.")
        self._cheap = cheap
        self._cheap_objective = cheap_objective
        self._given_space = None if space is None else dict(space)
        self._seen_space = IntersectionSearchSpace()
        self._source = Listed(points) if isinstance(points, Sequence) else points
        self._features = features or _none
        self._accept = accept or _any
        self._log_cheap = log_cheap
        self._num_startup_trials = max(2, num_startup_trials)
        self._num_draws = num_draws
        self._seed = seed
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._make_surrogate = make_surrogate or partial(Surrogate, noise_sd=noise_sd)
        self._space: dict[str, BaseDistribution] = {}
        self._pool: Pool | None = None
        self._looked_around: set[int] = set()
        self._handed_out: list[Point] = []
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def reseed_rng(self) -> None:
        """Other draws than before, for another process."""
        self._seed = None
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters, as given or as in every trial so far."""
        if self._given_space is not None:
            return self._given_space
        return self._seen_space.calculate(study)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point."""
        if len(study.directions) != 2:
            raise SettingsError(
                f"This sampler is for studies of two objectives, got {len(study.directions)}."
            )
        if not search_space:
            return {}
        with self._lock:  # `study.optimize(n_jobs=...)` asks from several threads
            return self._next(study, trial, search_space)

    def _next(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        pool = self._open(search_space)
        others = [
            one
            for one in study.get_trials(deepcopy=False)
            if one.number != trial.number and search_space.keys() <= one.params.keys()
        ]
        self._look_around(study, pool, others)
        pool.add([one.params for one in others])
        # Of a trial that another thread has just begun the parameters are not stored yet.
        free = pool.free([*(one.params for one in others), *self._handed_out])
        if not len(free):
            raise SpaceExhaustedError("Every point of the search space was tried.")
        place = self._choose(study, pool, others, free)
        self._handed_out.append(pool.points[place])
        return {name: pool.points[place][name] for name in search_space}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """At random: parameters of the first trial, and such as not every trial has."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """End `study.optimize` when nothing is left to try."""
        with self._lock:
            if self._is_exhausted(study):
                with contextlib.suppress(RuntimeError):  # where nothing runs that could be ended
                    study.stop()

    def _is_exhausted(self, study: optuna.Study) -> bool:
        if self._pool is None:
            return False
        tried = [
            one.params
            for one in study.get_trials(deepcopy=False)
            if self._space.keys() <= one.params.keys()
        ]
        return len(tried) >= len(self._pool.points) and not len(self._pool.free(tried))

    def _open(self, space: dict[str, BaseDistribution]) -> Pool:
        """The points of a space, looked at once."""
        if space == self._space and self._pool is not None:
            return self._pool
        self._space = dict(space)
        self._looked_around, self._handed_out = set(), []
        self._pool = Pool(space, cheap=self._cheap, features=self._features, accept=self._accept)
        source, rng = self._source or Crossed(space), np.random.default_rng(self._seed)
        drawn = source.draw(rng, self._num_draws)
        self._pool.add(drawn)
        missing = self._pool.num_missing / max(len(drawn), 1)
        if missing > _MANY_MISSING and len(drawn) == self._num_draws:
            times = min(1 / max(1 - missing, 1e-9), _MOST_TIMES)
            self._pool.add(source.draw(rng, int(times * self._num_draws)))
        if not self._pool.points:
            raise SpaceExhaustedError("No point of the search space is allowed.")
        return self._pool

    def _look_around(self, study: optuna.Study, pool: Pool, others: Sequence[FrozenTrial]) -> None:
        """Take in the neighbours of every trial that was on the front when it ended.

        Trials are gone through by number, so that whoever begins with them stored looks at the
        same points as who was there from the start.
        """
        source = self._source or Crossed(self._space)
        front: list[tuple[float, float]] = []
        for one in others:
            if one.state != TrialState.COMPLETE:
                continue
            cheap, costly = self._minimised(study, one)
            if any(other[0] <= cheap and other[1] <= costly for other in front):
                continue
            front = [other for other in front if other[0] < cheap or other[1] < costly]
            front.append((cheap, costly))
            if one.number not in self._looked_around:
                self._looked_around.add(one.number)
                pool.add(source.near(one.params))

    def _minimised(self, study: optuna.Study, trial: FrozenTrial) -> tuple[float, float]:
        """Cheap objective, as area counts it, and costly one of a finished trial."""
        cheap, costly = trial.values if self._cheap_objective == 0 else trial.values[::-1]
        return self._scaled(study, cheap), costly * self._sign(study, 1 - self._cheap_objective)

    @staticmethod
    def _sign(study: optuna.Study, objective: int) -> float:
        return -1.0 if study.directions[objective] == StudyDirection.MAXIMIZE else 1.0

    def _scaled(self, study: optuna.Study, cheap: float) -> float:
        """A cheap value as area counts it, to be minimised."""
        if self._log_cheap:
            if cheap <= 0:
                raise SettingsError(f"`log_cheap` needs cheap objectives above 0, got {cheap}.")
            cheap = math.log(cheap)
        return cheap * self._sign(study, self._cheap_objective)

    def _choose(
        self,
        study: optuna.Study,
        pool: Pool,
        others: Sequence[FrozenTrial],
        free: NDArray[np.int64],
    ) -> int:
        cheap = np.array([self._scaled(study, value) for value in pool.cheap])
        placed = [one for one in others if pool.place(one.params) is not None]
        done = [one for one in placed if one.state == TrialState.COMPLETE]
        pending = [one for one in placed if not one.state.is_finished()]
        estimated = [
            one
            for one in placed
            if one.state in (TrialState.FAIL, TrialState.PRUNED) and ESTIMATE in one.user_attrs
        ]
        if len(done) < self._num_startup_trials:
            return self._spread_out(pool, cheap, [*done, *estimated, *pending], free)
        trend = self._trend(pool)

        def rows(trials: Sequence[FrozenTrial]) -> tuple[Array, Array]:
            places = pool.places([one.params for one in trials])
            return pool.encoded[places], trend[places]

        reached = np.array([self._minimised(study, one) for one in done])
        guesses = np.array([one.user_attrs[ESTIMATE] for one in estimated]).reshape(-1, 2)
        guesses[:, 0] *= self._sign(study, 1 - self._cheap_objective)
        encoded, of_trend = rows([*done, *estimated])
        seen = Evaluations(
            encoded=encoded,
            trend=of_trend,
            values=np.concatenate([reached[:, 1], guesses[:, 0]]),
            extra_variance=np.concatenate([np.zeros(len(done)), guesses[:, 1] ** 2]),
        )
        surrogate = self._make_surrogate()
        surrogate.fit(seen)
        corner = (float(cheap.max()), float(seen.values.max()))
        if pending:
            # Expected values are taken for seen: that moves no mean, and looks elsewhere next.
            encoded, of_trend = rows(pending)
            means, _ = surrogate.predict(encoded, of_trend)
            surrogate.take_as_seen(encoded, of_trend, means)
            at = cheap[pool.places([one.params for one in pending])]
            reached = np.concatenate([reached, np.stack([at, means], axis=1)])
        steps = staircase(reached[:, 0], reached[:, 1], corner=corner)
        mean, sd = surrogate.predict(pool.encoded[free], trend[free])
        return int(free[int(np.argmax(expected_gain(steps, cheap[free], mean, sd)))])

    @staticmethod
    def _trend(pool: Pool) -> Array:
        """Features of the trend: every column, the cheap objective, and what the caller gave."""
        raw = pool.cheap
        scaled = np.log(raw) if (raw > 0).all() else raw  # most costs act by their ratio
        scaled = 2 * (scaled - scaled.min()) / (float(np.ptp(scaled)) or 1.0) - 1
        return np.concatenate([2 * pool.encoded - 1, scaled[:, None], pool.features], axis=1)

    def _spread_out(
        self, pool: Pool, cheap: Array, others: Sequence[FrozenTrial], free: NDArray[np.int64]
    ) -> int:
        """Near a quantile of the cheap objective, the point farthest from the others."""
        share = _STARTUP_SHARES[len(others) % len(_STARTUP_SHARES)]
        order = free[np.argsort(cheap[free], kind="stable")]
        width = max(1, round(_STARTUP_WINDOW * len(order)))
        begin = round(share * (len(order) - width))
        near = order[begin : begin + width]
        rng = np.random.default_rng(None if self._seed is None else [self._seed, len(others)])
        if not others:
            return int(rng.choice(near))
        known = pool.encoded[pool.places([one.params for one in others])]
        apart = np.abs(pool.encoded[near][:, None, :] - known[None]).sum(axis=2).min(axis=1)
        return int(near[int(np.argmax(apart + 1e-6 * rng.random(len(near))))])
