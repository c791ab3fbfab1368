"""Against a tiny program in adb's place, which prints what adb prints."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from phonesearch.errors import (
    AdbServerError,
    CableLostError,
    NoAdbError,
    NoDeviceError,
    OfflineError,
    PhoneFileError,
    PhoneFullError,
    PhoneTimeoutError,
    SeveralDevicesError,
    UnauthorisedError,
    UsbPermissionError,
)
from phonesearch.phone.adb import Adb, Attached, find_adb, parse_devices, quoted

if TYPE_CHECKING:
    from tests.conftest import StubAdb

HEADER = "List of devices attached\n"
PIXEL = (
    "37021FDJG000XX         device usb:1-2 product:husky model:Pixel_8_Pro device:husky "
    "transport_id:1\n"
)
SAMSUNG = "R5CT10ABCDE            device product:e3qxxx model:SM_S928B device:e3q transport_id:3\n"


def test_every_state_is_read() -> None:
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
        + HEADER
        + PIXEL
        + "0123456789ABCDEF       no permissions (user in plugdev group; are your udev rules "
        "wrong?); see [http://developer.android.com/tools/device.html] usb:1-1 transport_id:2\n"
        + "192.168.1.5:5555       unauthorized transport_id:4\n"
        + "emulator-5554          offline transport_id:5\n"
        + "adb-R5C-x (2)._adb-tls-connect._tcp device product:e3q model:SM_S928B device:e3q\n"
        + "HT7A11A00001           recovery usb:3 transport_id:6\n\n"
    )
    assert parse_devices(text) == (
        Attached(serial="37021FDJG000XX", state="device", model="Pixel_8_Pro", product="husky"),
        Attached(serial="0123456789ABCDEF", state="no permissions"),
        Attached(serial="192.168.1.5:5555", state="unauthorized"),
        Attached(serial="emulator-5554", state="offline"),
        Attached(
            serial="adb-R5C-x (2)._adb-tls-connect._tcp",
            state="device",
            model="SM_S928B",
            product="e3q",
        ),
        Attached(serial="HT7A11A00001", state="recovery"),
    )


def test_the_short_form_of_old_clients_is_read() -> None:
    assert parse_devices("List of devices attached \nab12\tdevice\n") == (
        Attached(serial="ab12", state="device"),
    )


def test_the_only_usable_phone_is_chosen(stub_adb: StubAdb) -> None:
    stub_adb.says("devices", HEADER + PIXEL + "emulator-5554 offline transport_id:5\n")
    assert stub_adb.adb.choose(environ={}).serial == "37021FDJG000XX"


def test_the_one_named_goes_before_that_of_the_environment(stub_adb: StubAdb) -> None:
    stub_adb.says("devices", HEADER + PIXEL + SAMSUNG)
    environ = {"ANDROID_SERIAL": "R5CT10ABCDE"}
    assert stub_adb.adb.choose(environ=environ).serial == "R5CT10ABCDE"
    assert stub_adb.adb.choose("37021FDJG000XX", environ=environ).serial == "37021FDJG000XX"


def test_of_several_none_is_guessed(stub_adb: StubAdb) -> None:
    stub_adb.says("devices", HEADER + PIXEL + SAMSUNG)
    with pytest.raises(SeveralDevicesError, match=r"R5CT10ABCDE \(SM_S928B\)"):
        stub_adb.adb.choose(environ={})


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("", NoDeviceError),
        ("a unauthorized usb:1-1\n", UnauthorisedError),
        ("a authorizing usb:1-1\n", UnauthorisedError),
        ("a offline\n", OfflineError),
        ("a recovery usb:1\n", OfflineError),
        ("a no permissions (missing udev rules?); see [http://x] usb:1-1\n", UsbPermissionError),
    ],
)
def test_a_phone_that_cannot_be_used_says_why(
    stub_adb: StubAdb, line: str, kind: type[Exception]
) -> None:
    stub_adb.says("devices", HEADER + line)
    with pytest.raises(kind):
        stub_adb.adb.choose(environ={})


def test_a_wrong_name_lists_what_is_there(stub_adb: StubAdb) -> None:
    stub_adb.says("devices", HEADER + PIXEL)
    with pytest.raises(NoDeviceError, match=r"'x; rm' is not connected.*\n.*Pixel_8_Pro"):
        stub_adb.adb.choose("x; rm", environ={})


def test_a_server_that_does_not_start_is_told(stub_adb: StubAdb) -> None:
    stub_adb.says("devices", "", "adb: cannot connect to daemon at tcp:5037: refused\n", 1)
    with pytest.raises(AdbServerError, match="kill-server"):
        stub_adb.adb.devices()


def test_a_shell_gives_its_streams_apart_and_its_exit_code(stub_adb: StubAdb) -> None:
    done = stub_adb.phone.shell("echo out; echo err >&2; exit 42")
    assert (done.exit_code, done.stdout, done.stderr) == (42, "out\n", "err\n")
    assert stub_adb.calls[-1][:2] == ["-s", "S1"]


@pytest.mark.parametrize("exit_code", [0, 255], ids=["adb 29", "adb 36"])
def test_a_cut_off_answer_is_never_a_whole_one(stub_adb: StubAdb, exit_code: int) -> None:
    stub_adb.says("shell", "37 degr", "", exit_code)
    with pytest.raises(CableLostError, match="lost while asking"):
        stub_adb.phone.ask("dumpsys battery")


@pytest.mark.parametrize("prefix", ["error", "adb"])
def test_a_phone_that_went_before_the_command_is_told(stub_adb: StubAdb, prefix: str) -> None:
    stub_adb.says("shell", "", f"{prefix}: device offline\n", 1)
    with pytest.raises(OfflineError):
        stub_adb.phone.shell("true")
    stub_adb.says("shell", "", f"{prefix}: device 'S1' not found\n", 1)
    with pytest.raises(NoDeviceError):
        stub_adb.phone.ask("true")


def test_an_answer_carries_the_true_exit_code(stub_adb: StubAdb) -> None:
    assert stub_adb.phone.ask("exit 3").exit_code == 3
    done = stub_adb.phone.ask("printf 'no newline at the end'")
    assert (done.exit_code, done.stdout) == (0, "no newline at the end")


@pytest.mark.parametrize(
    "word", ["a b", "$(touch owned)", "`touch owned`", "; touch owned", "it's", '"', "-n", "\\"]
)
def test_a_quoted_word_means_itself(stub_adb: StubAdb, word: str, tmp_path: Path) -> None:
    done = stub_adb.phone.ask(f"cd {quoted(str(tmp_path))} && {quoted('printf', '%s', word)}")
    assert done.stdout == word
    assert not (tmp_path / "owned").exists()


def test_a_hang_is_given_up(stub_adb: StubAdb) -> None:
    started = time.monotonic()
    with pytest.raises(PhoneTimeoutError, match=r"within 0 s|within 1 s"):
        stub_adb.phone.shell("exec sleep 30", timeout_s=0.5)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("out", "err", "kind"),
    [
        ("adb: error: couldn't read from device\n", "", CableLostError),
        ("", "adb: error: failed to read copy response: EOF\n", CableLostError),
        ("adb: error: remote write failed: No space left on device\n", "", PhoneFullError),
        ("", "adb: error: remote write failed: No space left on device\n", PhoneFullError),
    ],
    ids=["lost, 29", "lost, 36", "full, 29", "full, 36"],
)
def test_a_push_fails_in_the_manner_of_both_clients(
    stub_adb: StubAdb, tmp_path: Path, out: str, err: str, kind: type[Exception]
) -> None:
    (tmp_path / "runner").write_bytes(b"x")
    stub_adb.says("push", out, err, 1)
    with pytest.raises(kind, match="pushing runner"):
        stub_adb.phone.push(tmp_path / "runner", "/data/local/tmp/phonesearch/runner")


def test_paths_reach_adb_as_they_are(stub_adb: StubAdb, tmp_path: Path) -> None:
    local = tmp_path / "-o $(touch owned) 'x'; y"
    local.write_bytes(b"x")
    stub_adb.says("push", "1 file pushed\n")
    stub_adb.phone.push(local, "/data/local/tmp/a b; c")
    assert stub_adb.calls[-1] == ["-s", "S1", "push", str(local), "/data/local/tmp/a b; c"]


def test_a_missing_file_is_not_pushed(stub_adb: StubAdb, tmp_path: Path) -> None:
    with pytest.raises(PhoneFileError, match="no file"):
        stub_adb.phone.push(tmp_path / "none", "/data/local/tmp/x")


def test_a_broken_pull_leaves_the_old_file(stub_adb: StubAdb, tmp_path: Path) -> None:
    (tmp_path / "logits").write_text("old")
    stub_adb.says("pull", "", "adb: error: failed to stat remote object '/x': No such file\n", 1)
    with pytest.raises(PhoneFileError, match="no such file"):
        stub_adb.phone.pull("/x", tmp_path / "logits")
    assert (tmp_path / "logits").read_text() == "old"
    assert not list(tmp_path.glob(".*.part"))


def test_a_file_is_known_by_its_hash(stub_adb: StubAdb, tmp_path: Path) -> None:
    (tmp_path / "it's").write_bytes(b"abc")
    found = stub_adb.phone.sha256(str(tmp_path / "it's"))
    assert found == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert stub_adb.phone.sha256(str(tmp_path / "none")) is None


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_adb_is_looked_for_in_order(tmp_path: Path) -> None:
    given = program(tmp_path / "given" / "adb")
    named = program(tmp_path / "named" / "adb")
    on_path = program(tmp_path / "path" / "adb")
    sdk = program(tmp_path / "sdk" / "platform-tools" / "adb")
    environ = {
        "ADB": str(named),
        "PATH": str(on_path.parent),
        "ANDROID_HOME": str(tmp_path / "sdk"),
    }
    assert find_adb(given, environ=environ) == given
    assert find_adb(environ=environ) == named
    assert find_adb(environ={**environ, "ADB": ""}) == on_path
    assert find_adb(environ={**environ, "ADB": "", "PATH": str(tmp_path)}) == sdk


def test_an_adb_that_is_not_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    with pytest.raises(NoAdbError, match=r"--adb is '.*text', which is not a program"):
        find_adb(tmp_path / "text", environ={"PATH": ""})
    with pytest.raises(NoAdbError, match=r"\$ADB is"):
        find_adb(environ={"PATH": "", "ADB": str(tmp_path)})


def test_without_adb_one_is_told_how_to_get_it(tmp_path: Path) -> None:
    if any((Path(entry) / "adbutils").is_dir() for entry in sys.path):
        pytest.skip("adbutils brings one")
    with pytest.raises(NoAdbError, match="apt install adb"):
        find_adb(environ={"PATH": str(tmp_path)})


def test_a_program_of_another_machine_is_no_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "adb"
    broken.write_bytes(b"\x7fELF not for us")
    broken.chmod(0o755)
    with pytest.raises(NoAdbError, match="could not be started"):
        Adb(program=broken).devices()


def test_its_version_is_read(stub_adb: StubAdb) -> None:
    stub_adb.says("version", "Android Debug Bridge version 1.0.41\nVersion 36.0.0-13206524\n")
    assert stub_adb.adb.version() == "36.0.0"
