"""Who evaluates which trial: every step of it one transaction, so that a result counts once.

All workers of a study, on whatever machine, go through here. A transaction first locks the row of
the study (`FOR UPDATE`; in SQLite, which has no such thing, by writing to it), or of the trial. So
no more trials are begun than were asked for, no two of the same architecture, one that died is
given on once, and what a worker brings whose trial was given on meanwhile is dropped. Killed
between any two steps, a worker leaves a trial that is running and shows no sign of life.

Optuna's tables are used as Optuna uses them, heartbeats and the attributes of its
`RetryHeartbeatStaleTrialCallback` included; its own calls take several transactions for a step
(one a parameter), and in SQLite two workers can both pop a waiting trial.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import TrialState

from phonesearch.study.storage import SharedStorage
from phonesearch.study.store import RECORD, Ending

WORKER: Final = "worker"
"""User attribute of a trial: who evaluates it."""
ARCHITECTURE: Final = "candidate"
"""User attribute of a trial: id of its candidate, by which no two are the same."""
_RETRIED: Final = "retry_history"
_FIRST: Final = "failed_trial"
# Optuna declares its tables without types.
_STUDIES: Any = models.StudyModel.__table__
_TRIALS: Any = models.TrialModel.__table__
_ATTRIBUTES: Any = models.TrialUserAttributeModel.__table__
_SYSTEM: Any = models.TrialSystemAttributeModel.__table__
_PARAMS: Any = models.TrialParamModel.__table__
_VALUES: Any = models.TrialValueModel.__table__
_HEARTBEATS: Any = models.TrialHeartbeatModel.__table__


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A trial that this worker has to evaluate."""

    trial_id: int
    number: int
    params: Mapping[str, Any]
    """Empty where it is still to be drawn."""
    record: str | None
    """Stored by an earlier worker that died before it ended the trial."""
    deaths: int
    """Workers that were lost while they evaluated it."""


class LostTrialError(Exception):
    """The trial was given to another worker, which took this one for dead."""

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number} was given to another worker")
        self.number = number


