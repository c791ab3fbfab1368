"""Workers as processes, killed by SIGKILL at random: every trial is finished and counted once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fleets import QuickRun, check_counts, environment, start_worker
from postgres import PASSWORD, Server

from phonesearch.front.pareto import front
from phonesearch.study.copies import write_copies
from phonesearch.study.shared import stored_records
from phonesearch.study.store import read_records

pytestmark = pytest.mark.crowd

Quick = Callable[..., QuickRun]


def ended(process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> str:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(log.read_text()) from None
    return log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_trials_of_8_workers_that_are_killed_all_the_time(
    quick: Quick, postgres_url: str, tmp_path: Path
) -> None:
    run = quick(postgres_url, trials=200, fleet={"heartbeat_s": 1, "grace_s": 4})
    log = tmp_path / "log"
    rng = random.Random(7)
    workers = [start_worker(postgres_url, log=log) for _ in range(8)]
    killed = killed_at_work = 0
    study = run.study()
    try:
        due = 0  # finished trials at which the next is killed: at the pace of any machine
        while not all(worker.poll() == 0 for worker in workers):
            time.sleep(0.05)
            trials = study.get_trials(deepcopy=False)
            busy = {
                str(trial.user_attrs.get("worker", "")).rsplit("-", 2)[-2]
                for trial in trials
                if trial.state.name == "RUNNING"
            }
            alive = [place for place, one in enumerate(workers) if one.poll() is None]
            at_work = [place for place in alive if str(workers[place].pid) in busy]
            finished = sum("record" in trial.user_attrs for trial in trials)
            if finished >= due and (at_work or (alive and rng.random() < 0.2)):
                due = finished + rng.randint(2, 9)
                place = rng.choice(at_work or alive)
                workers[place].kill()
                workers[place].wait()
                killed += 1
                killed_at_work += bool(at_work)
            for place, worker in enumerate(workers):
                if worker.poll() not in (None, 0):
                    assert worker.returncode == -signal.SIGKILL, log.read_text()
                    workers[place] = start_worker(postgres_url, log=log)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    print(f"{killed} killed, {killed_at_work} of them at work")
    assert killed_at_work >= 15
    check_counts(run, 200)
    dead = [trial for trial in study.get_trials() if "record" not in trial.user_attrs]
    assert dead
    records = stored_records(study)
    write_copies(run.folder.path, records)
    read = read_records(run.folder)
    assert len(read) == 200
    assert {record.state for record in read} == {"complete"}
    reached = {
        one.number: (one.speed.decode_tokens_per_s, one.score.log_loss)
        for one in read
        if one.speed and one.score
    }
    expected = {
        number
        for number, (fast, loss) in reached.items()
        if not any(
            other != (fast, loss) and other[0] >= fast and other[1] <= loss
            for other in reached.values()
        )
    }
    assert {trial.number for trial in study.best_trials} == expected
    assert {member.record.number for member in front(read, "decode").members} == expected


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_hands_its_trial_on(
    how: signal.Signals, quick: Quick, any_url: str, tmp_path: Path
) -> None:
    run = quick(any_url, trials=10_000)
    log = tmp_path / "log"
    worker = start_worker(any_url, log=log)
    deadline = time.monotonic() + 60
    while not run.records() and time.monotonic() < deadline:
        time.sleep(0.2)
    worker.send_signal(how)
    text = ended(worker, log)
    assert worker.returncode == 130, text
    assert "Stopped; what was in work waits for another worker" in text
    states = {trial.state.name for trial in run.study().get_trials(deepcopy=False)}
    assert "RUNNING" not in states
    assert PASSWORD not in text


def test_a_database_that_goes_away_ends_the_worker_with_a_message_and_nothing_is_lost(
    quick: Quick, server: Server, postgres_url: str, tmp_path: Path
) -> None:
    run = quick(postgres_url, trials=60, fleet={"heartbeat_s": 1, "grace_s": 2})
    log = tmp_path / "log"
    worker = start_worker(postgres_url, log=log)
    deadline = time.monotonic() + 60
    while len(run.records()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    server.stop()
    try:
        text = ended(worker, log)
    finally:
        server.start()
    assert worker.returncode == 1, text
    assert "does not answer any more" in text
    assert "Finished trials are kept in it" in text
    assert "Traceback" not in text
    assert PASSWORD not in text
    time.sleep(2.5)
    assert run.worker("later").work() > 0
    check_counts(run, 60)


def test_a_database_that_comes_back_soon_is_waited_for(
    quick: Quick, server: Server, postgres_url: str, tmp_path: Path
) -> None:
    run = quick(postgres_url, trials=30, fleet={"heartbeat_s": 1, "grace_s": 30})
    log = tmp_path / "log"
    worker = start_worker(postgres_url, log=log)
    deadline = time.monotonic() + 60
    while len(run.records()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    server.stop()
    time.sleep(1.5)
    server.start()
    text = ended(worker, log)
    assert worker.returncode == 0, text
    check_counts(run, 30)


def test_the_password_is_not_in_the_list_of_processes(
    quick: Quick, postgres_url: str, tmp_path: Path
) -> None:
    quick(postgres_url, trials=3)
    log = tmp_path / "log"
    worker = start_worker(postgres_url, log=log)
    command = Path(f"/proc/{worker.pid}/cmdline").read_bytes().decode()
    text = ended(worker, log)
    assert "secret" not in command + text


@pytest.mark.parametrize(
    ("arguments", "variable", "message"),
    [
        (["--study", "quick"], None, "No database is named. Give its URL in PHONESEARCH_STORAGE"),
        (["--study", "quick"], "nonsense", "not the URL of a database"),
        (["--study", "quick", "--storage", "postgresql://u:pw1@h/d?x={"], None, "cannot be used"),
    ],
)
def test_what_is_wrong_is_one_message(
    arguments: list[str], variable: str | None, message: str, tmp_path: Path
) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "phonesearch.cli", "worker", *arguments],
        env=environment(variable),
        capture_output=True,
        text=True,
        cwd=os.fspath(tmp_path),
    )
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "pw1" not in done.stderr
