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
from datetime import datetime
from typing import Any, Final

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState
from sqlalchemy.orm import Session, aliased

from phonesearch.study.storage import SharedStorage
from phonesearch.study.store import RECORD

WORKER: Final = "worker"
"""User attribute of a trial: who evaluates it."""
ARCHITECTURE: Final = "candidate"
"""User attribute of a trial: id of its candidate, by which no two are the same."""
_RETRIED: Final = "retry_history"
_FIRST: Final = "failed_trial"
_STUDIES, _TRIALS = models.StudyModel, models.TrialModel
_ATTRIBUTES, _PARAMS = models.TrialUserAttributeModel, models.TrialParamModel
_HEARTBEATS = models.TrialHeartbeatModel
_Row = Any
"""Of the trials; Optuna's tables are declared without types."""


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


class Ledger:
    """The trials of one study.

    Args:
        study: On a `SharedStorage`.
        target: Trials that are to be finished in all.
    """

    def __init__(self, study: optuna.Study, target: int) -> None:
        storage = study._storage
        assert isinstance(storage, SharedStorage)
        self._backend = storage.backend
        self._study_id = study._study_id
        self._target = target

    def take(self, worker: str) -> Taken | None:
        """A trial that waits for a worker, else a new one; None if none is due now."""
        with self._locked() as session:
            waiting: _Row = (
                session.query(_TRIALS)
                .filter(_TRIALS.study_id == self._study_id, _TRIALS.state == TrialState.WAITING)
                .order_by(_TRIALS.trial_id)
                .first()
            )
            if waiting is None:
                if self._num_live(session) >= self._target:
                    return None
                waiting = self._add(session, TrialState.RUNNING)
            waiting.state = TrialState.RUNNING
            waiting.datetime_start = datetime.now()
            self._set(session, waiting, WORKER, worker)
            # With the trial, as one without is never found dead.
            session.add(_HEARTBEATS(trial_id=waiting.trial_id))
            session.flush()
            return Taken(
                trial_id=waiting.trial_id,
                number=waiting.number,
                params=_params(session, waiting.trial_id),
                record=self._get(session, waiting, RECORD),
                deaths=len(_system(session, waiting.trial_id).get(_RETRIED, [])),
            )

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
        with self._locked() as session:
            trial = self._own(session, trial_id)
            if _params(session, trial_id):  # by an earlier try whose answer was lost
                return True
            if self._is_used(session, trial_id, architecture):
                return False
            for name, distribution in distributions.items():
                value = distribution.to_internal_repr(params[name])
                session.add(
                    _PARAMS(
                        trial_id=trial_id,
                        param_name=name,
                        param_value=value,
                        distribution_json=distribution_to_json(distribution),
                    )
                )
            self._set(session, trial, ARCHITECTURE, architecture)
            return True

    def settle(
        self,
        trial_id: int,
        record: str,
        values: Sequence[float] | None,
        attributes: Mapping[str, str] | None = None,
    ) -> bool:
        """Store what was found out about a trial and end it, both or neither.

        Args:
            trial_id: Of the trial.
            record: As text.
            values: Objectives; None where it has none.
            attributes: More user attributes.

        Returns:
            False if the trial is another worker's by now; then nothing is stored.
        """
        with self._session() as session:
            trial: _Row = _TRIALS.find_or_raise_by_id(trial_id, session, for_update=True)
            if trial.state != TrialState.RUNNING:
                return self._get(session, trial, RECORD) == record
            self._set(session, trial, RECORD, record)
            for name, text in (attributes or {}).items():
                self._set(session, trial, name, text)
            for objective, value in enumerate(values or ()):
                self._backend._set_trial_value_without_commit(session, trial, objective, value)
            _end(trial, TrialState.FAIL if values is None else TrialState.COMPLETE)
            return True

    def give_up(self, trial_id: int) -> None:
        """End a trial without a record, as if it had never been."""
        with self._session() as session:
            trial: _Row = _TRIALS.find_or_raise_by_id(trial_id, session, for_update=True)
            if trial.state == TrialState.RUNNING:
                _end(trial, TrialState.FAIL)

    def hand_on(self, trial_ids: Sequence[int], *, died: bool = True) -> int:
        """End trials whose worker is gone, and let each wait for another as a new trial.

        Args:
            trial_ids: Those that are not running any more are left alone.
            died: Whether the worker was lost, which counts against the trial.

        Returns:
            How many were handed on.
        """
        done = 0
        with self._locked() as session:
            for trial_id in trial_ids:
                trial: _Row = _TRIALS.find_or_raise_by_id(trial_id, session, for_update=True)
                if trial.state != TrialState.RUNNING:
                    continue
                _end(trial, TrialState.FAIL)
                heir = self._add(session, TrialState.WAITING)
                for name in (ARCHITECTURE, RECORD):
                    text = self._get(session, trial, name)
                    if text is not None:
                        self._set(session, heir, name, text)
                # Moved, not copied: whoever has a record is counted.
                session.query(_ATTRIBUTES).filter(
                    _ATTRIBUTES.trial_id == trial_id, _ATTRIBUTES.key == RECORD
                ).delete(synchronize_session=False)
                for one in session.query(_PARAMS).filter(_PARAMS.trial_id == trial_id):
                    session.add(
                        _PARAMS(
                            trial_id=heir.trial_id,
                            param_name=one.param_name,
                            param_value=one.param_value,
                            distribution_json=one.distribution_json,
                        )
                    )
                self._inherit(session, trial, heir, died)
                done += 1
        return done

    def stale(self) -> list[int]:
        """Ids of running trials that showed no sign of life for the grace period."""
        return self._backend._get_stale_trial_ids(self._study_id)

    def of_workers(self, workers: Sequence[str]) -> list[int]:
        """Ids of running trials that those workers evaluate."""
        names = [json.dumps(worker) for worker in workers]
        with self._session() as session:
            found = (
                session.query(_TRIALS.trial_id)
                .join(_ATTRIBUTES, _ATTRIBUTES.trial_id == _TRIALS.trial_id)
                .filter(
                    _TRIALS.study_id == self._study_id,
                    _TRIALS.state == TrialState.RUNNING,
                    _ATTRIBUTES.key == WORKER,
                    _ATTRIBUTES.value_json.in_(names),
                )
                .all()
            )
            return [trial_id for (trial_id,) in found]

    def beat(self, trial_id: int) -> bool:
        """A sign of life; whether the trial still is this worker's."""
        self._backend.record_heartbeat(trial_id)
        with self._session() as session:
            state = session.query(_TRIALS.state).filter(_TRIALS.trial_id == trial_id).scalar()
            return bool(state == TrialState.RUNNING)

    def standing(self) -> tuple[int, int]:
        """How many trials are finished with a record, and how many are on their way."""
        with self._session() as session:
            under_way = (
                session.query(sqlalchemy.func.count(_TRIALS.trial_id))
                .filter(
                    _TRIALS.study_id == self._study_id,
                    _TRIALS.state.in_((TrialState.RUNNING, TrialState.WAITING)),
                )
                .scalar()
            )
            return self._num_live(session) - int(under_way or 0), int(under_way or 0)

    def _num_live(self, session: Session) -> int:
        """Trials that are finished with a record or under way; those of the dead are neither."""
        found = (
            session.query(sqlalchemy.func.count(_TRIALS.trial_id))
            .filter(
                _TRIALS.study_id == self._study_id,
                sqlalchemy.or_(_TRIALS.state != TrialState.FAIL, _has_record()),
            )
            .scalar()
        )
        return int(found or 0)

    def _is_used(self, session: Session, trial_id: int, architecture: str) -> bool:
        found = (
            session.query(_TRIALS.trial_id)
            .join(_ATTRIBUTES, _ATTRIBUTES.trial_id == _TRIALS.trial_id)
            .filter(
                _TRIALS.study_id == self._study_id,
                _TRIALS.trial_id != trial_id,
                sqlalchemy.or_(_TRIALS.state != TrialState.FAIL, _has_record()),
                _ATTRIBUTES.key == ARCHITECTURE,
                _ATTRIBUTES.value_json == json.dumps(architecture),
            )
            .first()
        )
        return found is not None

    def _add(self, session: Session, state: TrialState) -> _Row:
        trial: _Row = _TRIALS(
            study_id=self._study_id, number=None, state=state, datetime_start=datetime.now()
        )
        session.add(trial)
        session.flush()
        trial.number = trial.count_past_trials(session)
        session.flush()
        return trial

    def _inherit(self, session: Session, trial: _Row, heir: _Row, died: bool) -> None:
        known = _system(session, trial.trial_id)
        history = [*known.get(_RETRIED, []), *([trial.number] if died else [])]
        for key, value in {_FIRST: trial.number, **known, _RETRIED: history}.items():
            self._backend._set_trial_attr_without_commit(
                session, models.TrialSystemAttributeModel, heir.trial_id, key, value
            )

    def _own(self, session: Session, trial_id: int) -> _Row:
        trial: _Row = _TRIALS.find_or_raise_by_id(trial_id, session, for_update=True)
        if trial.state != TrialState.RUNNING:
            raise LostTrialError(trial.number)
        return trial

    def _set(self, session: Session, trial: _Row, key: str, value: str) -> None:
        self._backend._set_trial_attr_without_commit(
            session, _ATTRIBUTES, trial.trial_id, key, value
        )

    def _get(self, session: Session, trial: _Row, key: str) -> str | None:
        found = (
            session.query(_ATTRIBUTES.value_json)
            .filter(_ATTRIBUTES.trial_id == trial.trial_id, _ATTRIBUTES.key == key)
            .scalar()
        )
        return None if found is None else str(json.loads(found))

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with _create_scoped_session(self._backend.scoped_session) as session:
            if self._backend.engine.name == "sqlite":
                self._write_first(session)
            yield session

    @contextmanager
    def _locked(self) -> Iterator[Session]:
        with self._session() as session:
            if self._backend.engine.name != "sqlite":
                _STUDIES.find_or_raise_by_id(self._study_id, session, for_update=True)
            yield session

    def _write_first(self, session: Session) -> None:
        """Begins the transaction with the lock of the one writer that SQLite allows."""
        session.execute(
            sqlalchemy.update(_STUDIES)
            .where(_STUDIES.study_id == self._study_id)
            .values(study_name=_STUDIES.study_name)
            .execution_options(synchronize_session=False)
        )


class LostTrialError(Exception):
    """The trial was given to another worker, which took this one for dead."""

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number} was given to another worker")
        self.number = number


def _has_record() -> Any:
    stored = aliased(_ATTRIBUTES)
    found = sqlalchemy.select(stored.trial_id).where(
        stored.trial_id == _TRIALS.trial_id, stored.key == RECORD
    )
    return found.correlate(_TRIALS).exists()


def _end(trial: _Row, state: TrialState) -> None:
    trial.state = state
    trial.datetime_complete = datetime.now()


def _params(session: Session, trial_id: int) -> dict[str, Any]:
    rows: Any = (
        session.query(_PARAMS).filter(_PARAMS.trial_id == trial_id).order_by(_PARAMS.param_id)
    )
    return {
        row.param_name: json_to_distribution(row.distribution_json).to_external_repr(
            row.param_value
        )
        for row in rows.order_by(_PARAMS.param_id)
    }


def _system(session: Session, trial_id: int) -> dict[str, Any]:
    rows: Any = models.TrialSystemAttributeModel.where_trial_id(trial_id, session)
    return {row.key: json.loads(row.value_json) for row in rows}
