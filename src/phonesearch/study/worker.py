"""One worker of many: takes trials from a study that all share, until it has as many as it wants.

There are no batches: whoever is free takes the next trial, so the order of trials, and what a
sampler has seen before each, depend on how fast the workers are. A trial whose worker shows no
sign of life is given to another; the one that is through waits until nobody evaluates any more,
so as to be there for that.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from phonesearch import files
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import weight_bytes
from phonesearch.errors import PhoneSearchError, ProxyDroppedError, ProxyError, SettingsError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.draws import sampler_of
from phonesearch.study.early import Rungs, wanted_trials
from phonesearch.study.evaluate import Outcome, Timed, record_of, time_candidate
from phonesearch.study.folder import RunFolder
from phonesearch.study.heartbeat import Heartbeat
from phonesearch.study.judge import Judge, make_judge, score
from phonesearch.study.ledger import Ledger, LostTrialError, Taken
from phonesearch.study.meter import Meter
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.sampler import NoneAcceptedError, candidate_of, distributions
from phonesearch.study.settings import RunSettings
from phonesearch.study.shared import fleet_of, is_closed, shared_anchors
from phonesearch.study.stopwatch import Turn, turn_memory_bytes, weight_bits
from phonesearch.study.storage import SharedStorage, patiently
from phonesearch.study.store import RECORD, ending_of

MEASUREMENT: Final = "measurement"
"""User attribute of a trial: its measurement with all raw samples."""
MOST_DEATHS: Final = 10
"""Workers that one trial may cost before it counts as failed: it may be what kills them. Where half
of all workers are killed by chance at every trial, one in a thousand comes to so many."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class StoppedError(Exception):
    """The worker was told to stop; its trial waits for another."""


class Trainer(Protocol):
    """Trains the proxy of a candidate."""

    def __call__(
        self,
        candidate: Candidate,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        is_hopeless: Callable[[int, float], bool],
    ) -> ProxyLoss:
        """Its loss.

        Raises:
            ProxyError: If the training failed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a worker is given, besides its study."""

    name: str
    """Its own, of all workers of the study."""
    train: Trainer | None
    meter: Meter | None
    should_stop: Callable[[], bool] = lambda: False
    """Whether it was told to stop, or who started it is gone."""


@dataclass(slots=True)
class _State:
    """What changes while it works."""

    parsed: dict[int, TrialRecord] = field(default_factory=dict)
    """Records of others, by number."""
    positions: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    """What samplers know of others, by number."""
    looked_s: float = 0.0
    """When it last looked for trials of the dead."""


