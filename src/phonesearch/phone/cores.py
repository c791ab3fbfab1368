"""The processor of a phone: its cores, how fast they may run, and which to measure on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phonesearch.errors import SettingsError

_KHZ: Final = 1000
_TELLING_FEATURES: Final = ("asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2", "fphp")
"""Of those in /proc/cpuinfo, the ones by which ONNX Runtime chooses its kernels."""
_BIG_SHARE: Final = 0.75
"""Cores that reach this share of the fastest clock are measured on. A choice of ours, that keeps
the A720 at 2.0 GHz of a Dimensity 9300 out and the A715 at 2.4 GHz of a Tensor G3 in."""

_ARM: Final = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57",
    0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
    0xD0D: "Cortex-A77", 0xD41: "Cortex-A78", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
    0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD4B: "Cortex-A78C", 0xD4C: "Cortex-X1C",
    0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
    0xD82: "Cortex-X4", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725", 0xD8A: "C1-Nano",
    0xD8B: "C1-Pro", 0xD8C: "C1-Ultra", 0xD8F: "Cortex-A320", 0xD90: "C1-Premium",
}  # fmt: skip
_QUALCOMM: Final = {
    0x001: "Oryon", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver", 0x802: "Kryo 3xx Gold",
    0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
}  # fmt: skip
_PARTS: Final = {0x41: _ARM, 0x51: _QUALCOMM}
"""Source: sys-utils/lscpu-arm.c of util-linux, and Linux's arch/arm64/include/asm/cputype.h."""
_LITTLE: Final = frozenset(
    {
        *("Cortex-A35", "Cortex-A53", "Cortex-A55", "Cortex-A320", "Cortex-A510", "Cortex-A520"),
        *("C1-Nano", "Kryo 2xx Silver", "Kryo 3xx Silver", "Kryo 4xx Silver"),
    }
)
_CLOCK_LINE: Final = re.compile(r"cpu(\d+)/(?:cpufreq/)?(\w+):\s*(\S+)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One core. What the phone does not tell, or tells only of cores that are on, is None."""

    number: int
    name: str | None
    """`Cortex-X4`, or `0x41:0xd99` for a part that is not in our list."""
    is_online: bool
    max_clock_hz: int | None
    """That it is built for."""
    allowed_clock_hz: int | None
    """That it may run at now; lower when the system holds it back."""
    clock_hz: int | None
    governor: str | None

    @property
    def is_capped(self) -> bool:
        """Whether the system holds it below what it is built for."""
        if self.max_clock_hz is None or self.allowed_clock_hz is None:
            return False
        return self.allowed_clock_hz < self.max_clock_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreGroup:
    """Cores of one kind and one highest clock."""

    cores: tuple[int, ...]
    name: str | None
    max_clock_hz: int | None
    is_little: bool


def parse_cpuinfo(text: str) -> tuple[dict[int, str | None], tuple[str, ...]]:
    """Names by core, and the features that all cores have, from `/proc/cpuinfo`.

    Kernels before 4 state features and part once for all cores, after them.
    """
    names: dict[int, str | None] = {}
    features: list[set[str]] = []
    numbers: list[int] = []
    implementer: int | None = None
    for line in text.splitlines():
        field, _, value = (part.strip() for part in line.partition(":"))
        if field == "processor" and value.isdigit():
            numbers.append(int(value))
            names[int(value)] = None
        elif field == "Features":
            features.append(set(value.split()))
        elif field == "CPU implementer":
            implementer = _hexadecimal(value)
        elif field == "CPU part" and numbers and (part := _hexadecimal(value)) is not None:
            name = _PARTS.get(implementer or 0, {}).get(part, f"{implementer or 0:#x}:{part:#x}")
            names[numbers[-1]] = name
    if len(features) == 1 and len(numbers) > 1:  # one block for all
        names = dict.fromkeys(numbers, names[numbers[-1]])
    shared = set.intersection(*features) if features else set()
    return names, tuple(sorted(shared))


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def parse_clocks(text: str) -> dict[int, dict[str, str]]:
    """By core and file name, from `grep -H . /sys/devices/system/cpu/cpu*/...`."""
    found: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        match = _CLOCK_LINE.search(line)
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = match[3]
    return found


def cores_of(cpuinfo: str, clocks: str) -> tuple[Core, ...]:
    """All cores, from `/proc/cpuinfo` and the files of `/sys/devices/system/cpu`."""
    names, _ = parse_cpuinfo(cpuinfo)
    files = parse_clocks(clocks)
    cores = []
    for number in sorted(names.keys() | files.keys()):
        known = files.get(number, {})
        cores.append(
            Core(
                number=number,
                name=names.get(number),
                is_online=known.get("online", "1") == "1",
                max_clock_hz=_hertz(known.get("cpuinfo_max_freq")),
                allowed_clock_hz=_hertz(known.get("scaling_max_freq")),
                clock_hz=_hertz(known.get("scaling_cur_freq")),
                governor=known.get("scaling_governor"),
            )
        )
    return tuple(cores)


def _hertz(text: str | None) -> int | None:
    return int(text) * _KHZ if text is not None and text.isdigit() else None


def parse_cpus(text: str) -> tuple[int, ...]:
    """Core numbers, ascending, from `4-7` or `4,5,7`.

    Raises:
        SettingsError: If it is neither.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise SettingsError(f"`--cpus` is a list of cores such as 4-7 or 4,5,7; got {text!r}.")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def telling_features(features: Sequence[str]) -> tuple[str, ...]:
    """Those of `features` by which kernels are chosen, in a fixed order."""
    return tuple(name for name in _TELLING_FEATURES if name in features)


def group(cores: Sequence[Core]) -> tuple[CoreGroup, ...]:
    """Cores by kind and highest clock, slowest first; those that are off or unknown come first."""
    members: dict[tuple[int, str], list[int]] = {}
    for core in cores:
        key = (core.max_clock_hz or 0, core.name or "")
        members.setdefault(key, []).append(core.number)
    return tuple(
        CoreGroup(
            cores=tuple(numbers),
            name=name or None,
            max_clock_hz=clock or None,
            is_little=name in _LITTLE,
        )
        for (clock, name), numbers in sorted(members.items())
    )


def default_cores(cores: Sequence[Core]) -> tuple[int, ...]:
    """Cores to measure on until a sweep has told better: the prime and the big ones.

    Little ones are left out, as one of them makes all threads wait; so are those below 75 % of
    the fastest clock. On a phone that has nothing but little ones, the fastest of them. With no
    clock known, all that are on.
    """
    known = [entry for entry in group(cores) if entry.max_clock_hz is not None]
    chosen = [entry for entry in known if not entry.is_little] or known
    if not chosen:
        return tuple(core.number for core in cores if core.is_online)
    fastest = max(entry.max_clock_hz or 0 for entry in chosen)
    numbers = {
        number
        for entry in chosen
        if (entry.max_clock_hz or 0) >= _BIG_SHARE * fastest
        for number in entry.cores
    }
    return tuple(core.number for core in cores if core.number in numbers and core.is_online)
