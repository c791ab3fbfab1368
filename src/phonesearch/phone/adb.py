"""Runs the `adb` program: the one way by which anything here reaches a phone.

A subprocess and no client library: the user has adb already, it owns the cable, the keys and the
pairing, and it reports exit codes. Arguments go to it as a list, never through a shell of this
computer; what goes through the phone's shell is quoted with `quoted`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from phonesearch.errors import (
    AdbError,
    CableLostError,
    NoAdbError,
    NoDeviceError,
    OfflineError,
    PhoneFileError,
    PhoneTimeoutError,
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

REMOTE_FOLDER: Final = "/data/local/tmp/phonesearch"
"""The one folder on the phone that is ours; all that we push lies in it."""

_SHORT_S: Final = 30.0
_BYTES_PER_S: Final = 2_000_000
"""Slowest transfer that is waited for; a bad USB 2 cable carries ten times that."""
_DEVICE_LINE: Final = re.compile(
    r"(?P<serial>.+?)\s+"
    r"(?P<state>device|offline|unauthorized|authorizing|connecting|recovery|rescue|sideload|"
    r"bootloader|host|detached|unknown|no device|no permissions\b(?: \(.*?\))?"
    r"(?:; see \[.*?\])?)"
    r"(?:\s+(?P<rest>.*))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended, its two streams apart."""

    exit_code: int
    """Not proof of success by itself: adb 29 gives 0 for a shell whose cable was pulled."""
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One line of `adb devices -l`."""

    serial: str
    state: str
    """`device` when it can be used."""
    model: str | None = None
    product: str | None = None

    def __str__(self) -> str:
        model = f" ({self.model})" if self.model else ""
        return printable(f"{self.serial}{model}: {self.state}")


def quoted(*words: str | PurePosixPath) -> str:
    """`words` as one command line of the phone's shell, in which none of them can mean more."""
    return shlex.join(str(word) for word in words)


