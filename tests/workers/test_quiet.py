"""One who needs the machine alone has it, and is not starved by those who only use it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from phonesearch.locks import Quiet

SPAWN = multiprocessing.get_context("spawn")


def use(folder: Path, log: Path, ready: Event, seconds: float) -> None:
    """As a training does: in slices, until the time is up."""
    began_s = time.monotonic()
    with Quiet(folder).busy() as breathe:
        breathe()
        ready.set()
        while time.monotonic() - began_s < seconds:
            begun_s = time.monotonic()
            time.sleep(0.005)
            with log.open("a") as stream:
                stream.write(f"use {begun_s} {time.monotonic()}\n")
            breathe()


def measure(folder: Path, log: Path, times: int) -> None:
    """As a timing does."""
    quiet = Quiet(folder)
    for _ in range(times):
        asked_s = time.monotonic()
        with quiet.alone():
            begun_s = time.monotonic()
            time.sleep(0.02)
            with log.open("a") as stream:
                stream.write(f"alone {begun_s} {time.monotonic()} {begun_s - asked_s}\n")


def test_a_timing_is_never_beside_another_or_a_training_and_does_not_wait_for_long(
    tmp_path: Path,
) -> None:
    log, ready = tmp_path / "log", [SPAWN.Event() for _ in range(3)]
    users = [SPAWN.Process(target=use, args=(tmp_path, log, one, 3.0)) for one in ready]
    for user in users:
        user.start()
    for one in ready:
        assert one.wait(30)
    meters = [SPAWN.Process(target=measure, args=(tmp_path, log, 10)) for _ in range(2)]
    for meter in meters:
        meter.start()
    for process in (*users, *meters):
        process.join(60)
        assert process.exitcode == 0
    spans = [line.split() for line in log.read_text().splitlines()]
    alone = [(float(one[1]), float(one[2])) for one in spans if one[0] == "alone"]
    others = [(float(one[1]), float(one[2])) for one in spans if one[0] == "use"]
    assert len(alone) == 20
    assert len(others) > 20
    for place, (begin, end) in enumerate(alone):
        for first, last in (*others, *alone[:place], *alone[place + 1 :]):
            assert last <= begin or first >= end
    waited = sorted(float(one[3]) for one in spans if one[0] == "alone")
    assert waited[len(waited) // 2] < 1.0


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    ready = SPAWN.Event()
    user = SPAWN.Process(target=hold, args=(tmp_path, ready))
    user.start()
    assert ready.wait(30)
    assert user.pid is not None
    os.kill(user.pid, signal.SIGKILL)
    user.join()
    with Quiet(tmp_path).alone():
        pass


def hold(folder: Path, ready: Event) -> None:
    with Quiet(folder).alone():
        ready.set()
        time.sleep(60)