class Ledger:
    """The trials of one study.

    Args:
        study: On a `SharedStorage`.
        target: Trials that are to be finished in all; may be changed.
    """

    def __init__(self, study: optuna.Study, target: int) -> None:
        storage = study._storage
        assert isinstance(storage, SharedStorage)
        self._backend = storage.backend
        self._study_id = study._study_id
        self.target = target
        # Trials in all, those that are finished with a record or under way, and the first of those
        # that wait. Those of the dead are neither finished nor under way.
        is_waiting = _TRIALS.c.state == TrialState.WAITING
        self._overview = sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(sa.case((_is_live(), 1), else_=0)), 0),
            sa.func.min(sa.case((is_waiting, _TRIALS.c.trial_id))),
        ).where(self._of_study())

    def take(self, worker: str) -> Taken | None:
        """A trial that waits for a worker, else a new one; None if none is due now."""
        with self._locked() as to:
            count, live, oldest = to.execute(self._overview).one()
            if oldest is None:
                if live >= self.target:
                    return None
                trial_id, number = self._add(to, TrialState.RUNNING, count), count
                found = Taken(trial_id=trial_id, number=number, params={}, record=None, deaths=0)
            else:
                trial_id, (_, number) = oldest, self._state(to, oldest)
                _change(to, trial_id, state=TrialState.RUNNING, datetime_start=_now())
                found = Taken(
                    trial_id=trial_id,
                    number=number,
                    params=_params(to, trial_id),
                    record=_attribute(to, trial_id, RECORD),
                    deaths=len(_system(to, trial_id).get(_RETRIED, [])),
                )
            _write(to, trial_id, {WORKER: worker}, are_new=oldest is None)
            # With the trial, as one without is never found dead.
            to.execute(sa.insert(_HEARTBEATS).values(trial_id=trial_id))
            return found

    def place(
        self,
        trial_id: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        architecture: str,
    ) -> bool:
        """Store what was drawn for a trial.

        Returns:
            False if another trial has that architecture; then nothing is stored.

        Raises:
            LostTrialError: If the trial was given to another worker.
        """
        with self._locked() as to:
            state, number = self._state(to, trial_id)
            if state != TrialState.RUNNING:
                raise LostTrialError(number)
            holder = to.execute(
                sa.select(_TRIALS.c.trial_id)
                .join(_ATTRIBUTES, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id)
                .where(
                    self._of_study(),
                    _is_live(),
                    _ATTRIBUTES.c.key == ARCHITECTURE,
                    _ATTRIBUTES.c.value_json == json.dumps(architecture),
                )
            ).scalar()
            if holder is not None:  # its own: by an earlier try whose answer was lost
                return bool(holder == trial_id)
            rows = [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": distribution.to_internal_repr(params[name]),
                    "distribution_json": distribution_to_json(distribution),
                }
                for name, distribution in distributions.items()
            ]
            to.execute(sa.insert(_PARAMS), rows)
            _write(to, trial_id, {ARCHITECTURE: architecture}, are_new=True)
            return True

    def settle(self, trial_id: int, record: str, ending: Ending) -> bool:
        """Store what was found out about a trial and end it, both or neither.

        Args:
            trial_id: Of the trial.
            record: As text.
            ending: How Optuna is to have it.

        Returns:
            False if the trial is another worker's by now; then nothing is stored.
        """
        with self._begun() as to:
            if self._state(to, trial_id)[0] != TrialState.RUNNING:
                return _attribute(to, trial_id, RECORD) == record
            _write(to, trial_id, {RECORD: record, **ending.attributes})
            if ending.values is not None:
                rows = []
                for objective, value in enumerate(ending.values):
                    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
                    rows.append(
                        {
                            "trial_id": trial_id,
                            "objective": objective,
                            "value": stored,
                            "value_type": kind,
                        }
                    )
                to.execute(sa.insert(_VALUES), rows)
            _end(to, trial_id, ending.state)
            return True

    def give_up(self, trial_id: int) -> None:
        """End a trial without a record, as if it had never been."""
        with self._begun() as to:
            if self._state(to, trial_id)[0] == TrialState.RUNNING:
                _end(to, trial_id, TrialState.FAIL)

    def hand_on(self, trial_ids: Sequence[int], *, died: bool = True) -> int:
        """End trials whose worker is gone, and let each wait for another as a new trial.

        Args:
            trial_ids: Those that are not running any more are left alone.
            died: Whether the worker was lost, which counts against the trial.

        Returns:
            How many were handed on.
        """
        done = 0
        with self._locked() as to:
            for trial_id in trial_ids:
                state, number = self._state(to, trial_id)
                if state != TrialState.RUNNING:
                    continue
                _end(to, trial_id, TrialState.FAIL)
                heir = self._add(to, TrialState.WAITING, to.execute(self._overview).one()[0])
                columns = [_PARAMS.c.param_name, _PARAMS.c.param_value, _PARAMS.c.distribution_json]
                params = (
                    sa.select(sa.literal(heir), *columns)
                    .where(_PARAMS.c.trial_id == trial_id)
                    .order_by(_PARAMS.c.param_id)
                )
                names = ["trial_id", *(column.name for column in columns)]
                to.execute(sa.insert(_PARAMS).from_select(names, params))
                for name in (ARCHITECTURE, RECORD):
                    text = _attribute(to, trial_id, name)
                    if text is not None:
                        _write(to, heir, {name: text}, are_new=True)
                # Moved, not copied: whoever has a record is counted.
                to.execute(_delete(trial_id, [RECORD]))
                known = _system(to, trial_id)
                history = [*known.get(_RETRIED, []), *([number] if died else [])]
                rows = [
                    {"trial_id": heir, "key": key, "value_json": json.dumps(value)}
                    for key, value in {_FIRST: number, **known, _RETRIED: history}.items()
                ]
                to.execute(sa.insert(_SYSTEM), rows)
                done += 1
        return done

    def stale(self) -> list[int]:
        """Ids of running trials that showed no sign of life for the grace period."""
        return self._backend._get_stale_trial_ids(self._study_id)

    def of_workers(self, workers: Sequence[str]) -> list[int]:
        """Ids of running trials that those workers evaluate."""
        names = [json.dumps(worker) for worker in workers]
        with self._backend.engine.connect() as to:
            found = to.execute(
                sa.select(_TRIALS.c.trial_id)
                .join(_ATTRIBUTES, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id)
                .where(
                    self._of_study(),
                    _TRIALS.c.state == TrialState.RUNNING,
                    _ATTRIBUTES.c.key == WORKER,
                    _ATTRIBUTES.c.value_json.in_(names),
                )
            )
            return [trial_id for (trial_id,) in found]

    def beat(self, trial_id: int) -> bool:
        """A sign of life; whether the trial still is this worker's."""
        self._backend.record_heartbeat(trial_id)
        with self._backend.engine.connect() as to:
            state = to.execute(
                sa.select(_TRIALS.c.state).where(_TRIALS.c.trial_id == trial_id)
            ).scalar()
            return bool(state == TrialState.RUNNING)

    def standing(self) -> int:
        """How many trials are finished with a record."""
        with self._backend.engine.connect() as to:
            _, live, _ = to.execute(self._overview).one()
            return int(live) - self._count(to, TrialState.RUNNING, TrialState.WAITING)

    def under_way(self) -> int:
        """How many trials a worker has, if it still lives."""
        with self._backend.engine.connect() as to:
            return self._count(to, TrialState.RUNNING)

    def _count(self, to: sa.Connection, *states: TrialState) -> int:
        found = to.execute(
            sa.select(sa.func.count()).where(self._of_study(), _TRIALS.c.state.in_(states))
        )
        return int(found.scalar() or 0)

    def _of_study(self) -> Any:
        return _TRIALS.c.study_id == self._study_id

    def _add(self, to: sa.Connection, state: TrialState, number: int) -> int:
        """The id of a new trial; its number is how many there were before, as Optuna counts."""
        done = to.execute(
            sa.insert(_TRIALS).values(
                study_id=self._study_id, number=number, state=state, datetime_start=_now()
            )
        )
        key: Any = done.inserted_primary_key
        return int(key[0])

    def _state(self, to: sa.Connection, trial_id: int) -> tuple[TrialState, int]:
        """Of a trial, whose row is locked."""
        state, number = to.execute(
            sa.select(_TRIALS.c.state, _TRIALS.c.number)
            .where(_TRIALS.c.trial_id == trial_id)
            .with_for_update()
        ).one()
        return state, int(number)

    @contextmanager
    def _begun(self) -> Iterator[sa.Connection]:
        """A transaction, in SQLite with the lock of the one writer that it allows."""
        with self._backend.engine.begin() as to:
            if self._backend.engine.name == "sqlite":
                to.execute(
                    sa.update(_STUDIES)
                    .where(_STUDIES.c.study_id == self._study_id)
                    .values(study_name=_STUDIES.c.study_name)
                )
            yield to

    @contextmanager
    def _locked(self) -> Iterator[sa.Connection]:
        """One that all others of this kind wait for."""
        with self._begun() as to:
            if self._backend.engine.name != "sqlite":
                to.execute(
                    sa.select(_STUDIES.c.study_id)
                    .where(_STUDIES.c.study_id == self._study_id)
                    .with_for_update()
                )
            yield to


