"""Tools of the fake phone that a line of shell cannot be: TOOL ROOT ARGUMENT..."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
from pathlib import Path

_MARK = b"#!/bin/sh\n# fakephone "


def processes(root: str) -> dict[int, str]:
    """Command lines of everything that runs on the phone, by process; without this process and
    the shells that it was started from."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"FAKEPHONE_ROOT={root}".encode() not in environment or not words[0]:
            continue
        if words[0].endswith(b"qemu-aarch64-static") and b"-0" in words:
            words = words[words.index(b"-0") + 1 :]
            del words[1]
        found[int(folder.name)] = b" ".join(words).decode(errors="replace").strip()
    found.pop(os.getpid(), None)
    return found


def matching(root: str, arguments: list[str]) -> list[int]:
    """What `pgrep -f PATTERN` finds."""
    full = "-f" in arguments
    (pattern,) = [word for word in arguments if not word.startswith("-")]
    return [
        number
        for number, line in processes(root).items()
        if re.search(pattern, line if full else line.split(" ")[0].rpartition("/")[2])
    ]


def checksum(content: bytes) -> str:
    """Of a file as it was pushed (`fakephone_arm.py`)."""
    if content.startswith(_MARK):
        return content.split(b"\n", 2)[1].split()[-2].decode()
    return hashlib.sha256(content).hexdigest()


def main(tool: str, root: str, *arguments: str) -> int:
    """Exit code of one tool."""
    if tool == "sha256sum":
        failed = False
        for name in arguments or ("-",):
            try:
                content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            except OSError as error:
                sys.stderr.write(f"sha256sum: {name}: {error.strerror}\n")
                failed = True
                continue
            sys.stdout.write(f"{checksum(content)}  {name}\n")
        return int(failed)
    numbers = matching(root, list(arguments))
    for number in sorted(numbers):
        if tool == "pkill":
            kills = [word for word in arguments if word in ("-9", "-KILL")]
            os.kill(number, signal.SIGKILL if kills else signal.SIGTERM)
        else:
            sys.stdout.write(f"{number}\n")
    return int(not numbers)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
