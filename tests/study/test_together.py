"""Work in threads: as it ends, with nothing lost when something fails."""

from __future__ import annotations

import threading
import time

import pytest

from phonesearch.study.together import together


def nothing() -> None:
    pass


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_each_comes_as_soon_as_it_is_there() -> None:
    with together(nap, [0.5, 0.01], at_once=2, stop=nothing) as results:
        assert list(results) == [0.01, 0.5]


def test_alone_they_go_one_after_the_other_in_the_callers_thread() -> None:
    def work(_: int) -> threading.Thread:
        return threading.current_thread()

    with together(work, range(3), at_once=1, stop=nothing) as results:
        assert set(results) == {threading.main_thread()}


def test_no_more_go_at_once_than_may() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1

    with together(work, range(12), at_once=3, stop=nothing) as results:
        assert len(list(results)) == 12
    assert most[0] == 3


def test_what_was_begun_is_not_lost_when_another_fails() -> None:
    begun = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            begun.wait(5)
            raise ValueError("the phone is gone")
        begun.set()
        nap(0.2)
        return number

    done: list[int] = []

    def collect() -> None:
        with together(work, range(20), at_once=2, stop=nothing) as results:
            done.extend(results)

    with pytest.raises(ValueError, match="the phone is gone"):
        collect()
    assert 1 in done
    assert len(done) < 19  # what had not begun was not begun any more


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_broken_off_it_tells_the_work_to_stop_and_waits_for_it(error: type[BaseException]) -> None:
    begun, stopped = threading.Event(), threading.Event()
    ended = []

    def work(number: int) -> int:
        if number:
            begun.set()
            assert stopped.wait(5)
            ended.append(number)
        assert begun.wait(5)
        return number

    def broken_off() -> None:
        with together(work, range(2), at_once=2, stop=stopped.set) as results:
            next(results)
            raise error

    with pytest.raises(error):
        broken_off()
    assert ended == [1]