def _now() -> datetime:
    """As Optuna has it in its tables."""
    return datetime.now(UTC).replace(tzinfo=None)


def _is_live() -> Any:
    stored = _ATTRIBUTES.alias()
    record = sa.select(stored.c.trial_id).where(
        stored.c.trial_id == _TRIALS.c.trial_id, stored.c.key == RECORD
    )
    return sa.or_(_TRIALS.c.state != TrialState.FAIL, record.correlate(_TRIALS).exists())


def _change(to: sa.Connection, trial_id: int, **values: Any) -> None:
    to.execute(sa.update(_TRIALS).where(_TRIALS.c.trial_id == trial_id).values(**values))


def _end(to: sa.Connection, trial_id: int, state: TrialState) -> None:
    _change(to, trial_id, state=state, datetime_complete=_now())


def _delete(trial_id: int, names: Sequence[str]) -> sa.Delete:
    return sa.delete(_ATTRIBUTES).where(
        _ATTRIBUTES.c.trial_id == trial_id, _ATTRIBUTES.c.key.in_(names)
    )


def _write(
    to: sa.Connection, trial_id: int, attributes: Mapping[str, Any], *, are_new: bool = False
) -> None:
    if not are_new:
        to.execute(_delete(trial_id, list(attributes)))
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]
    to.execute(sa.insert(_ATTRIBUTES), rows)


def _attribute(to: sa.Connection, trial_id: int, key: str) -> str | None:
    found = to.execute(
        sa.select(_ATTRIBUTES.c.value_json).where(
            _ATTRIBUTES.c.trial_id == trial_id, _ATTRIBUTES.c.key == key
        )
    ).scalar()
    return None if found is None else str(json.loads(found))


def _params(to: sa.Connection, trial_id: int) -> dict[str, Any]:
    rows = to.execute(
        sa.select(_PARAMS.c.param_name, _PARAMS.c.param_value, _PARAMS.c.distribution_json)
        .where(_PARAMS.c.trial_id == trial_id)
        .order_by(_PARAMS.c.param_id)
    )
    return {
        name: json_to_distribution(distribution).to_external_repr(value)
        for name, value, distribution in rows
    }


def _system(to: sa.Connection, trial_id: int) -> dict[str, Any]:
    rows = to.execute(
        sa.select(_SYSTEM.c.key, _SYSTEM.c.value_json).where(_SYSTEM.c.trial_id == trial_id)
    )
    return {key: json.loads(text) for key, text in rows}
