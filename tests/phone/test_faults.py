"""A trial of each quick kind of `benchmarks/phone_faults.py`; the campaign makes 20 of all."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakephone_faults import left_behind
from fakephone_measure import measurement
from fakephone_search import GO_ON, Ended, Kept
from needs import need

from phonesearch.phone.adb import Adb
from phonesearch.phone.clean import clean

pytestmark = pytest.mark.adb


@pytest.fixture(scope="module")
def campaign() -> Iterator[ModuleType]:
    path = Path(__file__).parents[2] / "benchmarks" / "phone_faults.py"
    spec = importlib.util.spec_from_file_location("phone_faults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "phone_faults", module)  # dataclasses look there
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def table(campaign: ModuleType, arm_library: Path) -> Iterator[Any]:
    need("adb", "qemu-aarch64-static", "arm", "ziglang")
    before = dict(os.environ)
    try:
        with campaign.bench("debian", 1) as bench, measurement() as measure:
            good = measure(bench.phone.serial)
            clean(Adb.find().choose(bench.phone.serial))
            yield bench, measure, good
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(
    "fault",
    [
        *("cable lost in push", "cable lost in run", "disk full", "runner killed"),
        *("authorisation revoked", "other phone, same serial"),
    ],
)
def test_a_fault_ends_in_a_result_or_a_clear_error(
    campaign: ModuleType, table: Any, fault: str
) -> None:
    bench, measure, good = table
    trial = campaign.one(bench, fault, measure, good, usual_s=0.8, seed=1)
    assert trial.outcome in ("went on", "clear error", "no strike"), trial.said


def test_the_judge_sees_what_is_wrong(campaign: ModuleType, table: Any) -> None:
    _, _, good = table
    assert campaign.judged(good, good)[0] == "went on"
    for bad in (
        None,
        KeyError("x"),
        replace(good, decode_samples_s=good.decode_samples_s[:-1]),
        replace(good, prefill_samples_s=(*good.prefill_samples_s[:-1], 0.0)),
        replace(good, device="another phone"),
    ):
        assert campaign.judged(bad, good)[0] == "BROKEN"


def test_a_fault_in_a_whole_run_loses_nothing(campaign: ModuleType, table: Any) -> None:
    bench, _, _ = table
    with campaign.runs(bench) as (trial, _):
        found = trial("cable lost in run", 1)
    assert found.outcome in ("went on", "clear error", "no strike"), found.said


def test_the_judge_sees_what_a_run_lost(campaign: ModuleType, tmp_path: Path) -> None:
    first = Kept(lines=(b"1\n", b"2\n"), trials={0: ("COMPLETE", 1)})
    more = Kept(lines=(*first.lines, b"3\n"), trials={**first.trials, 1: ("FAIL", 2)})
    assert first.lost(first) == first.lost(more) == []
    assert len(more.lost(first)) == 2
    assert len(first.lost(Kept(lines=(b"1\n", b"2 \n"), trials={0: ("COMPLETE", 3)}))) == 2
    assert Kept.of(tmp_path).lost(first) == []

    told = "class of the error: CableLostError\n"
    message = f"{GO_ON} x\n{told}\nerror: The connection to the phone was lost.\n"

    def judged(exit_code: int | None, said: str) -> tuple[str, str]:
        outcome, said = campaign.judged_run(Ended(exit_code=exit_code, said=said, seconds=1.0))
        return outcome, said

    assert judged(0, "")[0] == "went on"
    assert judged(1, message) == (
        "clear error",
        "CableLostError: The connection to the phone was lost.",
    )
    for exit_code, said in (
        (None, ""),
        (1, ""),
        (1, message.replace(GO_ON, "")),
        (1, message.replace(told, "")),
        (1, f"Traceback (most recent call last)\n{message}"),
        (-9, message),
    ):
        assert judged(exit_code, said)[0] == "BROKEN"


def test_what_is_left_behind_is_seen(table: Any) -> None:
    bench, _, _ = table
    path = bench.phone.place("/data/local/tmp/x")
    path.write_text("x")
    assert "/data/local/tmp/x" in left_behind(bench.phone)
    path.unlink()
