"""A search by many workers, from the side of the run: it makes the study, and looks after it.

What losses are judged by is made first, here: with anchors, these are trained before any worker
begins. Then the run only watches: it tells of what workers finish, starts those again that died,
and ends when the study has all its trials, whoever evaluated them, or its time is over.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import optuna

from phonesearch import files
from phonesearch.errors import StorageError
from phonesearch.study.anchor_training import anchors_due, train_anchors
from phonesearch.study.copies import write_copies
from phonesearch.study.crew import Crew
from phonesearch.study.deadline import FEWEST_TRIALS, Deadline
from phonesearch.study.early import longer_rounds_s, wanted_trials
from phonesearch.study.folder import RunFolder, locked
from phonesearch.study.ledger import WORKER, Ledger
from phonesearch.study.measurements import Kept, keep_measurement, read_measurements
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.shared import close, fleet_of, publish, publish_anchors, shared_study
from phonesearch.study.storage import complete_url, patiently
from phonesearch.study.store import RECORD, read_records
from phonesearch.study.worker import MEASUREMENT
from phonesearch.study.workers import proxy_pool
from phonesearch.timing.base import Measurement

_LOOK_INTERVAL_S: Final = 0.5
_COPY_INTERVAL_S: Final = 15.0

T = TypeVar("T")
MakeCrew = Callable[[RunFolder, str], Crew]
"""Workers for the run of a folder, given the URL of its database."""


def url_of(folder: RunFolder) -> str:
    """Of the database of a run with workers, with its password.

    Raises:
        StorageError: If the password is neither known nor in the environment.
    """
    stored = fleet_of(folder.settings).storage
    if stored is None:
        return f"sqlite:///{folder.path.resolve() / 'study.db'}"
    url = complete_url(stored)
    assert url is not None
    return url


def search_together(
    folder: RunFolder,
    prepared: Prepared,
    *,
    observer: RunObserver,
    make_crew: MakeCrew | None,
    machine: str | None = None,
    deadline: Deadline | None = None,
) -> tuple[TrialRecord, ...]:
    """Run the study of a folder to its end by workers, from wherever it stands.

    Args:
        folder: A run with a fleet, new or begun.
        prepared: Made from the folder's own settings, space and profile.
        observer: Told of every step.
        make_crew: Makes the workers that the run starts itself; None for none.
        machine: That is measured, in words; None where nothing is.
        deadline: When to end, where the run was given a time. Workers are then told to begin
            nothing that would end too late; what they have not finished by then waits for a
            resumed run.

    Returns:
        The records of all finished trials, by number.

    Raises:
        RunFolderError: If another process works on the folder, or it cannot be written.
        StorageError: If the database cannot be used.
        WorkerError: If workers die again and again.
    """
    url, fleet = url_of(folder), fleet_of(folder.settings)
    with locked(folder):
        publish(folder, prepared, url, machine=machine)
        with shared_study(url, fleet.study, fleet=fleet) as study:
            watch = _Watch(folder, study, observer, deadline)
            try:
                watch.look(is_first=True)
                _judge_by_anchors(folder, prepared, study, observer)
                with nullcontext() if make_crew is None else make_crew(folder, url) as crew:
                    _to_the_end(watch, Ledger(study, watch.target(prepared)), crew, prepared)
            finally:
                watch.leave()
        return read_records(folder)


def _judge_by_anchors(
    folder: RunFolder, prepared: Prepared, study: optuna.Study, observer: RunObserver
) -> None:
    if folder.settings.scored_by != "anchors":
        return
    with ExitStack() as stack:
        pool = None
        if anchors_due(folder):
            pool = stack.enter_context(proxy_pool(folder.settings.jobs))
        publish_anchors(study, train_anchors(folder, prepared, pool, observer))


def _to_the_end(watch: _Watch, ledger: Ledger, crew: Crew | None, prepared: Prepared) -> None:
    fleet = watch.fleet
    looked_s = time.monotonic()

    def hand_on(trials: list[int]) -> None:
        if trials:
            watch.ask(lambda: ledger.hand_on(trials))

    while True:
        watch.look()
        done = watch.ask(ledger.standing)
        if done >= watch.target(prepared):
            watch.look()
            if done >= watch.target(prepared):  # what ended last may have been given up
                break
        if watch.is_over(done, ledger):
            watch.observer.say("The time that the run was given is over")
            return
        if crew is not None and not watch.is_closed:
            gone = crew.tend(watch.taken, watch.finished)
            if gone:
                free: Callable[[], list[int]] = partial(ledger.of_workers, gone)
                hand_on(watch.ask(free))
        if time.monotonic() - looked_s > fleet.heartbeat_s:  # there may be no worker to do it
            looked_s = time.monotonic()
            hand_on(watch.ask(ledger.stale))
        time.sleep(_LOOK_INTERVAL_S)
    target = watch.target(prepared)
    if target < watch.folder.settings.trials:
        watch.observer.say(
            f"All {target:,} architectures of the space were evaluated; the run ends here."
        )


class _Watch:
    """What the run knows of its study."""

    def __init__(
        self,
        folder: RunFolder,
        study: optuna.Study,
        observer: RunObserver,
        deadline: Deadline | None,
    ) -> None:
        self.folder, self.observer, self._deadline = folder, observer, deadline
        self.fleet = fleet_of(folder.settings)
        self.taken: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self._study = study
        self._records: dict[int, TrialRecord] = {}
        self._measured = set(read_measurements(folder.path))
        self._seen: set[int] = set()
        self._copied_s = time.monotonic()
        self._is_copied = True
        self.is_closed = False

    def target(self, prepared: Prepared) -> int:
        """Trials that there are to be in all, as far as is known."""
        wanted = wanted_trials(self.folder.settings, self._records.values())
        return min(wanted, len(prepared.space))

    def is_over(self, done: int, ledger: Ledger) -> bool:
        """Whether to leave, as the time of the run is over and nobody is at work, or it is past.

        Workers are told beforehand, when another trial as long as the last ones would end too late.

        Args:
            done: Trials that are finished.
            ledger: Of the run.
        """
        deadline, settings = self._deadline, self.folder.settings
        if deadline is None:
            return False
        if not self.is_closed:
            deadline.reserved_s = longer_rounds_s(settings, list(self._records.values()))
            is_quick = settings.scored_by != "each" and not self.folder.profile.measured
            if not deadline.is_over or (is_quick and done < FEWEST_TRIALS):
                return False
            self.ask(lambda: close(self._study))
            self.is_closed = True
        return deadline.left_s < deadline.reserved_s or not self.ask(ledger.under_way)

    def ask(self, call: Callable[[], T]) -> T:
        """The answer of the database, which may be away for a while."""
        return patiently(
            call,
            patience_s=self.fleet.grace_s,
            where=self.fleet.storage or f"of {self.folder.path}",
            say=self.observer.say,
        )

    def look(self, *, is_first: bool = False) -> None:
        """Tell of what is new."""
        new = []
        for trial in self.ask(lambda: self._study.get_trials(deepcopy=False)):
            worker = str(trial.user_attrs.get(WORKER, ""))
            if trial.number not in self._seen and worker:
                self._seen.add(trial.number)
                self.taken[worker] += 1
            text = trial.user_attrs.get(RECORD)
            if text is None or trial.number in self._records or not trial.state.is_finished():
                continue
            record = files.structure(json.loads(text), TrialRecord, path=Path("study"))
            self._records[trial.number] = record
            self.finished[worker] += 1
            if self._deadline is not None and not is_first:
                self._deadline.took(record.seconds)
            self._keep_measurement(record, trial.user_attrs.get(MEASUREMENT))
            new.append(record)
        if is_first:
            self.observer.resumed(tuple(new), self.folder.settings.trials)
        else:
            self.observer.wanted(wanted_trials(self.folder.settings, self._records.values()))
            for record in new:
                self.observer.finished(record)
        self._is_copied = self._is_copied and not new
        if time.monotonic() - self._copied_s > _COPY_INTERVAL_S:
            self._copy()

    def leave(self) -> None:
        """What was finished last, as far as the database still answers."""
        try:
            self.look()
        except StorageError as error:
            self.observer.say(str(error))
        self._copy()

    def _copy(self) -> None:
        """Where the database is elsewhere, so that reports need none."""
        if self.fleet.storage is not None and not self._is_copied:
            write_copies(self.folder.path, [self._records[one] for one in sorted(self._records)])
        self._copied_s, self._is_copied = time.monotonic(), True

    def _keep_measurement(self, record: TrialRecord, text: str | None) -> None:
        if text is None or record.number in self._measured:
            return
        self._measured.add(record.number)
        measurement = files.structure(json.loads(text), Measurement, path=Path("study"))
        kept = Kept(number=record.number, candidate_id=record.candidate_id, measurement=measurement)
        keep_measurement(self.folder.path, kept)
