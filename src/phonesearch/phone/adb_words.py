"""What adb says when something goes wrong, told apart.

The words are those of adb 29.0.6 and 36.0.0, heard by making a fake phone fail on purpose in each
way. Exit codes and the stream differ between the two: 29 says "couldn't read from device" on
stdout, and ends a shell with 0 when the cable goes. So both streams are searched, in any case,
whatever stands before the words; and a shell is proven by its last line, not by its exit code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from phonesearch.errors import (
    AdbError,
    AdbServerError,
    CableLostError,
    NoDeviceError,
    OfflineError,
    PhoneError,
    PhoneFileError,
    PhoneFullError,
    SeveralDevicesError,
    UnauthorisedError,
    UsbPermissionError,
)

_FULL: Final = ("no space left on device", "enospc")
_NONE: Final = ("no devices/emulators found", "no devices found", "device not found")
_SEVERAL: Final = ("more than one device",)
_UNAUTHORISED: Final = ("device unauthorized", "still authorizing", "failed to authenticate")
_OFFLINE: Final = ("device offline", "device is offline", "device still connecting")
_USB: Final = ("insufficient permissions for device", "no permissions (", "no permissions;")
_SERVER: Final = (
    "cannot connect to daemon",
    "failed to start daemon",
    "failed to check server version",
    "could not install *smartsocket* listener",
    "could not read ok from adb server",
)
_MISSING: Final = ("failed to stat remote object", "no such file or directory", "does not exist")
_FORBIDDEN: Final = ("permission denied", "read-only file system", "operation not permitted")
_LOST: Final = (
    "couldn't read from device",
    "failed to read copy response",
    "failed to read from device",
    "connection reset",
    "broken pipe",
    "device disconnected",
    "unexpected eof",
    "protocol fault",
    "error: closed",
    "adb: closed",
)
_GONE: Final = re.compile(r"device '.*' not found")
_CLIENT: Final = re.compile(r"^\s*(?:adb: error|adb|error): ", re.IGNORECASE)
_LINES_SHOWN: Final = 4


def _has(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)


def said(*streams: str) -> str:
    """The end of what adb said, on one line; its notes on starting its server are left out."""
    lines = [
        line.strip()
        for stream in streams
        for line in stream.splitlines()
        if line.strip() and not line.startswith("* daemon")
    ]
    return printable("; ".join(lines[-_LINES_SHOWN:]))


def printable(text: str) -> str:
    """`text` without control characters, so that no property of a phone moves the cursor."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def connection_error(text: str, *, serial: str | None = None) -> PhoneError | None:
    """The error of the connection that `text` tells of; None if it tells of none.

    Args:
        text: Both streams of an adb command.
        serial: The phone that was asked.
    """
    text = text.lower()
    if _has(text, _SERVER):
        return AdbServerError(
            "adb cannot start or reach its server in the background. Run `adb kill-server` and "
            "try again; close Android Studio or other tools that bring an adb of their own. It "
            f"said: {said(text)}"
        )
    if _has(text, _SEVERAL):
        return SeveralDevicesError()
    if _has(text, _UNAUTHORISED):
        return UnauthorisedError(serial=serial)
    if _has(text, _USB):
        return UsbPermissionError(serial=serial)
    if _has(text, _OFFLINE):
        return OfflineError(serial=serial)
    if _GONE.search(text) or _has(text, _NONE):
        return NoDeviceError(serial=serial)
    return None


def transfer_error(
    text: str, *, doing: str, names: Sequence[str], serial: str | None
) -> PhoneError:
    """What went wrong in a push or a pull that failed.

    Args:
        text: Both streams of adb.
        doing: What was tried, as "pushing runner".
        names: Paths of either side, which are taken out first: a file may be called anything.
        serial: The phone.
    """
    bare = text
    for name in sorted((name for name in names if "/" in name or "\\" in name), key=len)[::-1]:
        bare = bare.replace(name, "")
    bare = bare.lower()
    if _has(bare, _FULL):
        return PhoneFullError(doing)
    known = connection_error(bare, serial=serial)
    if known is not None:
        return known
    if _has(bare, _LOST):
        return CableLostError(doing, serial=serial)
    if _has(bare, _FORBIDDEN):
        return PhoneFileError(
            f"Not allowed, {doing}. adb may write /data/local/tmp alone; if it was refused there, "
            f"the maker of the phone has closed that folder. adb said: {said(text)}"
        )
    if _has(bare, _MISSING):
        return PhoneFileError(f"There is no such file, {doing}. adb said: {said(text)}")
    return AdbError(f"adb failed {doing}. It said: {said(text) or 'nothing'}")


def client_error(stdout: str, stderr: str, *, serial: str | None = None) -> PhoneError | None:
    """What kept adb from starting a shell; None when a command ran and wrote these itself.

    A command of the phone may print any words, so only a line of adb's own manner counts, and
    only before anything was printed.
    """
    if stdout.strip():
        return None
    lines = [line for line in stderr.splitlines() if _CLIENT.match(line)]
    if not lines:
        return None
    text = "\n".join(lines)
    known = connection_error(text, serial=serial)
    if known is None and _has(text.lower(), _LOST):
        return CableLostError("starting a command", serial=serial)
    return known
