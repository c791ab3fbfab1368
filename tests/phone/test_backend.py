"""What a session with the fake phone makes of its states and faults.

Times mean nothing here, so only what is done with them is looked at.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from backend_rig import ANYTHING_GOES, SETTINGS, TINY, Start, left
from fakephone_rig import FakePhone
from needs import need

from phonesearch.errors import (
    OtherPhoneError,
    PhoneFullError,
    PhoneNotReadyError,
    RunnerError,
    UnsteadyError,
)
from phonesearch.phone.adb import REMOTE_FOLDER
from phonesearch.phone.device import PhoneReport, survey

pytestmark = pytest.mark.adb


@pytest.fixture(scope="session")
def adb_program() -> str:
    """One client is enough for what does not depend on it."""
    need("adb")
    return shutil.which("adb") or ""


def test_weights_are_made_there_and_shared_files_cross_the_cable_once(
    fake_phone: FakePhone, start: Start
) -> None:
    backend = start()
    backend.time(TINY, SETTINGS)
    folder = fake_phone.place(REMOTE_FOLDER)
    shared = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    start().time(replace(TINY, num_hidden_layers=3), SETTINGS)

    assert {path: path.stat().st_mtime_ns for path in shared} == shared
    assert {path for path in folder.rglob("*") if path.is_file()} == set(shared)


def test_a_phone_that_forbids_measuring_is_refused(fake_phone: FakePhone, start: Start) -> None:
    fake_phone.update(settings={"global/low_power": "1"})
    with pytest.raises(PhoneNotReadyError, match="cannot be measured now"):
        start()


def test_a_hot_phone_is_waited_for(fake_phone: FakePhone, start: Start) -> None:
    backend = start()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            fake_phone.update(thermal={"status": 0, "skin": 30.0})

    backend.sleep = sleep
    fake_phone.update(thermal={"status": 2, "skin": 45.0})
    backend.time(TINY, SETTINGS)

    assert waits == 3 * [10.0]


def test_a_phone_that_stays_hot_is_given_up(fake_phone: FakePhone, start: Start) -> None:
    backend = start(replace(ANYTHING_GOES, cooling_polls=2))
    fake_phone.update(thermal={"status": 2, "skin": 45.0})
    with pytest.raises(PhoneNotReadyError, match="did not cool down"):
        backend.time(TINY, SETTINGS)


def test_times_of_a_phone_that_warms_up_are_thrown_away_and_taken_anew(
    fake_phone: FakePhone, start: Start
) -> None:
    backend = start()
    calls: list[PhoneReport] = []

    def warm_after_first() -> PhoneReport:
        report = survey(backend.session.adb)
        calls.append(report)
        if len(calls) == 2:
            return replace(report, heat=replace(report.heat, status=1))
        return report

    backend.survey = warm_after_first
    found = backend.time(TINY, SETTINGS)

    assert found.conditions["thrown_away"] == ["the phone grew hot (thermal status 1)"]
    assert len(found.decode_samples_s) == 8
    assert len(calls) == 4


def test_a_reference_that_never_holds_still_ends_in_an_error(start: Start) -> None:
    backend = start(replace(ANYTHING_GOES, reference_drift=-1.0, tries=2))
    with pytest.raises(UnsteadyError, match=r"not steady in 2 tries \(the reference model moved"):
        backend.time(TINY, SETTINGS)


def test_other_logits_are_refused_before_anything_is_timed(start: Start) -> None:
    backend = start(replace(ANYTHING_GOES, logits_distance=-1.0))
    with pytest.raises(RunnerError, match="computes other logits"):
        backend.time(TINY, SETTINGS)


def test_a_full_phone_is_named_and_left_clean(fake_phone: FakePhone, start: Start) -> None:
    backend = start()
    state = fake_phone.state
    used = state.read()["disk_bytes"] - state.free_bytes()
    fake_phone.update(disk_bytes=used + 100_000)
    with pytest.raises((PhoneNotReadyError, PhoneFullError), match=r"free|full"):
        backend.time(TINY, SETTINGS)
    assert left(fake_phone) <= {"runner", "lib", "parts"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [(9, "memory runs out"), (4, "does not have"), (11, "SIGSEGV"), ("hang", "ended itself")],
)
def test_a_runner_that_dies_says_of_what(
    fake_phone: FakePhone, start: Start, fault: int | str, said: str
) -> None:
    backend = start(replace(ANYTHING_GOES, max_seconds=3))
    fake_phone.update(runner_fault=fault)
    with pytest.raises(RunnerError, match=said):
        backend.time(TINY, SETTINGS)
    fake_phone.update(runner_fault=None)
    assert left(fake_phone) == {"runner", "lib", "parts"}
    assert len(backend.time(TINY, SETTINGS).decode_samples_s) == 8


def test_another_phone_in_its_place_is_refused(fake_phone: FakePhone, start: Start) -> None:
    backend = start()
    fake_phone.update(properties={"ro.serialno": "FAKE0666"})
    with pytest.raises(OtherPhoneError, match="not the one"):
        backend.time(TINY, SETTINGS)
