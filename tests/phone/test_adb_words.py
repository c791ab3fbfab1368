"""The words of both clients, as heard from them (adb 29.0.6 of Debian, 36.0.0 of Google)."""

from __future__ import annotations

import pytest

from phonesearch.errors import (
    AdbError,
    AdbServerError,
    CableLostError,
    NoDeviceError,
    OfflineError,
    PhoneFileError,
    PhoneFullError,
    PhoneUnreachableError,
    SeveralDevicesError,
    UnauthorisedError,
    UsbPermissionError,
)
from phonesearch.phone.adb_words import (
    client_error,
    connection_error,
    printable,
    said,
    transfer_error,
)

UNAUTHORISED = (
    "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
    "Try 'adb kill-server' if that seems wrong.\n"
    "Otherwise check for a confirmation dialog on your device."
)


@pytest.mark.parametrize("prefix", ["error: ", "adb: ", "adb: error: ", ""])
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("no devices/emulators found", NoDeviceError),
        ("more than one device/emulator", SeveralDevicesError),
        ("device 'x; reboot' not found", NoDeviceError),
        (UNAUTHORISED, UnauthorisedError),
        ("device still authorizing", UnauthorisedError),
        ("device offline", OfflineError),
        (
            "insufficient permissions for device: user in plugdev group; udev rules wrong?",
            UsbPermissionError,
        ),
        ("cannot connect to daemon at tcp:5037: Connection refused", AdbServerError),
    ],
)
def test_a_connection_error_is_known_whatever_stands_before_it(
    prefix: str, words: str, kind: type[Exception]
) -> None:
    assert type(connection_error(f"{prefix}{words}\n", serial="x")) is kind
    assert type(connection_error(f"{prefix}{words}\n".upper(), serial="x")) is kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("adb: error: failed to copy 'a' to 'b': couldn't read from device", CableLostError),
        ("adb: error: failed to read copy response: EOF", CableLostError),
        (
            "adb: error: failed to copy: remote write failed: No space left on device",
            PhoneFullError,
        ),
        ("adb: error: failed to stat remote object '/x': No such file", PhoneFileError),
        ("adb: error: remote couldn't create file: Permission denied", PhoneFileError),
        ("adb: error: remote couldn't create file: Read-only file system", PhoneFileError),
        ("error: device offline", OfflineError),
        ("adb: error: something new", AdbError),
        ("", AdbError),
    ],
)
def test_a_failed_push_is_told_apart(text: str, kind: type[Exception]) -> None:
    error = transfer_error(text, doing="pushing runner", names=[], serial="x")
    assert type(error) is kind


def test_a_file_may_be_called_like_an_error() -> None:
    name = "/home/me/no space left on device/device offline"
    text = f"adb: error: failed to copy '{name}' to '/data/x': couldn't read from device"
    error = transfer_error(text, doing="pushing", names=[name, "/data/x"], serial=None)
    assert type(error) is CableLostError


def test_what_a_command_of_the_phone_prints_is_not_taken_for_adb() -> None:
    assert client_error("", "sh: device offline: not found\n") is None
    assert client_error("some output\n", "error: device offline\n") is None
    assert isinstance(client_error("", "error: device offline\n"), OfflineError)
    assert isinstance(client_error("", "adb: device 'a' not found\n"), NoDeviceError)
    assert isinstance(client_error("", "error: closed\n"), CableLostError)


def test_what_a_replug_may_mend_is_one_kind() -> None:
    for kind in (NoDeviceError, UnauthorisedError, OfflineError, CableLostError):
        assert issubclass(kind, PhoneUnreachableError)
    assert not issubclass(SeveralDevicesError, PhoneUnreachableError)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NoDeviceError(), "USB debugging"),
        (NoDeviceError(serial="x", listing=["y (Pixel): device"]), "y (Pixel): device"),
        (SeveralDevicesError(["a: device", "b: device"]), "--serial"),
        (UnauthorisedError(serial="x"), "accept the dialog"),
        (OfflineError(serial="x", state="recovery"), "booted normally"),
        (UsbPermissionError(), "udev"),
        (CableLostError("pushing runner"), "Replug"),
        (PhoneFullError("pushing runner"), "phone clean"),
    ],
)
def test_each_message_tells_the_remedy(error: Exception, remedy: str) -> None:
    assert remedy in str(error)


def test_its_last_words_are_passed_on_on_one_line() -> None:
    out = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    assert said(out, "adb: a\n\nadb: b\x1b[2J\n") == "adb: a; adb: b [2J"


def test_a_property_cannot_move_the_cursor() -> None:
    assert "\x1b" not in printable("Pixel\x1b]0;owned\x07\n")
