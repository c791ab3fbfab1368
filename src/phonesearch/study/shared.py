"""What a study carries so that a worker anywhere needs nothing else: attributes of the study.

The three YAML files of the run's folder with their sha256, the version that made them, the
fingerprint of the text that proxies are trained on, the machine that is measured, the losses of
the anchors once they are trained, and whether its time is over. No password is among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import optuna

from phonesearch import __version__, files
from phonesearch.errors import CorpusError, StorageError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.copies import run_id
from phonesearch.study.folder import RunFolder, open_folder
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.settings import Fleet, RunSettings
from phonesearch.study.storage import SharedStorage, open_storage, problem
from phonesearch.study.store import RECORD, metric_names, new_study

FILES: Final = ("settings.yaml", "space.yaml", "device.yaml")
_VERSION: Final = "phonesearch version"
_FACTS: Final = "environment.json"
_CORPUS: Final = "corpus"
_ANCHORS: Final = "anchors"
_MACHINE: Final = "machine"
_RUN: Final = "run"
_CLOSED: Final = "closed"


def fleet_of(settings: RunSettings) -> Fleet:
    """The workers of a run that has some."""
    assert settings.fleet is not None
    return settings.fleet


def publish(folder: RunFolder, prepared: Prepared, url: str, *, machine: str | None = None) -> None:
    """Make the study of a run if it is new, and put in it what workers need.

    Args:
        folder: Of the run.
        prepared: With its corpus.
        url: Of the database.
        machine: That is measured, in words; None where nothing is.

    Raises:
        StorageError: If the database cannot be used, or its study of that name is another run's.
    """
    fleet = fleet_of(folder.settings)
    storage = open_storage(url, fleet, is_new=True)
    try:
        study = new_study(storage, fleet.study)
        known = study.user_attrs
        if known.get(_RUN, "" if known else run_id(folder.path)) != run_id(folder.path):
            raise StorageError(
                f"There is a study named {fleet.study!r} in the database already, and it is "
                "another run's. Choose another --study, or go on with that run by its folder: "
                "phonesearch run --resume."
            )
        study.set_user_attr(_RUN, run_id(folder.path))
        metric_names(study, folder.settings.speed)
        for name in FILES[1:]:
            study.set_user_attr(name, files.read_text(folder.path / name))
        study.set_user_attr(_VERSION, __version__)
        if prepared.corpus is not None:
            study.set_user_attr(_CORPUS, prepared.corpus.fingerprint)
        if machine is not None:
            study.set_user_attr(_MACHINE, machine)
        study.set_user_attr(_FACTS, folder.environment)
        study.set_user_attr(_CLOSED, False)
        # Last, as workers go by it.
        study.set_user_attr(FILES[0], files.read_text(folder.path / FILES[0]))
    except optuna.exceptions.StorageInternalError as error:
        raise StorageError(f"The database cannot be written ({problem(error)}).") from error
    finally:
        storage.close()


def publish_anchors(study: optuna.Study, trained: Sequence[ProxyLoss]) -> None:
    """Let all workers judge by the same anchors."""
    study.set_user_attr(_ANCHORS, [json.dumps(asdict(loss)) for loss in trained])


def shared_anchors(study: optuna.Study) -> tuple[ProxyLoss, ...] | None:
    """The anchors of a study, or None while they are not trained."""
    found = study.user_attrs.get(_ANCHORS)
    if found is None:
        return None
    path = Path(_ANCHORS)
    return tuple(files.structure(json.loads(text), ProxyLoss, path=path) for text in found)


def close(study: optuna.Study) -> None:
    """Let no worker begin another trial, as the time of the run is over."""
    study.set_user_attr(_CLOSED, True)


def is_closed(study: optuna.Study) -> bool:
    """Whether the time of the run is over."""
    return bool(study.user_attrs.get(_CLOSED, False))


@contextmanager
def shared_study(url: str, name: str, *, fleet: Fleet | None = None) -> Iterator[optuna.Study]:
    """A study that others made, with the heartbeats that its run was started with.

    Raises:
        StorageError: If there is none of that name, or it is no run of this version.
    """
    storage = open_storage(url, fleet or Fleet(study=name), is_new=False)
    try:
        yield _loaded(storage, name)
    finally:
        storage.close()


def _loaded(storage: SharedStorage, name: str) -> optuna.Study:
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        attributes = study.user_attrs
    except KeyError as error:
        raise StorageError(
            f"There is no study named {name!r} in the database. {_others(storage)}"
        ) from error
    if FILES[0] not in attributes:
        raise StorageError(
            f"The study {name!r} is not a run of phonesearch, or the run that makes it has not "
            "got so far. Start the run first: phonesearch run --storage URL --study NAME."
        )
    if attributes.get(_VERSION) != __version__:
        raise StorageError(
            f"The study {name!r} was made by phonesearch {attributes.get(_VERSION)}, and this is "
            f"{__version__}: their results may differ. Install that version here."
        )
    return study


def _others(storage: SharedStorage) -> str:
    names = [study.study_name for study in storage.get_all_studies()]
    if not names:
        return "It holds no study: start the run first, phonesearch run --storage URL --study NAME."
    listed = ", ".join(repr(name) for name in names[-10:])
    return f"It holds: {listed}."


def rebuilt(study: optuna.Study, path: Path) -> RunFolder:
    """The folder of the run, made anew of what the study carries.

    Args:
        study: From `shared_study`.
        path: A new folder.

    Raises:
        RunFolderError: If the files do not have the sha256 that the study names.
        InvalidFileError: If one does not fit its schema.
    """
    attributes = study.user_attrs
    for name in FILES:
        files.write_text(path / name, attributes[name])
    files.write_json(path / _FACTS, attributes[_FACTS])
    return open_folder(path)


def require_same_text(study: optuna.Study, prepared: Prepared) -> None:
    """Make sure that proxies are trained on the text of the run.

    Raises:
        CorpusError: If they would not be.
    """
    expected = study.user_attrs.get(_CORPUS)
    if prepared.corpus is None or expected is None or prepared.corpus.fingerprint == expected:
        return
    raise CorpusError(
        f"The text on this machine ({prepared.corpus.description}) is not that of the run: its "
        f"fingerprint is {prepared.corpus.fingerprint} and not {expected}, so losses could not be "
        "compared. Put the same files at the same path; without --data it is the sources of the "
        "Python library, which differ from one version of Python to the next."
    )


def require_shared_machine(study: optuna.Study, fingerprint: str) -> None:
    """Make sure that a worker measures on the machine that the others measure on.

    Raises:
        StorageError: If it would not.
    """
    expected = study.user_attrs.get(_MACHINE)
    if expected is not None and expected != fingerprint:
        raise StorageError(
            f"The run measures on {expected}, and this is {fingerprint}. Times of two machines "
            "make no front together: start the worker on one that is alike."
        )


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """The records of a study's finished trials, by number; of the dead there are none."""
    return [
        files.structure(json.loads(trial.user_attrs[RECORD]), TrialRecord, path=Path("study"))
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and RECORD in trial.user_attrs
    ]
