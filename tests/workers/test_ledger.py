"""Each trial counts once, whatever becomes of workers, on both kinds of database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from fleets import QuickRun, check_counts
from optuna.trial import TrialState

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.device.speed import Speed
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.shrink import shrink
from phonesearch.study.gain import gain_sampler
from phonesearch.study.judge import make_judge, score
from phonesearch.study.ledger import Ledger, LostTrialError
from phonesearch.study.limits import Limits
from phonesearch.study.sampler import _value, candidate_of, distributions
from phonesearch.study.shared import publish_anchors, stored_records
from phonesearch.study.store import RECORD, Ending
from phonesearch.study.worker import MOST_DEATHS, StoppedError, Worker

Quick = Callable[..., QuickRun]


def ended(speed: float, loss: float) -> Ending:
    return Ending(state=TrialState.COMPLETE, values=(speed, loss), attributes={})


class Broken(Limits):
    """Accepts all before they are timed, and none after."""

    def accepts(self, candidate: Candidate) -> bool:
        return True

    def broken(self, peak_memory_bytes: int, speed: Speed | None) -> tuple[str, ...]:
        return ("is never good enough",)


def ledger_of(run: QuickRun) -> Ledger:
    return Ledger(run.study(), run.folder.settings.trials)


def point(run: QuickRun, index: int) -> tuple[dict[str, Any], str]:
    """Parameters of a legal point, and the id of its architecture."""
    space = run.prepared.space
    params = {
        axis.name: _value(axis, int(place))
        for axis, place in zip(space.axes, space.positions[index], strict=True)
    }
    return params, candidate_id(candidate_of(space, params))


def test_one_worker_finishes_as_many_as_were_asked_for(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=6)
    assert run.worker().work() == 6
    check_counts(run, 6)
    assert run.worker("late").work() == 0


def test_no_more_trials_are_begun_than_asked_for_however_many_ask_at_once(
    quick: Quick, any_url: str
) -> None:
    run = quick(any_url, trials=5)
    ledgers = [ledger_of(run) for _ in range(8)]
    found: list[object] = []
    ready = threading.Barrier(8)

    def ask(ledger: Ledger) -> None:
        ready.wait()
        found.append(ledger.take("worker"))

    threads = [threading.Thread(target=ask, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken is not None for taken in found) == 5
    numbers = [trial.number for trial in run.study().get_trials(deepcopy=False)]
    assert numbers == [0, 1, 2, 3, 4]


def test_two_that_draw_the_same_architecture_at_once_do_not_both_get_it(
    quick: Quick, any_url: str
) -> None:
    run = quick(any_url)
    params, name = point(run, 7)
    ledgers = [ledger_of(run) for _ in range(4)]
    taken = [ledger.take("worker") for ledger in ledgers]
    ready, found = threading.Barrier(4), []

    def place(ledger: Ledger, trial: int) -> None:
        ready.wait()
        found.append(ledger.place(trial, params, distributions(run.prepared.space), name))

    threads = [
        threading.Thread(target=place, args=(ledger, one.trial_id))
        for ledger, one in zip(ledgers, taken, strict=True)
        if one is not None
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, False, False, True]


def test_a_worker_that_draws_what_another_has_draws_again(
    quick: Quick, any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quick(any_url, trials=2)
    params, name = point(run, 3)
    other = ledger_of(run)
    held = other.take("other")
    assert held is not None
    other.place(held.trial_id, params, distributions(run.prepared.space), name)
    draw, drawn = Worker._draw, []

    def same_first(self: Worker, taken: Any, again: int) -> dict[str, Any]:
        drawn.append(again)
        return params if again == 0 else draw(self, taken, again)

    monkeypatch.setattr(Worker, "_draw", same_first)
    stop = iter([False, False, False, True]).__next__
    with pytest.raises((StoppedError, StopIteration)):
        run.worker(should_stop=stop).work()
    assert drawn == [0, 1]
    (record,) = run.records().values()
    assert record["candidate_id"] != name


def test_the_result_of_one_that_was_taken_for_dead_is_dropped(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=1)
    zombie = ledger_of(run)
    held = zombie.take("zombie")
    assert held is not None
    params, name = point(run, 3)
    zombie.place(held.trial_id, params, distributions(run.prepared.space), name)
    assert zombie.beat(held.trial_id)
    assert ledger_of(run).hand_on([held.trial_id]) == 1
    assert not zombie.beat(held.trial_id)
    assert run.worker("heir").work() == 1
    assert not zombie.settle(held.trial_id, "{}", ended(1.0, 1.0))
    with pytest.raises(LostTrialError, match="trial 0 was given to another"):
        zombie.place(held.trial_id, params, distributions(run.prepared.space), name)
    check_counts(run, 1)
    dead, heir = run.study().get_trials(deepcopy=False)
    assert dead.state == TrialState.FAIL
    assert RECORD not in dead.user_attrs
    assert heir.params == dead.params == params
    assert heir.system_attrs["retry_history"] == [0]


def test_one_without_a_sign_of_life_is_handed_on_once(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=1, fleet={"heartbeat_s": 1, "grace_s": 2})
    held = ledger_of(run).take("dead")
    assert held is not None
    ledgers = [ledger_of(run) for _ in range(4)]
    assert ledgers[0].stale() == []
    time.sleep(3.5)
    assert ledgers[0].stale() == [held.trial_id]
    found: list[int] = []
    ready = threading.Barrier(4)

    def look(ledger: Ledger) -> None:
        stale = ledger.stale()
        ready.wait()
        found.append(ledger.hand_on(stale))

    threads = [threading.Thread(target=look, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, 1]
    assert run.worker().work() == 1
    check_counts(run, 1)


def test_work_that_was_stored_and_not_told_is_neither_lost_nor_made_again(
    quick: Quick, any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quick(any_url, trials=2)
    donor = quick_record(run)
    study, ledger = run.study(), ledger_of(run)
    held = ledger.take("dead")
    assert held is not None
    params, name = point(run, 11)
    ledger.place(held.trial_id, params, distributions(run.prepared.space), name)
    text = json.dumps({**donor, "number": held.number, "candidate_id": name})
    study._storage.set_trial_user_attr(held.trial_id, RECORD, text)
    assert ledger.hand_on([held.trial_id]) == 1
    timed = []
    make = Worker._time
    monkeypatch.setattr(Worker, "_time", lambda *given: timed.append(given[1]) or make(*given))
    assert run.worker().work() == 1
    check_counts(run, 2)
    assert timed == []


def quick_record(run: QuickRun) -> dict[str, Any]:
    """The record of one finished trial."""
    once = iter([False, False])
    with pytest.raises(StoppedError):
        run.worker(should_stop=lambda: next(once, True)).work()
    (record,) = run.records().values()
    return record


def test_one_that_is_told_to_stop_hands_its_trial_on_at_once(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=3)
    once = iter([False])
    with pytest.raises(StoppedError):
        run.worker(should_stop=lambda: next(once, True)).work()
    (dead, waiting) = run.study().get_trials(deepcopy=False)
    assert (dead.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    taken = ledger_of(run).take("next")
    assert taken is not None
    assert (taken.number, taken.deaths) == (1, 0)


def test_a_candidate_that_kills_its_workers_counts_as_failed_in_the_end(
    quick: Quick, any_url: str
) -> None:
    run = quick(any_url, trials=1)
    ledger = ledger_of(run)
    for deaths in range(MOST_DEATHS):
        held = ledger.take(f"worker {deaths}")
        assert held is not None
        assert held.deaths == deaths
        if not deaths:
            params, name = point(run, 5)
            ledger.place(held.trial_id, params, distributions(run.prepared.space), name)
        ledger.hand_on([held.trial_id])
    assert run.worker().work() == 1
    (record,) = run.records().values()
    assert record["state"] == "failed"
    assert f"{MOST_DEATHS} workers were lost while they evaluated it" in record["reason"]


def test_a_step_whose_answer_was_lost_can_be_made_again(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=1)
    ledger = ledger_of(run)
    held = ledger.take("one")
    assert held is not None
    params, name = point(run, 5)
    for _ in range(2):
        assert ledger.place(held.trial_id, params, distributions(run.prepared.space), name)
    for _ in range(2):
        assert ledger.settle(held.trial_id, "{}", ended(1.0, 2.0))
    assert ledger.standing() == 1


def test_a_small_space_is_evaluated_whole_and_no_more(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=5000, space="tiny", budget=300_000)
    size = len(run.prepared.space)
    assert size < 5000
    worker = run.worker()
    assert worker._ledger.target == size


def test_a_sampler_sees_trials_under_way_of_others(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=3)
    other = ledger_of(run)
    worker = run.worker()
    held = other.take("other")
    taken = other.take("one")
    assert held is not None
    assert taken is not None
    first = worker._draw(taken, 0)
    name = candidate_id(candidate_of(run.prepared.space, first))
    other.place(held.trial_id, first, distributions(run.prepared.space), name)
    assert worker._draw(taken, 0) != first


def test_infeasible_ones_count_as_results(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=3)
    worker = run.worker()
    worker._prepared = replace(run.prepared, limits=Broken(run.folder.settings, run.folder.profile))
    assert worker.work() == 3
    check_counts(run, 3)
    assert {record["state"] for record in run.records().values()} == {"infeasible"}


def test_workers_wait_for_the_anchors_and_then_judge_by_them(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=3, scored_by="anchors")
    settings = run.folder.settings
    trained = tuple(
        ProxyLoss(
            bits_per_byte=2.0 + 0.02 * place,
            standard_error=0.01,
            passed_transition=True,
            copy_gap_nats=0.5,
            tokens=settings.proxy.tokens,
            seconds=1.0,
            proxy=asdict(
                shrink(
                    run.prepared.space.candidate(37 * place),
                    settings.proxy,
                    reference_parameters=settings.budget,
                )
            ),
            recipe={},
            curve=((1, 5.0),),
        )
        for place in range(6)
    )
    worker = run.worker()
    thread = threading.Thread(target=worker.work)
    thread.start()
    time.sleep(1.0)
    assert not run.records()
    publish_anchors(run.study(), trained)
    thread.join(60)
    judge = make_judge(settings, trained)
    stored = stored_records(run.study())
    assert len(stored) == 3
    for record in stored:
        assert record.score == score(judge, record.candidate)
        assert record.score != score(make_judge(settings), record.candidate)


def test_workers_draw_by_gain_and_no_architecture_twice(quick: Quick, any_url: str) -> None:
    run = quick(any_url, trials=12, sampler="gain")
    settings = run.folder.settings
    workers = []
    for name in ("one", "two", "three"):
        gain = gain_sampler(
            settings, run.prepared.space, run.folder.profile, run.prepared.limits, num_draws=200
        )
        mine = replace(run, prepared=replace(run.prepared, gain=gain))
        workers.append(threading.Thread(target=mine.worker(name).work))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    check_counts(run, 12)
