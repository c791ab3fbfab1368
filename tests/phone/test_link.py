"""One phone for as long as it is used, with a program in adb's place and a clock of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from phonesearch.errors import (
    AnotherPhoneError,
    CableLostError,
    NoDeviceError,
    PhoneUnreachableError,
    RunnerKilledError,
    UnauthorisedError,
)
from phonesearch.phone.clock import Clock
from phonesearch.phone.link import Link

if TYPE_CHECKING:
    from tests.conftest import StubAdb

HEADER = "List of devices attached\n"
HERE = f"{HEADER}S1  device model:Stub_1\n"


class Time:
    """Passes only when somebody sleeps; something may happen then."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events: dict[float, object] = {}

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        event = self.events.pop(self.now_s, None)
        if callable(event):
            event()

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now_s, sleep=self.sleep)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def link(stub_adb: StubAdb, time: Time, heard: list[str]) -> Link:
    stub_adb.has("getprop", 'echo "$1 of \' a phone; $(reboot)"')
    stub_adb.has("pgrep", "exit 1")
    return Link(stub_adb.phone, patience_s=60, clock=time.clock, say=heard.append)


def test_an_answer_comes_with_proof_of_whose_it_is(link: Link) -> None:
    done = link.ask("echo one; echo two; exit 3")
    assert (done.stdout, done.exit_code) == ("one\ntwo\n", 3)


def test_another_phone_is_told_whatever_its_properties_hold(link: Link, stub_adb: StubAdb) -> None:
    link.ask("true")
    stub_adb.has("getprop", "printf 'x\\n\\n|y|\\033[2J%s' \"$1\"")
    with pytest.raises(AnotherPhoneError, match="Plug the first one in again") as error:
        link.ask("true")
    assert "\x1b" not in str(error.value)


def test_a_phone_that_is_back_in_time_is_gone_on_with(
    link: Link, stub_adb: StubAdb, time: Time, heard: list[str]
) -> None:
    link.contact()
    stub_adb.says("devices", HEADER)
    time.events[21.0] = lambda: stub_adb.says("devices", f"{HEADER}S1  unauthorized\n")
    time.events[42.0] = lambda: stub_adb.says("devices", HERE)
    attempts = []

    def doing() -> str:
        attempts.append(time.now_s)
        if len(attempts) == 1:
            raise CableLostError("timing")
        return "done"

    assert link.held(doing) == "done"
    assert attempts == [0.0, 42.0]
    assert link.losses == 1
    missing, dialog, back = heard  # one line for each thing that is wrong
    assert missing.startswith("Waiting up to 60 s for the phone. The phone 'S1' is not connected")
    assert "accept the dialog" in dialog
    assert back == "The phone is back; what was interrupted begins anew"


def test_a_phone_that_stays_away_is_waited_for_a_minute(
    link: Link, stub_adb: StubAdb, time: Time
) -> None:
    stub_adb.says("devices", HEADER)
    with pytest.raises(NoDeviceError):
        link.wait(CableLostError("timing"))
    assert time.now_s == 60.0


def test_a_dialog_that_is_not_accepted_is_what_is_told(
    link: Link, stub_adb: StubAdb, time: Time
) -> None:
    stub_adb.says("devices", f"{HEADER}S1  unauthorized\n")
    with pytest.raises(UnauthorisedError):
        link.wait(CableLostError("timing"))


def test_a_third_loss_is_the_last(link: Link) -> None:
    attempts = []

    def doing() -> None:
        attempts.append(1)
        raise CableLostError("timing")

    with pytest.raises(PhoneUnreachableError):
        link.held(doing)
    assert len(attempts) == 3


def test_an_error_is_not_that_of_a_phone_that_was_swapped(link: Link, stub_adb: StubAdb) -> None:
    link.contact()

    def doing() -> None:
        stub_adb.has("getprop", "echo other")
        raise RunnerKilledError("killed", exit_code=137)

    with pytest.raises(AnotherPhoneError, match="Plug the first one in again") as found:
        link.held(doing)
    assert isinstance(found.value.__cause__, RunnerKilledError)


def test_a_phone_that_goes_right_after_an_error_is_waited_for(
    link: Link, stub_adb: StubAdb, time: Time
) -> None:
    """As one that restarts: it ends what runs, and then is gone."""
    link.contact()
    attempts = []

    def doing() -> str:
        attempts.append(time.now_s)
        if len(attempts) > 1:
            return "done"
        stub_adb.says("devices", HEADER)
        stub_adb.says("shell", "", "adb: device offline", 1)
        time.events[5.0] = back
        raise RunnerKilledError("killed", exit_code=137)

    def back() -> None:
        (stub_adb.folder / "shell.code").unlink()
        stub_adb.says("devices", HERE)

    assert link.held(doing) == "done"
    assert attempts == [0.0, 5.0]


def test_an_error_of_a_phone_that_is_there_is_its_own(link: Link) -> None:
    def doing() -> None:
        raise RunnerKilledError("killed", exit_code=137)

    with pytest.raises(RunnerKilledError):
        link.held(doing)


def test_what_could_not_be_removed_is_removed_at_the_next_contact(
    link: Link, stub_adb: StubAdb
) -> None:
    folder = stub_adb.folder / "data" / "it's $(touch here)"
    folder.mkdir()
    link.contact()
    stub_adb.says("shell", "", "adb: device offline", 1)
    link.remove("/data/local/tmp/it's $(touch here)")
    assert folder.is_dir()
    (stub_adb.folder / "shell.code").unlink()
    link.contact()
    assert not folder.exists()
    assert [path.name for path in (stub_adb.folder / "data").iterdir()] == []


def test_another_phone_is_left_alone(link: Link, stub_adb: StubAdb) -> None:
    folder = stub_adb.folder / "data" / "x"
    folder.mkdir()
    link.contact()
    stub_adb.has("getprop", "echo other")
    link.remove("/data/local/tmp/x")
    link.remove("/data/local/tmp/x")
    assert folder.is_dir()


def test_what_still_runs_is_ended(link: Link, stub_adb: StubAdb) -> None:
    stub_adb.has("pgrep", "echo 999999991")
    link.contact()
    assert any("kill -9 999999991" in call[-1] for call in stub_adb.calls)
