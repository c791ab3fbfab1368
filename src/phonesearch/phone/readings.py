"""What the tools of Android print, read: battery, heat, memory, space, load, screen.

Pure functions over text. Each gives None, or nothing, for what the text does not hold, as old
phones lack whole services ("Can't find service: thermalservice", before Android 10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from phonesearch.phone.adb_words import printable
from phonesearch.units import KIB

_BATTERY_STATUS: Final = {
    2: "charging",
    3: "discharging",
    4: "not charging",
    5: "full",
}
"""Source: android.os.BatteryManager, BATTERY_STATUS_*."""
_SKIN: Final = 3
"""Source: android.os.Temperature.TYPE_SKIN."""
_TEMPERATURE: Final = re.compile(
    r"Temperature\{mValue=([-\d.]+|NaN), mType=(-?\d+), mName=([^,}]*)"
)
_TOP_ROW: Final = re.compile(
    r"\s*(?P<pid>\d+)\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+\s+[A-Z]\s+"
    r"(?P<cpu>[\d.]+)\s+[\d.]+\s+\S+\s+(?P<name>.+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """From `dumpsys battery`."""

    level: float | None = None
    """Share of full."""
    temperature_c: float | None = None
    status: str | None = None
    """`charging`, `discharging`, `not charging` or `full`."""
    powered_by: tuple[str, ...] = ()
    """`AC`, `USB`, `Wireless`, `Dock`."""
    is_pretended: bool = False
    """Somebody set these by hand (`dumpsys battery set`), and they do not follow the battery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """From `dumpsys thermalservice`."""

    status: int | None = None
    """0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown."""
    skin_c: float | None = None
    is_pretended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """From `/proc/meminfo`."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    """That a program can have before others are driven out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What else runs."""

    share: float | None = None
    """Of all cores' time over two seconds."""
    process: str | None = None
    process_cores: float | None = None
    """Cores that the busiest process kept busy."""


def parse_properties(text: str) -> dict[str, str]:
    """From lines `name=value`; empty values are left out, control characters too."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and re.fullmatch(r"[\w.]+", name) and printable(value):
            found.setdefault(name, printable(value))
    return found


def parse_battery(text: str) -> Battery:
    """From `dumpsys battery`; makers add lines of their own, and the first of a name counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            fields.setdefault(name.strip(), value.strip())
    level, scale = _whole(fields, "level"), _whole(fields, "scale") or 100
    tenths = _whole(fields, "temperature")
    return Battery(
        level=None if level is None else level / scale,
        temperature_c=None if tenths is None else tenths / 10,
        status=_BATTERY_STATUS.get(_whole(fields, "status") or 0),
        powered_by=tuple(
            source
            for source in ("AC", "USB", "Wireless", "Dock")
            if fields.get(f"{source} powered") == "true"
        ),
        is_pretended="UPDATES STOPPED" in text,
    )


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    match = re.match(r"-?\d+", fields.get(name, ""))
    return int(match[0]) if match else None


def parse_heat(text: str) -> Heat:
    """From `dumpsys thermalservice`: what the hardware says now, and only else what is cached."""
    status = re.search(r"Thermal Status: (\d+)", text)
    _, current, after = text.partition("Current temperatures from HAL:")
    section = after.partition("Current cooling devices")[0] if current else text
    skins = [
        float(value)
        for value, kind, name in _TEMPERATURE.findall(section)
        if value != "NaN" and (int(kind) == _SKIN or "skin" in name.lower())
    ]
    plausible = [value for value in skins if -20 < value < 100]
    return Heat(
        status=int(status[1]) if status else None,
        skin_c=max(plausible, default=None),
        is_pretended="IsStatusOverride: true" in text,
    )


def parse_memory(text: str) -> Memory:
    """From `/proc/meminfo`."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    return Memory(
        total_bytes=int(total) * KIB if total else None,
        available_bytes=int(available) * KIB if available else None,
    )


def parse_free(text: str) -> int | None:
    """Bytes available, from `df -k FOLDER`; a long device name breaks its line in two."""
    words = " ".join(text.strip().splitlines()[1:]).split()
    for position, word in enumerate(words):
        if re.fullmatch(r"\d+%", word) and position >= 1 and words[position - 1].isdigit():
            return int(words[position - 1]) * KIB
    return None


def parse_busy(before: str, after: str, top: str) -> Busy:
    """What else runs, from the first line of `/proc/stat` twice and from `top -b`.

    The second table of `top` counts, as its first one has nothing to compare with. Its own row
    and those of our commands are left out.
    """
    first, second = _ticks(before), _ticks(after)
    share = None
    if first and second and len(first) == len(second):
        passed = [later - earlier for earlier, later in zip(first, second, strict=True)]
        total = sum(passed[:8])  # guest time, behind these, is in user time already
        idle = sum(passed[3:5])
        share = min(max(1 - idle / total, 0.0), 1.0) if total > 0 else None
    rows: list[tuple[float, str]] = []
    for line in top.splitlines():
        if re.match(r"\s*PID\b", line):
            rows = []
        match = _TOP_ROW.fullmatch(line)
        if match is not None and not re.match(r"(\S*/)?(top|sh|adbd)\b", match["name"]):
            rows.append((float(match["cpu"]) / 100, printable(match["name"]).split(" ")[0]))
    cores, name = max(rows, default=(0.0, ""))
    if not cores:
        return Busy(share=share)
    return Busy(share=share, process=name, process_cores=cores)


def _ticks(text: str) -> list[int]:
    match = re.search(r"^cpu\s+([\d ]+)$", text, re.MULTILINE)
    return [int(word) for word in match[1].split()] if match else []


def parse_wakefulness(text: str) -> str | None:
    """`Awake`, `Asleep`, `Dreaming` or `Dozing`, from `dumpsys power`."""
    match = re.search(
        r"(?:mWakefulness(?:Raw)?|getWakefulness(?:Locked|Raw)?\(\))=(?:\d+\()?([A-Z]\w+)", text
    )
    return match[1] if match else None
