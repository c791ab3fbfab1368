from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyError
from phonesearch.proxy.corpus import load_corpus
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.settings import RunSettings
from phonesearch.study.workers import TrainingJob, proxy_pool


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
