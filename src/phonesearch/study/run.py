"""The search: draw, time, judge, store, again; and go on where it stopped.

What losses are judged by is made first: with anchors, these are trained before anything is drawn.

Candidates are drawn in batches of `jobs`, each batch only from what earlier batches found, so
that a run is the same however fast its workers are. Every draw has its own generator, seeded
by the run's seed and the trial's number: a run that was killed and resumed draws what it would
have drawn. A trial's record is stored before Optuna is told its values, so a record is either
whole or absent.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneSearchError, RunFolderError, SettingsError
from phonesearch.study.anchor_training import anchors_due, train_anchors
from phonesearch.study.deadline import FEWEST_TRIALS, Deadline
from phonesearch.study.draws import sampler_of
from phonesearch.study.early import Rungs, longer_rounds_s, wanted_trials
from phonesearch.study.evaluate import Outcome, Timed, record_of, time_candidate
from phonesearch.study.folder import RunFolder, locked
from phonesearch.study.judge import Judge, make_judge, score
from phonesearch.study.measurements import Kept, keep_measurement, require_same_machine
from phonesearch.study.meter import Meter
from phonesearch.study.observer import RunObserver, Silent
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.sampler import NoneAcceptedError, candidate_of, distributions
from phonesearch.study.storage import problem
from phonesearch.study.store import (
    end,
    keep,
    open_study,
    read_records,
    stored_record,
)
from phonesearch.study.together import together
from phonesearch.study.workers import ProxyPool, TrainingJob, proxy_pool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    folder: RunFolder
    prepared: Prepared
    study: optuna.Study
    observer: RunObserver
    meter: Meter | None
    judge: Judge
    deadline: Deadline | None


def search(
    folder: RunFolder,
    prepared: Prepared,
    *,
    observer: RunObserver | None = None,
    meter: Meter | None = None,
    deadline: Deadline | None = None,
) -> tuple[TrialRecord, ...]:
    """Run the study of a folder to its end, from wherever it stands.

    Args:
        folder: A run, new or begun.
        prepared: Made from the folder's own settings, space and profile.
        observer: Told of every step.
        meter: Measures every candidate; needed where the folder's profile is a measured one.
        deadline: When to end, where the run was given a time.

    Returns:
        The records of all finished trials, by number.

    Raises:
        RunFolderError: If another process works on the folder, it holds times of another machine,
            or the disk is full.
        SettingsError: If no candidate meets the constraints.
    """
    with locked(folder):
        if meter is not None:
            require_same_machine(folder.path, meter.fingerprint)
        run = _Run(
            folder=folder,
            prepared=prepared,
            study=open_study(folder),
            observer=observer or Silent(),
            meter=meter,
            judge=make_judge(folder.settings),
            deadline=deadline,
        )
        try:
            _to_the_end(run)
        except optuna.exceptions.StorageInternalError as error:
            raise RunFolderError(
                f"{folder.path / 'study.db'} cannot be written ({problem(error)}). "
                "Finished trials are kept. Free some disk space, then: "
                f"phonesearch run --resume {folder.path}"
            ) from error
        return read_records(folder)


def _to_the_end(run: _Run) -> None:
    settings, study = run.folder.settings, run.study
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        record = stored_record(trial, run.folder)
        if record is not None:  # killed between storing the record and telling Optuna
            end(study, record, settings.speed)
    wanted = _wanted(run)
    run.observer.resumed(read_records(run.folder), wanted)
    if not _is_due(study, wanted):
        return
    with ExitStack() as stack:
        pool = None
        if settings.scored_by == "each" or anchors_due(run.folder):
            pool = stack.enter_context(proxy_pool(settings.jobs))
        if settings.scored_by == "anchors":
            trained = train_anchors(run.folder, run.prepared, pool, run.observer)
            run = replace(run, judge=make_judge(settings, trained))
        if run.prepared.gain is not None:
            run.observer.say("Predicting the speeds of all that may be drawn")
        while _is_due(study, wanted):
            begun_s = time.monotonic()
            drawn = _draw_batch(run, wanted)
            if not drawn:
                run.observer.say(
                    f"All {len(run.prepared.space):,} architectures of the space were "
                    "evaluated; the run ends here."
                )
                return
            _evaluate_batch(run, drawn, pool)
            wanted = _wanted(run)
            run.observer.wanted(wanted)
            if run.deadline is not None:
                run.deadline.reserved_s = longer_rounds_s(settings, read_records(run.folder))
                run.deadline.took(time.monotonic() - begun_s)
                if _is_late(run):
                    run.observer.say("The time that the run was given is over")
                    return


def _is_late(run: _Run) -> bool:
    assert run.deadline is not None
    finished = len(run.study.get_trials(deepcopy=False))
    is_quick = run.folder.settings.scored_by != "each" and run.meter is None
    return run.deadline.is_over and not (is_quick and finished < FEWEST_TRIALS)


def _wanted(run: _Run) -> int:
    settings = run.folder.settings
    records = read_records(run.folder) if settings.scored_by == "each" else ()
    return wanted_trials(settings, records)


def _is_due(study: optuna.Study, trials: int) -> bool:
    stored = study.get_trials(deepcopy=False)
    return len(stored) < trials or any(trial.state == TrialState.RUNNING for trial in stored)


def _draw_batch(run: _Run, wanted: int) -> dict[int, Candidate]:
    """The trials of the batch that was begun, or of the next one, with their candidates."""
    settings = run.folder.settings
    drawn = {
        trial.number: _draw(run, trial.number)
        for trial in run.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    }
    number = len(run.study.get_trials(deepcopy=False))
    last = min(wanted, len(run.prepared.space))
    while number < last and (not drawn or number % settings.jobs):
        drawn[number] = _draw(run, number)
        number += 1
    return drawn


def _draw(run: _Run, number: int) -> Candidate:
    """Sample trial `number`, or take up the one that was sampled, wholly or in part."""
    settings, space = run.folder.settings, run.prepared.space
    run.study.sampler = sampler_of(settings, run.prepared, number)
    wanted = distributions(space)
    stored = run.study.get_trials(deepcopy=False)
    if number == len(stored):
        trial = run.study.ask()
    elif wanted.keys() <= stored[number].params.keys():
        return candidate_of(space, stored[number].params)
    else:  # killed while its parameters were being stored: the same seed gives the rest
        trial = Trial(run.study, stored[number]._trial_id)
    try:
        for name, distribution in wanted.items():
            if isinstance(distribution, CategoricalDistribution):
                trial.suggest_categorical(name, distribution.choices)
            elif isinstance(distribution, IntDistribution):
                trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
            elif isinstance(distribution, FloatDistribution):
                trial.suggest_float(
                    name, distribution.low, distribution.high, step=distribution.step
                )
    except NoneAcceptedError as error:
        raise SettingsError(run.prepared.limits.why_none(error.tried)) from error
    return candidate_of(space, trial.params)


def _evaluate_batch(run: _Run, drawn: dict[int, Candidate], pool: ProxyPool | None) -> None:
    """Time one after the other, as a stopwatch wants the machine for itself, or as many at once
    as there are machines; then train together."""
    folder, settings = run.folder, run.folder.settings

    # Those of this batch do not know of each other: the run is the same whichever ends first.
    begun = min(drawn) - min(drawn) % settings.jobs
    earlier = [
        record
        for record in (read_records(folder) if settings.scored_by == "each" else ())
        if record.number < begun
    ]

    def conclude(timed: Timed, outcome: Outcome) -> None:
        record = record_of(timed, outcome, judge=run.judge, earlier=earlier)
        if timed.measurement is not None:
            keep_measurement(
                folder.path,
                Kept(
                    number=record.number,
                    candidate_id=record.candidate_id,
                    measurement=timed.measurement,
                ),
            )
        keep(run.study, record, settings.speed)
        run.observer.finished(record)

    def timing(number: int) -> Timed:
        return time_candidate(
            number, drawn[number], settings=settings, profile=folder.profile, meter=run.meter
        )

    waiting: dict[int, Timed] = {}
    at_once = 1 if run.meter is None else run.meter.num_at_once
    stop = (lambda: None) if run.meter is None else run.meter.stop
    with together(timing, list(drawn), at_once=at_once, stop=stop) as results:
        for timed in results:
            if timed.error is not None or timed.speed is None:
                conclude(timed, timed.error or PhoneSearchError("It could not be timed."))
                continue
            breaks = run.prepared.limits.broken(timed.peak_memory_bytes, timed.speed)
            if breaks:
                conclude(timed, breaks)
                continue
            if pool is None or settings.scored_by != "each":
                conclude(timed, score(run.judge, timed.candidate))
                continue
            run.observer.timed(timed.number, timed.candidate, timed.speed)
            waiting[timed.number] = timed
    corpus = run.prepared.corpus
    if pool is None or corpus is None:
        return
    jobs = {
        number: TrainingJob(
            candidate=timed.candidate,
            corpus=corpus,
            settings=settings.proxy,
            reference_parameters=settings.budget,
            cache_dir=run.prepared.trainings,
            may_be_dropped=settings.early_stopping,
            keep_trunk=settings.early_stopping,
        )
        for number, timed in waiting.items()
    }
    rungs = Rungs(earlier, settings=settings, judge=run.judge)

    def is_hopeless(number: int, tokens: int, loss_nats: float) -> bool:
        return rungs.is_hopeless(waiting[number], tokens, loss_nats)

    for number, outcome in pool.train(jobs, run.observer.training, is_hopeless=is_hopeless):
        conclude(waiting[number], rungs.dropped.get(number, outcome))