def find_adb(given: Path | str | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """The adb program.

    Looks, in this order, at what was given, `$ADB`, PATH, `platform-tools` in `$ANDROID_HOME` or
    `$ANDROID_SDK_ROOT`, and the one that the Python package `adbutils` carries.

    Args:
        given: As typed by the user; nothing else is tried if it is not None.
        environ: Variables to look at; those of this process by default.

    Raises:
        NoAdbError: If there is none, or the one given cannot be run.
    """
    environ = os.environ if environ is None else environ
    path = environ.get("PATH", os.defpath)
    for source, named in (("--adb", given), ("$ADB", environ.get("ADB"))):
        if named:
            found = shutil.which(str(named), path=path)
            if found is None:
                raise NoAdbError(
                    f"{source} is {str(named)!r}, which is not a program that can be run. Give the "
                    "path of the adb program itself, or nothing to have it looked for."
                )
            return Path(found)
    folders = [
        Path(environ[name]) / "platform-tools"
        for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")
        if environ.get(name)
    ]
    bundled = importlib.util.find_spec("adbutils")
    if bundled is not None and bundled.origin is not None:
        folders.append(Path(bundled.origin).parent / "binaries")
    for place in (path, *(str(folder) for folder in folders)):
        found = shutil.which("adb", path=place)
        if found is not None:
            return Path(found)
    raise NoAdbError(
        "There is no adb on this computer: it is not on PATH, nor in $ADB or "
        "$ANDROID_HOME/platform-tools. Install it (Debian, Ubuntu: `apt install adb`; macOS: "
        "`brew install android-platform-tools`; Windows: `winget install Google.PlatformTools`; "
        "with pip: `pip install adbutils`), or give its path with --adb."
    )


def parse_devices(text: str) -> tuple[Attached, ...]:
    """What `adb devices -l` lists, whatever its version; notes on its server are skipped."""
    found = []
    for line in text.splitlines():
        match = _DEVICE_LINE.fullmatch(line.strip())
        if line.startswith(("*", "List of devices", "adb server")) or match is None:
            continue
        details = dict(part.split(":", 1) for part in (match["rest"] or "").split() if ":" in part)
        found.append(
            Attached(
                serial=match["serial"],
                state=match["state"].split(" (")[0].split(";")[0],
                model=details.get("model"),
                product=details.get("product"),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adb:
    """The adb program, and the phone that it is to talk to."""

    program: Path
    serial: str | None = None
    """Set by `choose`; all but `devices`, `choose` and `version` need it."""

    @classmethod
    def find(cls, given: Path | str | None = None) -> Adb:
        """The program that `find_adb` finds, no phone chosen yet."""
        return cls(program=find_adb(given))

    def version(self) -> str:
        """`36.0.0`, or what it calls itself instead."""
        done = self._run(["version"], doing="`adb version`", timeout_s=_SHORT_S)
        match = re.search(r"^Version (\d+\.\d+\.\d+)", done.stdout, re.MULTILINE)
        return match[1] if match else said(done.stdout, done.stderr)

    def devices(self) -> tuple[Attached, ...]:
        """Every phone that adb sees, usable or not.

        Raises:
            AdbServerError: If adb's server cannot be reached.
            AdbError: If it fails otherwise.
        """
        done = self._run(["devices", "-l"], doing="`adb devices`", timeout_s=_SHORT_S)
        if done.exit_code:
            text = f"{done.stdout}\n{done.stderr}"
            raise connection_error(text) or AdbError(
                f"`adb devices` failed. It said: {said(text) or 'nothing'}"
            )
        return parse_devices(done.stdout)

    def choose(self, serial: str | None = None, *, environ: Mapping[str, str] | None = None) -> Adb:
        """This, for one phone: that named, that of `$ANDROID_SERIAL`, or the only usable one.

        Args:
            serial: As typed by the user.
            environ: Variables to look at; those of this process by default.

        Raises:
            NoDeviceError: If there is none, or not that.
            SeveralDevicesError: If there are several and none was named.
            UnauthorisedError, OfflineError, UsbPermissionError: If it cannot be used.
        """
        environ = os.environ if environ is None else environ
        serial = serial or environ.get("ANDROID_SERIAL") or None
        attached = self.devices()
        if serial is not None:
            named = [phone for phone in attached if phone.serial == serial]
            if not named:
                raise NoDeviceError(serial=serial, listing=[str(phone) for phone in attached])
        else:
            named = [phone for phone in attached if phone.state == "device"] or list(attached)
            if not named:
                raise NoDeviceError
            if len(named) > 1:
                raise SeveralDevicesError([str(phone) for phone in attached])
        _check_state(named[0])
        return replace(self, serial=named[0].serial)

    def connect_again(self) -> None:
        """Have adb look at once for a phone that it reaches over the network, whatever it knows.

        Raises:
            PhoneTimeoutError: If that takes too long.
        """
        assert self.serial is not None, "choose a phone first"
        for word in ("disconnect", "connect"):
            self._run([word, self.serial], doing=f"`adb {word}`", timeout_s=_SHORT_S)

    def shell(self, command: str, *, timeout_s: float = _SHORT_S) -> Finished:
        """Run a command line on the phone, its exit code and streams as they come.

        The caller has to know the last line of a complete answer: if the cable goes, adb 29
        still gives exit code 0. `ask` does so for commands that print no such line themselves.

        Args:
            command: For the phone's shell; put words from outside through `quoted`.
            timeout_s: After which adb is killed, and the command with it.

        Raises:
            PhoneUnreachableError: If the phone was gone before the command began.
            PhoneTimeoutError: If it takes longer.
        """
        done = self._on_phone(["shell", command], doing="a command", timeout_s=timeout_s)
        error = client_error(done.stdout, done.stderr, serial=self.serial)
        if done.exit_code and error is not None:
            raise error
        return done

    def ask(self, command: str, *, timeout_s: float = _SHORT_S, doing: str = "asking") -> Finished:
        """As `shell`, for short commands: the whole answer, or an error.

        A random last line is asked for, which carries the true exit code.

        Raises:
            CableLostError: If the answer is cut off.
            PhoneUnreachableError, PhoneTimeoutError: As `shell`.
        """
        mark = secrets.token_hex(8)
        done = self.shell(f"( {command}\n); echo {mark} $?", timeout_s=timeout_s)
        answer, found, exit_code = done.stdout.rpartition(mark)
        if not found or not exit_code.strip().isdigit():
            text = f"{done.stdout}\n{done.stderr}" if not done.stdout.strip() else done.stderr
            raise connection_error(text, serial=self.serial) or CableLostError(
                doing, serial=self.serial
            )
        return Finished(exit_code=int(exit_code), stdout=answer, stderr=done.stderr)

    def push(self, local: Path, remote: str, *, timeout_s: float | None = None) -> None:
        """Copy a file to the phone. It is whole only if `sha256` says so.

        Args:
            local: The file.
            remote: Its full path there; the folder must exist, or adb makes it.
            timeout_s: By default 30 s and what a slow cable needs for its size.

        Raises:
            PhoneFullError, CableLostError, PhoneFileError, PhoneUnreachableError: By what adb says.
            AdbError: If it says something else.
        """
        if not local.is_file():
            raise PhoneFileError(f"There is no file {local} to push.")
        if timeout_s is None:
            timeout_s = _SHORT_S + local.stat().st_size / _BYTES_PER_S
        self._transfer(["push", str(local.resolve()), remote], f"pushing {local.name}", timeout_s)

    def pull(self, remote: str, local: Path, *, timeout_s: float = 600.0) -> None:
        """Copy a file from the phone; `local` is replaced by a finished one or not at all.

        Raises:
            PhoneError: As `push`.
        """
        part = local.absolute().with_name(f".{local.name}.part")
        try:
            self._transfer(
                ["pull", remote, str(part)], f"pulling {PurePosixPath(remote).name}", timeout_s
            )
            part.replace(local)
        finally:
            part.unlink(missing_ok=True)

    def sha256(self, remote: str, *, timeout_s: float = 120.0) -> str | None:
        """Hash of a file on the phone, 64 hexadecimal digits; None if it is not there.

        Raises:
            PhoneUnreachableError, PhoneTimeoutError: As `ask`.
        """
        done = self.ask(f"sha256sum < {quoted(remote)}", timeout_s=timeout_s, doing="hashing")
        match = re.match(r"[0-9a-f]{64}\b", done.stdout)
        return match[0] if match and not done.exit_code else None

    def _transfer(self, arguments: Sequence[str], doing: str, timeout_s: float) -> None:
        done = self._on_phone(arguments, doing=doing, timeout_s=timeout_s)
        if done.exit_code:
            text = f"{done.stdout}\n{done.stderr}"
            raise transfer_error(text, doing=doing, names=arguments[1:], serial=self.serial)

    def _on_phone(self, arguments: Sequence[str], *, doing: str, timeout_s: float) -> Finished:
        assert self.serial is not None, "choose a phone first"
        return self._run(["-s", self.serial, *arguments], doing=doing, timeout_s=timeout_s)

    def _run(self, arguments: Sequence[str], *, doing: str, timeout_s: float) -> Finished:
        try:
            done = subprocess.run(
                [str(self.program), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                if sys.platform == "win32"
                else 0,
            )
        except subprocess.TimeoutExpired as error:
            raise PhoneTimeoutError(doing, timeout_s=timeout_s) from error
        except (OSError, ValueError) as error:
            raise NoAdbError(
                f"{self.program} could not be started: {error}. Install adb again, or give the "
                "path of another with --adb."
            ) from error
        return Finished(
            exit_code=done.returncode,
            stdout=done.stdout.decode("utf-8", "replace").replace("\r\n", "\n"),
            stderr=done.stderr.decode("utf-8", "replace").replace("\r\n", "\n"),
        )


def _check_state(phone: Attached) -> None:
    if phone.state in ("unauthorized", "authorizing"):
        raise UnauthorisedError(serial=phone.serial)
    if phone.state.startswith("no permissions"):
        raise UsbPermissionError(serial=phone.serial)
    if phone.state != "device":
        raise OfflineError(serial=phone.serial, state=phone.state)
