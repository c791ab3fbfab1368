from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyDroppedError, ProxyError
from phonesearch.proxy import train
from phonesearch.proxy.corpus import load_corpus
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.settings import RunSettings
from phonesearch.study.workers import ProxyPool, TrainingJob, _serve, proxy_pool, quiet_of


@pytest.fixture
def job(settings: RunSettings, cache: Path, tiny: Candidate) -> TrainingJob:
    return TrainingJob(
        candidate=tiny,
        corpus=load_corpus(settings.proxy, cache_dir=cache),
        settings=settings.proxy,
        reference_parameters=100_000,
    )


def test_every_job_is_trained_and_tells_its_progress(job: TrainingJob) -> None:
    seen: set[int] = set()
    with proxy_pool(2) as pool:
        outcomes = dict(
            pool.train({5: job, 6: job, 7: job}, lambda trial, done, whole: seen.add(trial))
        )
    assert outcomes.keys() == seen == {5, 6, 7}
    losses = set()
    for outcome in outcomes.values():
        assert isinstance(outcome, ProxyLoss)
        losses.add(outcome.bits_per_byte)
    assert len(losses) == 1  # the same job, whoever trains it


def test_what_is_hopeless_at_a_rung_is_given_up_and_the_others_go_on(job: TrainingJob) -> None:
    asked: list[tuple[int, int]] = []

    def is_hopeless(trial: int, tokens: int, loss_nats: float) -> bool:
        assert loss_nats > 0
        asked.append((trial, tokens))
        return trial == 6 and tokens >= job.settings.tokens // 2

    jobs = {number: replace(job, may_be_dropped=number != 7) for number in (5, 6, 7)}
    with proxy_pool(2) as pool:
        outcomes = dict(pool.train(jobs, lambda *seen: None, is_hopeless=is_hopeless))
    assert isinstance(outcomes[6], ProxyDroppedError)
    assert isinstance(outcomes[5], ProxyLoss)
    assert isinstance(outcomes[7], ProxyLoss)
    assert {trial for trial, _ in asked} == {5, 6}
    assert max(tokens for trial, tokens in asked if trial == 5) > job.settings.tokens // 2


def test_trainings_make_room_for_whoever_measures_on_this_machine(
    job: TrainingJob, tmp_path: Path
) -> None:
    long = replace(job, cache_dir=tmp_path, settings=replace(job.settings, tokens=120_000))
    seen: list[int] = []
    paused: list[int] = []

    def progress(trial: int, tokens: int, total: int) -> None:
        seen.append(tokens)
        if len(seen) == 3:
            with quiet_of(tmp_path).alone():
                time.sleep(1.0)  # what was under way when it began is told by now
                while pool._workers[0].pipe.poll(0):
                    pool._workers[0].pipe.recv()
                time.sleep(2.0)
                paused.append(pool._workers[0].pipe.poll(0))

    with proxy_pool(1) as pool:
        ((_, outcome),) = pool.train({0: long}, progress)
    assert isinstance(outcome, ProxyLoss)
    assert paused == [False]


def test_a_worker_that_dies_costs_its_own_job_only(job: TrainingJob) -> None:
    endless = replace(job, settings=replace(job.settings, tokens=job.settings.tokens * 500))
    with proxy_pool(1) as pool:
        (worker,) = pool._workers

        def kill(trial: int, done: int, whole: int) -> None:
            if trial == 0 and worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGKILL)

        outcomes = dict(pool.train({0: endless, 1: job}, kill))
    assert isinstance(outcomes[0], ProxyError)
    assert "exit code -9" in str(outcomes[0])
    assert isinstance(outcomes[1], ProxyLoss)


def test_a_job_that_cannot_be_trained_is_an_error_with_its_reason(job: TrainingJob) -> None:
    broken = replace(job, settings=replace(job.settings, parameters=5_000))
    with proxy_pool(1) as pool:
        ((_, outcome),) = pool.train({0: broken}, lambda *_: None)
    assert isinstance(outcome, ProxyError)
    assert str(outcome)


def kept(job: TrainingJob, cache_dir: Path) -> TrainingJob:
    return replace(job, cache_dir=cache_dir)


def test_a_job_that_was_trained_before_is_looked_up(job: TrainingJob, tmp_path: Path) -> None:
    with proxy_pool(2) as pool:
        first = dict(pool.train({0: kept(job, tmp_path)}, lambda *_: None))[0]
        both = dict(
            pool.train({1: kept(job, tmp_path), 2: kept(job, tmp_path)}, lambda *_: None)
        ).values()
    assert isinstance(first, ProxyLoss)
    assert not first.from_cache
    assert all(outcome == replace(first, from_cache=True) for outcome in both)


