"""A worker from nothing but a study: its run read back, its space solved, its tools made."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import optuna

from phonesearch.candidate.config import Candidate
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.folder import RunFolder
from phonesearch.study.meter import Meter
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared, prepare
from phonesearch.study.settings import RunSettings
from phonesearch.study.shared import (
    fleet_of,
    rebuilt,
    require_same_text,
    require_shared_machine,
    shared_study,
)
from phonesearch.study.worker import Tools, Trainer, Worker

NAME_VARIABLE: Final = "PHONESEARCH_WORKER"
"""Name of a worker, where it is somebody else who gives it."""
PARENT_VARIABLE: Final = "PHONESEARCH_WORKER_PARENT"
"""Process without which a worker stops."""

OpenMeter = Callable[[RunFolder, Path], Meter | None]
"""What measures for the run of a folder, given a folder for models."""


def join(
    url: str,
    study_name: str,
    *,
    cache_dir: Path,
    num_threads: int | None,
    open_meter: OpenMeter,
    should_stop: Callable[[], bool],
    observer: RunObserver,
) -> int:
    """Work on a study until it has all its trials, or its time is over.

    Args:
        url: Of the database.
        study_name: In it.
        cache_dir: The user's, for texts and trainings.
        num_threads: To train with; None for one a core that this process may use.
        open_meter: Makes what measures.
        should_stop: Whether to end, handing on the trial in work.
        observer: Told of every step.

    Returns:
        How many trials it finished.

    Raises:
        StorageError: If the database or the study cannot be used.
        CorpusError: If the text of the run is not on this machine.
        StoppedError: If it was told to stop.
    """
    with tempfile.TemporaryDirectory(prefix="phonesearch-worker-") as name:
        with shared_study(url, study_name) as study:
            folder = rebuilt(study, Path(name) / "run")
        with shared_study(url, study_name, fleet=fleet_of(folder.settings)) as study:
            prepared = _prepared(folder, study, cache_dir, observer)
            meter = open_meter(folder, Path(name))
            if meter is not None:
                require_shared_machine(study, meter.fingerprint)
            tools = Tools(
                name=os.environ.get(NAME_VARIABLE) or _own_name(),
                train=_trainer(folder.settings, prepared, num_threads),
                meter=meter,
                should_stop=should_stop,
            )
            return Worker(study, folder, prepared, tools=tools, observer=observer).work()


def orphaned() -> Callable[[], bool]:
    """Whether the process that started this one, if it said so, is gone."""
    parent = os.environ.get(PARENT_VARIABLE)
    return lambda: parent is not None and os.getppid() != int(parent)


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _prepared(
    folder: RunFolder, study: optuna.Study, cache_dir: Path, observer: RunObserver
) -> Prepared:
    settings = folder.settings
    if settings.scored_by == "anchors":  # trained by the run itself, so no text is needed here
        settings = replace(settings, scored_by="prior")
    prepared = prepare(
        settings, folder.space, folder.profile, cache_dir=cache_dir, observer=observer
    )
    require_same_text(study, prepared)
    return prepared


def _trainer(settings: RunSettings, prepared: Prepared, num_threads: int | None) -> Trainer | None:
    corpus = prepared.corpus
    if settings.scored_by != "each" or corpus is None:
        return None

    def train(
        candidate: Candidate,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        is_hopeless: Callable[[int, float], bool],
    ) -> ProxyLoss:
        import torch  # here, as a worker that trains nothing starts sooner without

        from phonesearch.proxy.loop import Watch
        from phonesearch.study.workers import TrainingJob, trained

        torch.set_num_threads(num_threads or num_cores())
        job = TrainingJob(
            candidate=candidate,
            corpus=corpus,
            settings=settings.proxy,
            reference_parameters=settings.budget,
            cache_dir=prepared.trainings,
        )
        watch = Watch(
            progress=progress,
            should_stop=should_stop,
            is_hopeless=is_hopeless if settings.early_stopping else None,
        )
        return trained(job, watch)

    return train


def num_cores() -> int:
    """Logical cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
