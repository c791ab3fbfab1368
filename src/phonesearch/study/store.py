"""Trials in Optuna's storage, and the records that are kept with them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from phonesearch import files
from phonesearch.device.speed import SpeedObjective
from phonesearch.errors import RunFolderError
from phonesearch.sampling.sampler import ESTIMATE
from phonesearch.study.copies import read_copies
from phonesearch.study.folder import RunFolder
from phonesearch.study.judge import make_judge, rejudged
from phonesearch.study.later import LONGER_FILE, read_later
from phonesearch.study.limits import Limits
from phonesearch.study.measurements import Kept, read_measurements
from phonesearch.study.record import TrialRecord
from phonesearch.study.storage import problem

STUDY_NAME = "phonesearch"
RECORD = "record"
"""User attribute that holds a trial's `TrialRecord`."""
_BUSY_TIMEOUT_S = 60


def open_study(folder: RunFolder) -> optuna.Study:
    """The study of a run, made if it is new: speed up, loss down.

    Raises:
        RunFolderError: If the database is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(
            folder.storage_url, engine_kwargs={"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
        )
        fleet = folder.settings.fleet
        study = new_study(storage, STUDY_NAME if fleet is None else fleet.study)
    except Exception as error:  # SQLAlchemy and sqlite3 have no common base for a damaged file
        raise RunFolderError(
            f"{folder.path / 'study.db'} cannot be opened ({problem(error)}). If it is "
            "damaged, restore it from a copy, or start a new run with --out."
        ) from error
    metric_names(study, folder.settings.speed)
    return study


def new_study(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """The study of that name, made if there is none: speed up, loss down."""
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def metric_names(study: optuna.Study, objective: SpeedObjective) -> None:
    """Name the objectives for optuna-dashboard; nothing here reads the names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"{objective}_tokens_per_s", "log_loss"])


def keep(study: optuna.Study, record: TrialRecord, objective: SpeedObjective) -> None:
    """Store what was found out about a trial, and only then end it."""
    trial = study.get_trials(deepcopy=False)[record.number]
    # `Trial` would sample again where it is made anew, so the attribute goes to the storage.
    study._storage.set_trial_user_attr(trial._trial_id, RECORD, json.dumps(asdict(record)))
    end(study, record, objective)


def end(study: optuna.Study, record: TrialRecord, objective: SpeedObjective) -> None:
    """Tell Optuna the objectives of a stored record, or that it has none."""
    ending = ending_of(record, objective)
    if ending.attributes:
        trial = study.get_trials(deepcopy=False)[record.number]
        for name, value in ending.attributes.items():
            study._storage.set_trial_user_attr(trial._trial_id, name, value)
    study.tell(record.number, ending.values, state=ending.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What Optuna is told of a trial that is over."""

    state: TrialState
    values: tuple[float, float] | None
    """Speed and loss; None unless complete."""
    attributes: dict[str, Any]
    """What a sampler learns from besides."""


def ending_of(record: TrialRecord, objective: SpeedObjective) -> Ending:
    """What a record is to Optuna: complete, given up with an estimate, or failed."""
    speed, score = record.speed, record.score
    if record.state == "complete" and speed is not None and score is not None:
        values = (speed.tokens_per_s(objective)[0], score.log_loss)
        return Ending(state=TrialState.COMPLETE, values=values, attributes={})
    if record.dropped is not None:
        known = [record.dropped.log_loss, record.dropped.sd]
        return Ending(state=TrialState.PRUNED, values=None, attributes={ESTIMATE: known})
    return Ending(state=TrialState.FAIL, values=None, attributes={})


def stored_record(trial: FrozenTrial, folder: RunFolder) -> TrialRecord | None:
    """What was stored about a trial, or None while it is not over."""
    text = trial.user_attrs.get(RECORD)
    if text is None:
        return None
    return files.structure(json.loads(text), TrialRecord, path=_database(folder))


def read_records(folder: RunFolder) -> tuple[TrialRecord, ...]:
    """All finished trials of a run, by number.

    Where each was trained, they are judged by all the trainings that there are.

    Raises:
        RunFolderError: If the run has no database yet, or it is damaged.
    """
    fleet = folder.settings.fleet
    if fleet is not None and fleet.storage is not None:
        return told(folder, read_copies(folder.path))
    if not _database(folder).is_file():
        raise RunFolderError(
            f"{folder.path} has no trials yet. Go on with it: phonesearch run --resume "
            f"{folder.path}"
        )
    found = (
        stored_record(trial, folder) for trial in open_study(folder).get_trials(deepcopy=False)
    )
    return told(folder, [one for one in found if one is not None])


def told(folder: RunFolder, found: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Records as they were stored, with what is known by now of their times and losses."""
    later = read_measurements(folder.path)
    limits = Limits(folder.settings, folder.profile)
    records = tuple(_with_measurement(one, later, limits) for one in found)
    if folder.settings.scored_by != "each":
        return records
    longer = {one.number: one.training.trained for one in read_later(folder.path, LONGER_FILE)}
    with_longer = [replace(one, longer=longer.get(one.number)) for one in records]
    return rejudged(with_longer, make_judge(folder.settings))


def _with_measurement(
    record: TrialRecord, later: Mapping[int, Kept], limits: Limits
) -> TrialRecord:
    """The record, with what was measured of it after the search.

    It may break a constraint that its prediction met.
    """
    kept = later.get(record.number)
    if record.measured is not None or kept is None or kept.candidate_id != record.candidate_id:
        return record
    speed = kept.measurement.speed
    breaks = limits.broken(record.peak_memory_bytes, speed)
    if record.state == "complete" and breaks:
        reason = f"as measured, {'; '.join(breaks)}"
        return replace(record, measured=speed, state="infeasible", reason=reason)
    return replace(record, measured=speed)


def _database(folder: RunFolder) -> Path:
    return folder.path / "study.db"
