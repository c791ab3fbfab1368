"""Leaves nothing of ours on a phone: neither processes nor files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from phonesearch.errors import PhoneFileError
from phonesearch.phone.adb import REMOTE_FOLDER, Adb, quoted
from phonesearch.phone.adb_words import said
from phonesearch.units import KIB

_OURS: Final = REMOTE_FOLDER.replace("/phonesearch", "/[p]honesearch")
FIND_LEFTOVERS: Final = (
    f"pgrep -f '{_OURS}/'; ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -E '{_OURS}( |/|$)'"
)
"""Command that finds processes of ours, by what they were called with and by the folder they are
in: the runner is started there as `./runner`. With `[p]` it does not find the shell it runs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What was removed."""

    folder_bytes: int
    """That our folder took, as the phone counts them."""
    processes: tuple[int, ...]
    """That were ended."""


def parse_pids(text: str) -> tuple[int, ...]:
    """Processes, from the output of `FIND_LEFTOVERS`."""
    found = set()
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(\d+)\s*", line) or re.search(r"/proc/(\d+)/cwd\b", line)
        if match is not None:
            found.add(int(match[1]))
    return tuple(sorted(found))


def clean(adb: Adb) -> Cleaned:
    """End every process of ours on the phone and remove our one folder, with all in it.

    Args:
        adb: With a phone chosen.

    Raises:
        PhoneFileError: If the folder is still there afterwards.
        PhoneUnreachableError, PhoneTimeoutError: If the phone goes, or hangs.
    """
    processes = parse_pids(adb.ask(FIND_LEFTOVERS, doing="looking for processes").stdout)
    if processes:
        adb.ask(quoted("kill", "-9", *(str(pid) for pid in processes)), doing="ending processes")
    folder = quoted(REMOTE_FOLDER)
    done = adb.ask(
        f"du -sk {folder} 2>/dev/null; rm -rf {folder}; ! [ -e {folder} ]",
        timeout_s=120.0,
        doing="cleaning up",
    )
    if done.exit_code:
        raise PhoneFileError(
            f"{REMOTE_FOLDER} could not be removed. The phone said: {said(done.stderr)}"
        )
    size = re.match(r"(\d+)\s", done.stdout)
    return Cleaned(folder_bytes=int(size[1]) * KIB if size else 0, processes=processes)