class Worker:
    """Evaluates trials of a study.

    Args:
        study: On a `SharedStorage`, with what `shared.publish` puts there.
        folder: As the study has it.
        prepared: Of those settings.
        tools: To evaluate with.
        observer: Told of every step.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: RunFolder,
        prepared: Prepared,
        *,
        tools: Tools,
        observer: RunObserver,
    ) -> None:
        storage = study._storage
        assert isinstance(storage, SharedStorage)
        self._study, self._storage = study, storage
        self._folder, self._prepared = folder, prepared
        self._tools, self._observer = tools, observer
        self._settings: RunSettings = folder.settings
        self._fleet = fleet_of(folder.settings)
        self._ledger = Ledger(study, self._wanted(()))
        self._distributions = distributions(prepared.space)
        self._state = _State()

    def work(self) -> int:
        """Take trials until there are no more, or the time that the run was given is over.

        Returns:
            How many it finished.

        Raises:
            StorageError: If the database stays away.
            StoppedError: If it was told to stop.
            SettingsError: If no candidate meets the constraints.
        """
        judge = self._judge()
        finished, pause_s = 0, _FIRST_PAUSE_S
        with Heartbeat(self._ledger, interval_s=self._fleet.heartbeat_s) as heartbeat:
            while True:
                self._stop_if_told()
                self.look_for_dead()
                if self._is_over():
                    return finished
                self._ledger.target = self._wanted(self._earlier())
                taken = self._ask(lambda: self._ledger.take(self._tools.name))
                if taken is not None:
                    finished += self._evaluate(taken, judge, heartbeat)
                    pause_s = _FIRST_PAUSE_S
                    continue
                if self._ask(self._ledger.standing) >= self._ledger.target:
                    return finished
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S, self._fleet.heartbeat_s)

    def _is_over(self) -> bool:
        return self._settings.time_s is not None and self._ask(lambda: is_closed(self._study))

    def _wanted(self, records: Sequence[TrialRecord]) -> int:
        return min(wanted_trials(self._settings, records), len(self._prepared.space))

    def look_for_dead(self) -> None:
        """Now and then: let trials wait for a worker whose own shows no sign of life."""
        now_s = time.monotonic()
        if now_s - self._state.looked_s < self._fleet.heartbeat_s:
            return
        self._state.looked_s = now_s
        stale = self._ask(self._ledger.stale)
        if not stale:
            return
        hand_on: Callable[[], int] = partial(self._ledger.hand_on, stale)
        if self._ask(hand_on):
            self._observer.say(f"{len(stale)} trials of workers without a sign of life wait again")

    def _ask(self, call: Callable[[], T]) -> T:
        return patiently(
            call,
            patience_s=self._fleet.grace_s,
            where=self._fleet.storage or "of the run",
            say=self._observer.say,
        )

    def _stop_if_told(self) -> None:
        if self._tools.should_stop():
            raise StoppedError

    def _judge(self) -> Judge:
        if self._settings.scored_by != "anchors":
            return make_judge(self._settings)
        is_told = False
        while True:
            trained = self._ask(lambda: shared_anchors(self._study))
            if trained is not None:
                return make_judge(self._settings, trained)
            if not is_told:
                self._observer.say("Waiting for the anchors, which the run trains first")
                is_told = True
            self._stop_if_told()
            time.sleep(_LONGEST_PAUSE_S)

    def _evaluate(self, taken: Taken, judge: Judge, heartbeat: Heartbeat) -> bool:
        """Whether the trial was finished by this worker."""
        heartbeat.begin(taken.trial_id)
        try:
            if taken.record is not None:
                return self._end_of(taken)
            candidate = self._candidate(taken)
            if taken.deaths >= MOST_DEATHS:
                return self._settle(taken, self._given_up(taken, candidate, judge))
            timed = self._time(taken.number, candidate)
            outcome = self._outcome(timed, judge, heartbeat)
            record = record_of(timed, outcome, judge=judge, earlier=self._earlier())
            return self._settle(taken, record, timed)
        except LostTrialError as lost:
            self._observer.say(f"Dropped: {lost}")
            return False
        except SettingsError:
            self._ask(lambda: self._ledger.give_up(taken.trial_id))
            raise
        except BaseException:
            # Another can take it at once, where there still is a database to tell.
            try:
                self._ledger.hand_on([taken.trial_id], died=False)
            except Exception as error:
                _LOGGER.warning("Trial %d could not be handed on: %s", taken.number, error)
            raise
        finally:
            heartbeat.end()

    def _end_of(self, taken: Taken) -> bool:
        """End a trial whose record was stored by a worker that died thereupon."""
        assert taken.record is not None
        record = files.structure(json.loads(taken.record), TrialRecord, path=Path("study"))
        return self._settle(taken, replace(record, number=taken.number))

    def _candidate(self, taken: Taken) -> Candidate:
        """The trial's own; drawn where it has none yet."""
        space = self._prepared.space
        if self._distributions.keys() <= taken.params.keys():
            return candidate_of(space, dict(taken.params))
        again = 0
        while True:
            self._stop_if_told()
            params = self._ask(partial(self._draw, taken, again))
            candidate = candidate_of(space, params)
            name = candidate_id(candidate)
            place = partial(self._ledger.place, taken.trial_id, params, self._distributions, name)
            if self._ask(place):
                return candidate
            again += 1

    def _draw(self, taken: Taken, again: int) -> dict[str, Any]:
        sampler = sampler_of(
            self._settings, self._prepared, taken.number, again=again, known=self._state.positions
        )
        self._study.sampler = sampler
        self._study._thread_local.cached_all_trials = None  # else it shows an earlier look
        with self._storage.held(self._study._study_id):
            trials = self._study.get_trials(deepcopy=False)
            # Samplers leave out what comes later; of many workers, nothing does.
            last = max((trial.number for trial in trials), default=taken.number)
            trial = optuna.trial.FrozenTrial(
                number=last + 1,
                trial_id=taken.trial_id,
                state=TrialState.RUNNING,
                value=None,
                datetime_start=None,
                datetime_complete=None,
                params={},
                distributions={},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
            )
            try:
                return sampler.sample_relative(self._study, trial, self._distributions)
            except NoneAcceptedError as error:
                raise SettingsError(self._prepared.limits.why_none(error.tried)) from error

    def _time(self, number: int, candidate: Candidate) -> Timed:
        return time_candidate(
            number,
            candidate,
            settings=self._settings,
            profile=self._folder.profile,
            meter=self._tools.meter,
        )

    def _outcome(self, timed: Timed, judge: Judge, heartbeat: Heartbeat) -> Outcome:
        if timed.error is not None or timed.speed is None:
            return timed.error or PhoneSearchError("It could not be timed.")
        breaks = self._prepared.limits.broken(timed.peak_memory_bytes, timed.speed)
        if breaks:
            return breaks
        if self._settings.scored_by != "each" or self._tools.train is None:
            return score(judge, timed.candidate)
        self._observer.timed(timed.number, timed.candidate, timed.speed)

        def progress(tokens: int, total_tokens: int) -> None:
            self._observer.training(timed.number, tokens, total_tokens)

        def should_stop() -> bool:
            return heartbeat.is_lost or self._tools.should_stop()

        rungs = Rungs(self._earlier(), settings=self._settings, judge=judge)

        def is_hopeless(tokens: int, loss_nats: float) -> bool:
            return rungs.is_hopeless(timed, tokens, loss_nats)

        try:
            return self._tools.train(timed.candidate, progress, should_stop, is_hopeless)
        except ProxyDroppedError:
            return rungs.dropped[timed.number]
        except PhoneSearchError as error:
            self._stop_if_told()
            if heartbeat.is_lost:
                raise LostTrialError(timed.number) from error
            return ProxyError(str(error))
        except Exception as error:  # a bug in one candidate must not end a night's run
            return ProxyError(f"The proxy's training failed: {type(error).__name__}: {error}")

    def _earlier(self) -> list[TrialRecord]:
        """Records of all others that have a training of their own."""
        if self._settings.scored_by != "each":
            return []
        parsed = self._state.parsed
        for trial in self._ask(lambda: self._study.get_trials(deepcopy=False)):
            if trial.state.is_finished() and trial.number not in parsed:
                text = trial.user_attrs.get(RECORD)
                if text is not None:
                    parsed[trial.number] = files.structure(
                        json.loads(text), TrialRecord, path=Path("study")
                    )
        return list(parsed.values())

    def _settle(self, taken: Taken, record: TrialRecord, timed: Timed | None = None) -> bool:
        ending = ending_of(record, self._settings.speed)
        more = dict(ending.attributes)
        if timed is not None and timed.measurement is not None:
            more[MEASUREMENT] = json.dumps(asdict(timed.measurement))
        text = json.dumps(asdict(record))
        is_ours = self._ask(
            lambda: self._ledger.settle(taken.trial_id, text, replace(ending, attributes=more))
        )
        if not is_ours:
            raise LostTrialError(taken.number)
        self._observer.finished(record)
        return True

    def _given_up(self, taken: Taken, candidate: Candidate, judge: Judge) -> TrialRecord:
        turn = Turn(
            prompt_tokens=self._settings.prompt_tokens,
            generate_tokens=self._settings.generate_tokens,
        )
        bits = weight_bits(self._folder.profile, self._settings.engine)
        timed = Timed(
            number=taken.number,
            candidate=candidate,
            estimate=None,
            measurement=None,
            weight_bytes=weight_bytes(candidate, weight_bits=bits),
            peak_memory_bytes=turn_memory_bytes(candidate, turn, weight_bits=bits),
            error=None,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=0.0,
        )
        reason = PhoneSearchError(
            f"{taken.deaths} workers were lost while they evaluated it (out of memory?), so it is "
            "not tried again."
        )
        return record_of(timed, reason, judge=judge)
