"""What stands between a phone and a number that can be believed, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from phonesearch.phone.device import PhoneReport
from phonesearch.units import GIB, MIB, format_bytes, format_hertz

Severity = Literal["refuse", "warn", "note"]

SPARE_BYTES: Final = 64 * MIB
"""That must be left in /data/local/tmp after a push."""
_FIRST_PUSH_BYTES: Final = 40 * MIB
"""ONNX Runtime, the runner and a small model."""
_ROOMY_BYTES: Final = 2 * GIB
"""Holds the int4 files of a candidate of 1.5B twice."""
_MEMORY_BYTES: Final = 2 * GIB
"""A 1.5B candidate in int4, times 1.5, and its cache."""
_LEAST_API_LEVEL: Final = 24
"""That the official library is built for: Android 7, whose adb also reports exit codes."""
_LOW_BATTERY: Final = 0.2
_WARM_BATTERY_C: Final = 40.0
_BUSY_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """One thing that makes a measurement wrong, or not comparable with others."""

    name: str
    """Short and fixed, for programs and for records: `hot`, `low-power`."""
    severity: Severity
    """`refuse`: do not measure; `warn`: the number may be off; `note`: keep it the same for all."""
    what: str
    remedy: str

    @property
    def rank(self) -> int:
        """For sorting: what refuses comes first."""
        return ("refuse", "warn", "note").index(self.severity)

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


def hazards(
    report: PhoneReport, *, push_bytes: int | None = None, memory_bytes: int | None = None
) -> tuple[Hazard, ...]:
    """All of them, those that refuse first.

    Args:
        report: The phone as it is now.
        push_bytes: That are about to be pushed; a first push with a small model by default.
        memory_bytes: That the model will take (1.5 times its weights, and its cache); unknown by
            default, which only warns.
    """
    found = [*_kind(report), *_room(report, push_bytes, memory_bytes), *_state(report)]
    return tuple(sorted(found, key=lambda hazard: hazard.rank))


def _kind(report: PhoneReport) -> Iterator[Hazard]:
    """What another phone would mend."""
    identity = report.identity
    if identity.abis and "arm64-v8a" not in identity.abis:
        yield Hazard(
            name="abi",
            severity="refuse",
            what=f"It runs {', '.join(identity.abis)} code and not arm64-v8a, which we need.",
            remedy="Use a phone with a 64-bit system.",
        )
    if identity.api_level is not None and identity.api_level < _LEAST_API_LEVEL:
        yield Hazard(
            name="android",
            severity="refuse",
            what=f"Android {identity.android} is older than 7, which ONNX Runtime needs.",
            remedy="Use a newer phone.",
        )
    if identity.is_emulator:
        yield Hazard(
            name="emulator",
            severity="refuse",
            what="It is an emulator; its times say nothing about a phone.",
            remedy="Plug in a phone.",
        )
    if report.features and "asimddp" not in report.features:
        yield Hazard(
            name="no-dotprod",
            severity="warn",
            what="Its cores have no int8 dot product (asimddp): ONNX Runtime then multiplies int4 "
            "weights in float32, without saying so, several times slower.",
            remedy="Do not take its speeds for those of phones of 2019 and later.",
        )
    if not any(core.max_clock_hz for core in report.cores):
        yield Hazard(
            name="clocks-hidden",
            severity="warn",
            what="It does not show the clocks of its cores, so big and little ones cannot be told "
            "apart, nor whether it was slowed down.",
            remedy="Name the cores yourself, and look at the spread of the repetitions.",
        )


def _room(
    report: PhoneReport, push_bytes: int | None, memory_bytes: int | None
) -> Iterator[Hazard]:
    free = report.free_bytes
    need = (_FIRST_PUSH_BYTES if push_bytes is None else push_bytes) + SPARE_BYTES
    if free is not None and free < need:
        yield Hazard(
            name="space",
            severity="refuse",
            what=f"{format_bytes(free)} are free in /data/local/tmp and {format_bytes(need)} are "
            "needed.",
            remedy="Free some, or run `phonesearch phone clean`.",
        )
    elif free is not None and push_bytes is None and free < _ROOMY_BYTES:
        yield Hazard(
            name="space",
            severity="warn",
            what=f"Only {format_bytes(free)} are free; a 1.5B candidate takes 0.9 GB.",
            remedy="Free some before a search with large candidates.",
        )
    memory = report.memory.available_bytes
    if memory is None:
        return
    if memory_bytes is not None and memory < memory_bytes:
        yield Hazard(
            name="memory",
            severity="refuse",
            what=f"{format_bytes(memory)} of memory are available and the model needs about "
            f"{format_bytes(memory_bytes)}; Android would kill it.",
            remedy="Close apps or restart the phone, or use smaller candidates.",
        )
    elif memory_bytes is None and memory < _MEMORY_BYTES:
        yield Hazard(
            name="memory",
            severity="warn",
            what=f"Only {format_bytes(memory)} of memory are available; a 1.5B candidate needs "
            "about 2 GB.",
            remedy="Close apps or restart the phone.",
        )


def _state(report: PhoneReport) -> Iterator[Hazard]:
    """What waiting, unplugging or a tap would mend."""
    yield from _heat(report)
    yield from _power(report)
    yield from _clocks(report)
    if report.leftovers:
        pids = ", ".join(str(pid) for pid in report.leftovers)
        yield Hazard(
            name="leftovers",
            severity="refuse",
            what=f"Something of ours still runs on it (process {pids}).",
            remedy="Wait for the other measurement; if there is none, `phonesearch phone clean`.",
        )
    share = report.busy.share
    if share is not None and share > _BUSY_SHARE:
        cores = report.busy.process_cores or 0.0
        who = f"; most by {report.busy.process} ({cores:.1f} cores)" if report.busy.process else ""
        yield Hazard(
            name="busy",
            severity="warn",
            what=f"Other programs take {share:.0%} of its cores{who}.",
            remedy="Close apps, wait for updates to finish, switch to flight mode.",
        )
    if report.wakefulness not in (None, "Awake"):
        yield Hazard(
            name="screen",
            severity="note",
            what=f"The screen is off ({report.wakefulness}), in which some phones slow down.",
            remedy="Keep it the same for all candidates; Developer options > Stay awake keeps it "
            "on while charging.",
        )
    if report.doze in ("IDLE", "IDLE_MAINTENANCE"):
        yield Hazard(
            name="doze",
            severity="warn",
            what=f"It dozes ({report.doze}).",
            remedy="Switch the screen on.",
        )
    if report.is_networked:
        yield Hazard(
            name="network",
            severity="note",
            what="It is connected over the network: slow pushes, and Wi-Fi work while measuring.",
            remedy="Use a cable.",
        )


def _heat(report: PhoneReport) -> Iterator[Hazard]:
    status = report.heat.status
    if status is None:
        yield Hazard(
            name="heat-hidden",
            severity="note",
            what="It does not tell its thermal status (Android before 10 has none).",
            remedy="Let it lie for ten minutes before measuring, out of its case.",
        )
    elif status > 0:
        skin = f", {report.heat.skin_c:.0f} C on its skin" if report.heat.skin_c else ""
        yield Hazard(
            name="hot",
            severity="refuse",
            what=f"It is hot (thermal status {status} of 6{skin}) and slows itself down.",
            remedy="Let it cool, screen off, out of its case and out of the sun.",
        )
    battery_c = report.battery.temperature_c
    if battery_c is not None and battery_c >= _WARM_BATTERY_C:
        yield Hazard(
            name="warm-battery",
            severity="warn",
            what=f"The battery has {battery_c:.0f} C.",
            remedy="Let it cool; charging heats it.",
        )
    if report.heat.is_pretended or report.battery.is_pretended:
        yield Hazard(
            name="pretended",
            severity="warn",
            what="Its battery or heat readings were set by hand and are not true.",
            remedy="`adb shell dumpsys battery reset`; `adb shell cmd thermalservice reset`.",
        )


def _power(report: PhoneReport) -> Iterator[Hazard]:
    battery = report.battery
    if report.is_low_power:
        yield Hazard(
            name="low-power",
            severity="refuse",
            what="Battery saver is on, which lowers the clocks.",
            remedy="Switch it off in Settings > Battery.",
        )
    if battery.level is not None and battery.level < _LOW_BATTERY:
        yield Hazard(
            name="low-battery",
            severity="warn",
            what=f"The battery is at {battery.level:.0%}; many phones lower their clocks then.",
            remedy="Charge it above 20 %.",
        )
    if battery.status == "charging":
        by = f" from {' and '.join(battery.powered_by)}" if battery.powered_by else ""
        yield Hazard(
            name="charging",
            severity="note",
            what=f"It charges{by}, which heats it.",
            remedy="A full battery heats less; keep it the same for all candidates.",
        )


def _clocks(report: PhoneReport) -> Iterator[Hazard]:
    chosen = [core for core in report.cores if core.number in report.default_cores]
    capped = [core for core in chosen if core.is_capped]
    if capped:
        worst = min(
            capped, key=lambda core: (core.allowed_clock_hz or 0) / (core.max_clock_hz or 1)
        )
        yield Hazard(
            name="capped",
            severity="warn",
            what=f"Cores {_listed([core.number for core in capped])} may not reach their top "
            f"clock; core {worst.number} is held to {format_hertz(worst.allowed_clock_hz or 0)} of "
            f"{format_hertz(worst.max_clock_hz or 0)}.",
            remedy="Let it cool; switch off battery saver and choose the maker's performance mode.",
        )
    slow = [core for core in chosen if core.governor == "powersave"]
    if slow:
        yield Hazard(
            name="governor",
            severity="warn",
            what=f"Cores {_listed([core.number for core in slow])} have the governor powersave.",
            remedy="Switch off battery saver; without root nothing else can.",
        )
    off = [core.number for core in report.cores if not core.is_online]
    if off:
        yield Hazard(
            name="cores-off",
            severity="warn",
            what=f"Cores {_listed(off)} are switched off.",
            remedy="Let it cool, switch off battery saver, and wake it.",
        )


def _listed(numbers: list[int]) -> str:
    return ",".join(str(number) for number in numbers)
