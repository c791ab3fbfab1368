"""Which cores are tried, and what is kept of the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phonesearch.errors import CoresWithheldError
from phonesearch.phone.cores import Core
from phonesearch.phone.device import read_answers
from phonesearch.phone.judge import ReferenceTime
from phonesearch.phone.sweep import Choice, best_choice, choices, keep_best, sweep

IDENTITY = replace(read_answers({}, serial="S1").identity, fingerprint="a/b:14/x; rm -rf /")
BEST = Choice(name="prime", cpus=(7,), num_threads=1)


def cores(*groups: tuple[str, int, int]) -> tuple[Core, ...]:
    """Name, count and clock of each group."""
    kinds = [(name, clock) for name, count, clock in groups for _ in range(count)]
    return tuple(
        Core(
            number=number,
            name=name,
            is_online=True,
            max_clock_hz=clock,
            allowed_clock_hz=clock,
            clock_hz=None,
            governor=None,
        )
        for number, (name, clock) in enumerate(kinds)
    )


def test_a_phone_of_three_kinds_of_cores_is_tried_on_all_that_makes_sense() -> None:
    found = choices(
        cores(("Cortex-A55", 4, 1_800), ("Cortex-A78", 3, 2_400), ("Cortex-X1", 1, 3_000))
    )
    assert [(one.name, one.cpus, one.num_threads) for one in found] == [
        ("prime", (7,), 1),
        ("prime+big", (4, 5, 6, 7), 1),
        ("prime+big", (4, 5, 6, 7), 2),
        ("prime+big", (4, 5, 6, 7), 4),
        ("big", (4, 5, 6), 1),
        ("big", (4, 5, 6), 2),
        ("big", (4, 5, 6), 3),
        ("all", tuple(range(8)), 1),
        ("all", tuple(range(8)), 2),
        ("all", tuple(range(8)), 4),
        ("all", tuple(range(8)), 8),
    ]


def test_equal_sets_of_cores_are_tried_once() -> None:
    found = choices(cores(("Oryon", 2, 4_000)))
    assert [(one.name, one.num_threads) for one in found] == [("prime", 1), ("prime", 2)]


def test_without_clocks_there_is_still_something_to_try() -> None:
    unknown = tuple(replace(core, max_clock_hz=None) for core in cores(("", 2, 1)))
    assert [one.cpus for one in choices(unknown)] == [(0, 1), (0, 1)]


class MadeUp:
    """A bench where a token takes 1 s over the threads; some cores are withheld."""

    def __init__(self, *withheld: int) -> None:
        self.withheld = withheld
        self.cpus: tuple[int, ...] = ()
        self.num_threads = 0

    def choose(self, cpus: tuple[int, ...], num_threads: int) -> None:
        self.cpus, self.num_threads = cpus, num_threads

    def time_reference(self) -> ReferenceTime:
        if set(self.cpus) & set(self.withheld):
            raise CoresWithheldError("withheld", exit_code=3)
        return ReferenceTime(prefill_s=1.0, decode_s=1 / self.num_threads)


def swept(bench: Any, *tried: Choice) -> list[int]:
    return [one.choice.num_threads for one in sweep(bench, tried, progress=lambda _: None)]


def test_the_fastest_comes_first_and_is_gone_on_with() -> None:
    bench = MadeUp(0)
    slow = Choice(name="prime", cpus=(7,), num_threads=1)
    fast = Choice(name="big", cpus=(6, 7), num_threads=2)
    barred = Choice(name="all", cpus=(0, 7), num_threads=4)
    assert swept(bench, barred, slow, fast) == [2, 1, 4]
    assert (bench.cpus, bench.num_threads) == ((6, 7), 2)


def test_a_phone_that_withholds_all_is_an_error() -> None:
    with pytest.raises(CoresWithheldError):
        swept(MadeUp(7), Choice(name="prime", cpus=(7,), num_threads=1))


def test_the_best_is_kept_for_that_phone_alone(tmp_path: Path) -> None:
    assert best_choice(IDENTITY, cache=tmp_path) is None
    path = keep_best(BEST, IDENTITY, cache=tmp_path)
    assert path.parent == tmp_path / "phones"
    assert best_choice(IDENTITY, cache=tmp_path) == BEST
    assert best_choice(replace(IDENTITY, fingerprint="other"), cache=tmp_path) is None
    path.write_text('{"cpus": "all"}')
    assert best_choice(IDENTITY, cache=tmp_path) is None
