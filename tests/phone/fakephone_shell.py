"""The shell service: commands run here, with paths of the phone changed to where they lie."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import IO, TYPE_CHECKING

from fakephone_stream import Stream, StreamClosedError

if TYPE_CHECKING:
    from fakephone import Phone

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_PATHS = re.compile(
    r"(?<![\w./\]})*?])/(?=(?:data|sdcard|system|sys)(?:/|\b)|proc/(?:cpuinfo|meminfo|stat|loadavg|version)\b)"
)


def to_host(command: str, root: Path) -> str:
    """`command` with absolute paths of the phone changed to those here."""

    def place(match: re.Match[str]) -> str:
        rest = command[match.end() :]
        return f"{root}/" if rest.startswith(("data", "sdcard")) else f"{root}/tree/"

    return _PATHS.sub(place, command)


class Unmapper:
    """Changes paths in output back to those of the phone, across chunks."""

    def __init__(self, root: Path) -> None:
        self._tree, self._root = f"{root}/tree".encode(), str(root).encode()
        self._held = b""

    def __call__(self, chunk: bytes, *, last: bool = False) -> bytes:
        text = (self._held + chunk).replace(self._tree, b"").replace(self._root, b"")
        self._held = b""
        if not last:
            for length in range(min(len(self._tree), len(text)), 0, -1):
                if self._tree.startswith(text[-length:]):
                    text, self._held = text[:-length], text[-length:]
                    break
        return text


def run_shell(stream: Stream, phone: Phone, command: str, *, packets: bool) -> None:
    """Run `command` and give its output and, with `packets`, its exit code."""
    phone.state.render()
    process = subprocess.Popen(
        ["/system/bin/sh", "-c", to_host(command, phone.root)],
        executable=which("mksh") or which("sh"),  # mksh is what Android has
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if packets else subprocess.STDOUT,
        cwd=phone.root,
        env={
            "PATH": f"{phone.root}/bin:/usr/bin:/bin",
            "HOME": "/",
            "TMPDIR": f"{phone.root}/data/local/tmp",
            "FAKEPHONE_ROOT": str(phone.root),
        },
        start_new_session=True,
        bufsize=0,
    )

    def send(kind: int, content: bytes) -> None:
        if packets:
            content = struct.pack("<BI", kind, len(content)) + content
        stream.write(content)

    threads = [
        threading.Thread(target=_pump_out, args=(phone, pipe, kind, send), daemon=True)
        for pipe, kind in ((process.stdout, STDOUT), (process.stderr, STDERR))
        if pipe is not None
    ]
    feeding = threading.Thread(target=_feed, args=(stream, process, packets), daemon=True)
    for thread in (*threads, feeding):
        thread.start()
    for thread in threads:
        thread.join()
    exit_code = process.wait()
    if packets:
        send(EXIT, bytes([exit_code if exit_code >= 0 else 128 - exit_code]))


def _pump_out(phone: Phone, pipe: IO[bytes], kind: int, send: Callable[[int, bytes], None]) -> None:
    unmap = Unmapper(phone.root)
    recent = b""
    try:
        while chunk := os.read(pipe.fileno(), 32 * 1024):
            if content := unmap(chunk):
                send(kind, content)
            lost_at = phone.state.read()["faults"]["lose_on_output"]
            recent = (recent + chunk)[-64 * 1024 :]
            if lost_at is not None and lost_at.encode() in recent:
                phone.lose(lose_on_output=None)
        if content := unmap(b"", last=True):
            send(kind, content)
    except StreamClosedError:
        while os.read(pipe.fileno(), 32 * 1024):  # nobody listens, but the command may end
            pass
    finally:
        pipe.close()


def _feed(stream: Stream, process: subprocess.Popen[bytes], packets: bool) -> None:
    """Standard input, until the other side hangs up; then the command is told, as adbd does."""
    pipe = process.stdin
    assert pipe is not None
    try:
        while True:
            kind, content = STDIN, b""
            if packets:
                kind, length = struct.unpack("<BI", stream.read(5))
                content = stream.read(length)
            else:
                content = stream.read_some()
            if kind == STDIN:
                with suppress(BrokenPipeError, ValueError):
                    while content:
                        content = content[pipe.write(content) :]
            elif kind == CLOSE_STDIN and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
    except StreamClosedError:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGHUP)
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
