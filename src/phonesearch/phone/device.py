"""What a phone is and what state it is in, from one question to it.

Everything is read with the rights of the shell user, and nothing on the phone is changed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from phonesearch.phone.adb import REMOTE_FOLDER, Finished
from phonesearch.phone.adb_words import printable
from phonesearch.phone.clean import FIND_LEFTOVERS, parse_pids
from phonesearch.phone.cores import (
    Core,
    CoreGroup,
    cores_of,
    default_cores,
    group,
    parse_cpuinfo,
    telling_features,
)
from phonesearch.phone.readings import (
    Battery,
    Busy,
    Heat,
    Memory,
    parse_battery,
    parse_busy,
    parse_free,
    parse_heat,
    parse_memory,
    parse_properties,
    parse_wakefulness,
)
from phonesearch.units import KIB

_PROPERTIES: Final = (
    "ro.soc.manufacturer ro.soc.model ro.board.platform ro.hardware ro.product.manufacturer "
    "ro.product.model ro.build.version.release ro.build.version.sdk ro.build.fingerprint "
    "ro.product.cpu.abilist ro.kernel.qemu ro.boot.qemu"
)
_CPU: Final = "/sys/devices/system/cpu/cpu[0-9]*"
_CLOCK_FILES: Final = " ".join(
    [f"{_CPU}/online"]
    + [
        f"{_CPU}/cpufreq/{name}"
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq", "scaling_governor")
    ]
)
_QUESTIONS: Final = {
    "stat_before": "head -n 1 /proc/stat",
    "top": "top -b -n 2 -d 2 -m 8 2>/dev/null || sleep 2",
    "stat_after": "head -n 1 /proc/stat",
    "properties": f'for p in {_PROPERTIES}; do echo "$p=$(getprop $p)"; done',
    "kernel": "uname -r",
    "page_size": "getconf PAGESIZE || getconf PAGE_SIZE",
    "cpuinfo": "cat /proc/cpuinfo",
    "clocks": f"grep -sH . {_CLOCK_FILES}",
    "memory": "cat /proc/meminfo",
    "free": "df -k /data/local/tmp",
    "thermal": "dumpsys thermalservice",
    "battery": "dumpsys battery",
    "low_power": "settings get global low_power",
    "power": "dumpsys power | grep akefulness",
    "doze": "dumpsys deviceidle get deep",
    "leftovers": FIND_LEFTOVERS,
    "folder": f"du -sk {REMOTE_FOLDER}",
}
_GLANCE: Final = tuple(
    name
    for name in _QUESTIONS
    if name not in ("stat_before", "top", "stat_after", "leftovers", "folder")
)
_RAW: Final = (
    *("properties", "kernel", "page_size", "cpuinfo", "clocks", "memory", "free"),
    *("thermal", "low_power", "power", "doze"),
)
"""Answers that tell nothing of the owner, kept to mend our reading of phones we have not met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What does not change until the next update. A result belongs to one `fingerprint`."""

    soc: str | None
    """`QTI SM8650`; before Android 12 the platform, `kona`."""
    soc_model: str | None
    maker: str | None
    model: str | None
    android: str | None
    api_level: int | None
    fingerprint: str | None
    abis: tuple[str, ...]
    kernel: str | None
    page_size_bytes: int | None
    is_emulator: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneReport:
    """A phone at one moment. What it does not tell is None."""

    serial: str
    """Personal: not for files that are passed on."""
    identity: Identity
    cores: tuple[Core, ...]
    features: tuple[str, ...]
    """That all cores have, in the words of /proc/cpuinfo."""
    memory: Memory
    free_bytes: int | None
    """Left in /data/local/tmp."""
    folder_bytes: int | None
    """That our folder takes; None if there is none."""
    heat: Heat
    battery: Battery
    is_low_power: bool | None
    wakefulness: str | None
    doze: str | None
    """`ACTIVE` when it does not doze."""
    busy: Busy
    leftovers: tuple[int, ...]
    """Processes of ours that still run."""
    raw: Mapping[str, str]
    """Answers behind these, without those that tell of the owner."""

    @property
    def groups(self) -> tuple[CoreGroup, ...]:
        """Cores by kind and clock, slowest first."""
        return group(self.cores)

    @property
    def default_cores(self) -> tuple[int, ...]:
        """Cores to measure on, and as many threads, until a sweep has told better."""
        return default_cores(self.cores)

    @property
    def is_networked(self) -> bool:
        """Whether adb reaches it over Wi-Fi and not over a cable."""
        return bool(re.fullmatch(r".+:\d+|adb-.+\._adb(-tls-connect)?\._tcp\.?", self.serial))

    @property
    def kernel_features(self) -> tuple[str, ...]:
        """Those of `features` by which ONNX Runtime chooses its kernels."""
        return telling_features(self.features)


class Asked(Protocol):
    """A phone that answers: `Adb` with a phone chosen, or a `Link`."""

    @property
    def serial(self) -> str | None:
        """Of the phone."""
        ...

    def ask(self, command: str, *, timeout_s: float = ..., doing: str = ...) -> Finished:
        """As `Adb.ask`."""
        ...


def survey(adb: Asked, *, timeout_s: float = 60.0) -> PhoneReport:
    """Ask the phone for everything that a measurement depends on; takes about 3 s.

    Args:
        adb: With a phone chosen.
        timeout_s: For the whole answer.

    Raises:
        PhoneUnreachableError: If it is not there, or goes before the end.
        PhoneTimeoutError: If it takes longer.
    """
    return _asked(adb, tuple(_QUESTIONS), timeout_s=timeout_s)


def glance(adb: Asked, *, timeout_s: float = 60.0) -> PhoneReport:
    """As `survey`, without what else it is busy with, which alone takes 2 s.

    Raises:
        PhoneUnreachableError, PhoneTimeoutError: As `survey`.
    """
    return _asked(adb, _GLANCE, timeout_s=timeout_s)


def _asked(adb: Asked, names: Sequence[str], *, timeout_s: float) -> PhoneReport:
    assert adb.serial is not None, "choose a phone first"
    mark = f"=={secrets.token_hex(6)} "
    command = "\n".join(f"echo; echo '{mark}{name}'; {_QUESTIONS[name]}" for name in names)
    done = adb.ask(f"exec 2>&1\n{command}", timeout_s=timeout_s, doing="asking for its state")
    answers = {}
    for part in f"\n{done.stdout}".split(f"\n{mark}")[1:]:
        name, _, answer = part.partition("\n")
        answers[name.strip()] = answer.strip("\n")
    return read_answers(answers, serial=adb.serial)


def read_answers(answers: Mapping[str, str], *, serial: str) -> PhoneReport:
    """The report, from what each question was answered; missing answers are unknown values.

    Args:
        answers: By the names of the questions.
        serial: Of the phone.
    """
    get = {name: answers.get(name, "") for name in _QUESTIONS}
    folder = re.match(r"(\d+)\s", get["folder"])
    _, features = parse_cpuinfo(get["cpuinfo"])
    return PhoneReport(
        serial=serial,
        identity=_identity(get),
        cores=cores_of(get["cpuinfo"], get["clocks"]),
        features=features,
        memory=parse_memory(get["memory"]),
        free_bytes=parse_free(get["free"]),
        folder_bytes=int(folder[1]) * KIB if folder else None,
        heat=parse_heat(get["thermal"]),
        battery=parse_battery(get["battery"]),
        is_low_power={"0": False, "1": True, "null": False}.get(get["low_power"].strip()),
        wakefulness=parse_wakefulness(get["power"]),
        doze=match[0] if (match := re.match(r"[A-Z_]+$", get["doze"].strip())) else None,
        busy=parse_busy(get["stat_before"], get["stat_after"], get["top"]),
        leftovers=parse_pids(get["leftovers"]),
        raw={name: _without_serial(get[name]) for name in _RAW},
    )


def _identity(get: Mapping[str, str]) -> Identity:
    properties = parse_properties(get["properties"])
    soc = properties.get("ro.soc.model")
    if soc is None:
        full = properties.get("ro.board.platform") or properties.get("ro.hardware")
    else:
        full = " ".join(filter(None, (properties.get("ro.soc.manufacturer"), soc)))
    api_level = properties.get("ro.build.version.sdk", "")
    page = re.search(r"^\d+$", get["page_size"], re.MULTILINE)
    emulated = properties.get("ro.hardware", "") in ("ranchu", "goldfish", "cutf_cvm")
    return Identity(
        soc=full,
        soc_model=soc,
        maker=properties.get("ro.product.manufacturer"),
        model=properties.get("ro.product.model"),
        android=properties.get("ro.build.version.release"),
        api_level=int(api_level) if api_level.isdigit() else None,
        fingerprint=properties.get("ro.build.fingerprint"),
        abis=tuple(filter(None, properties.get("ro.product.cpu.abilist", "").split(","))),
        kernel=printable(get["kernel"]) or None,
        page_size_bytes=int(page[0]) if page else None,
        is_emulator=emulated
        or "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu")),
    )


def _without_serial(text: str) -> str:
    """Old kernels print the serial number of the phone in /proc/cpuinfo."""
    return "\n".join(line for line in text.splitlines() if not line.lower().startswith("serial"))