def test_two_workers_asked_for_one_proxy_train_it_once(job: TrainingJob, tmp_path: Path) -> None:
    with proxy_pool(2) as pool:
        outcomes = dict(
            pool.train({0: kept(job, tmp_path), 1: kept(job, tmp_path)}, lambda *_: None)
        ).values()
    losses = [outcome for outcome in outcomes if isinstance(outcome, ProxyLoss)]
    assert sorted(loss.from_cache for loss in losses) == [False, True]
    assert len({loss.bits_per_byte for loss in losses}) == 1


def test_a_worker_that_is_killed_leaves_a_state_that_the_next_goes_on_from(
    job: TrainingJob, tmp_path: Path
) -> None:
    """The second time, the first progress that is told lies behind the trunk."""
    long = replace(job, settings=replace(job.settings, tokens=job.settings.tokens * 20))
    with proxy_pool(1) as pool:
        (worker,) = pool._workers

        def kill(trial: int, done: int, whole: int) -> None:
            if done > 0.8 * whole and worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGKILL)

        killed = dict(pool.train({0: kept(long, tmp_path)}, kill))[0]
        assert isinstance(killed, ProxyError)
        told: list[int] = []
        again = dict(
            pool.train({1: kept(long, tmp_path)}, lambda trial, done, whole: told.append(done))
        )[1]
        unbroken = dict(pool.train({2: long}, lambda *_: None))[2]
    assert isinstance(again, ProxyLoss)
    assert isinstance(unbroken, ProxyLoss)
    assert told[0] > 0.7 * unbroken.tokens
    assert replace(again, seconds=0) == replace(unbroken, seconds=0)


def test_a_pool_that_is_closed_leaves_states_to_go_on_from(
    job: TrainingJob, tmp_path: Path
) -> None:
    endless = replace(job, settings=replace(job.settings, tokens=job.settings.tokens * 500))

    class EnoughError(Exception):
        pass

    def stop(trial: int, done: int, whole: int) -> None:
        if done > 0:
            raise EnoughError

    with proxy_pool(1) as pool:
        (worker,) = pool._workers
        outcomes = pool.train({0: kept(endless, tmp_path)}, stop)
        with pytest.raises(EnoughError):
            next(outcomes)
    assert worker.process.exitcode == 0
    assert [path.suffix for path in (tmp_path / "proxies").glob("*.state")] == [".state"]


@pytest.mark.parametrize("ending", ["diverged", "out of memory", "a bug"])
def test_a_study_goes_on_after_a_training_that_failed(
    ending: str, job: TrainingJob, tmp_path: Path
) -> None:
    """In this process, as another cannot be made to fail: as `_serve` does with each job."""
    spoiled = {
        "diverged": ProxyError("The proxy's training diverged"),
        "out of memory": MemoryError(),
        "a bug": KeyError("missing"),
    }[ending]
    said = {"diverged": "diverged", "out of memory": "Memory ran out", "a bug": "KeyError"}[ending]
    sent = [kept(job, tmp_path), kept(job, tmp_path)]
    answers: list[object] = []

    class Pipe:
        def poll(self, _: float) -> bool:
            return True

        def recv(self) -> TrainingJob:
            if not sent:
                raise EOFError
            return sent.pop(0)

        def send(self, message: object) -> None:
            if not isinstance(message, tuple):
                answers.append(message)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(signal, "signal", lambda *_: None)
        patched.setattr(torch, "set_num_threads", lambda _: None)
        whole, calls = train.train_model, iter([spoiled, None])

        def train_model(*args: object, **kwargs: object) -> object:
            error = next(calls)
            if error is not None:
                raise error
            return whole(*args, **kwargs)  # type: ignore[arg-type]

        patched.setattr(train, "train_model", train_model)
        _serve(Pipe(), os.getppid())  # type: ignore[arg-type]
    assert isinstance(answers[0], ProxyError)
    assert said in str(answers[0])
    assert isinstance(answers[1], ProxyLoss)
    assert not answers[1].from_cache


ORPHANED = """
import os, sys
from phonesearch.study.workers import proxy_pool

if __name__ == "__main__":
    with proxy_pool(1) as pool:
        print(pool._workers[0].process.pid, flush=True)
        sys.stdin.read()
"""


def test_a_worker_ends_with_the_process_that_it_works_for(tmp_path: Path) -> None:
    script = tmp_path / "orphaned.py"
    script.write_text(ORPHANED)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(300):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived its parent by half a minute")


def test_an_idle_worker_ends_without_a_word_whenever_it_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Told just as its pipe closes, it may get the signal while the interpreter ends."""
    for delay_s in (0.0, 0.05, 0.2, 0.6):
        pool = ProxyPool(1)
        process = pool._workers[0].process
        list(pool.train({}, lambda *_: None))
        pool._workers[0].pipe.close()
        time.sleep(delay_s)
        pool.close()
        assert not process.is_alive()
        assert process.exitcode in (0, -signal.SIGTERM)
    assert "Traceback" not in capfd.readouterr().err
