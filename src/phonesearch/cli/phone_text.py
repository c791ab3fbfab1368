"""What the doctor found, as one screen and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phonesearch import __version__
from phonesearch.phone.cores import CoreGroup
from phonesearch.phone.device import PhoneReport
from phonesearch.phone.hazards import Hazard
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.sweep import Swept
from phonesearch.units import KIB, format_bytes, format_hertz, format_seconds

_HEADINGS = {
    "refuse": "Must be mended before measuring:",
    "warn": "May spoil a measurement:",
    "note": "Keep the same for all measurements:",
}
_UNKNOWN = "unknown"
_ON_OFF = {True: "on", False: "off", None: _UNKNOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that the doctor asked for."""

    report: PhoneReport
    hazards: tuple[Hazard, ...]
    library: RuntimeLibrary | None
    no_library: str
    """Why there is none."""
    adb_version: str


def as_json(found: Findings, *, include_private: bool = False) -> dict[str, Any]:
    """The whole, for programs and for bug reports.

    Args:
        found: All that is known.
        include_private: Whether to tell the serial number and what the phone is busy with.
    """
    content = asdict(found.report)
    hazards = [asdict(hazard) for hazard in found.hazards]
    library = None if found.library is None else asdict(found.library)
    if not include_private:
        del content["serial"]
        content["busy"]["process"] = None
        if found.report.busy.process is not None:
            for hazard in hazards:
                hazard["what"] = hazard["what"].replace(found.report.busy.process, "an app")
        if library is not None:
            del library["path"]
    return {
        "phonesearch": __version__,
        "adb": found.adb_version,
        "host": f"{platform.system()} {platform.machine()}",
        "ready": not any(hazard.severity == "refuse" for hazard in found.hazards),
        "hazards": hazards,
        "default_cores": list(found.report.default_cores),
        "core_groups": [asdict(entry) for entry in found.report.groups],
        "kernel_features": list(found.report.kernel_features),
        "is_networked": found.report.is_networked,
        "runtime": library,
        **content,
    }


def as_text(found: Findings) -> str:
    """One screen, the problems last."""
    rows = [
        f"{name:<11}{text}".rstrip()
        for name, texts in _rows(found)
        for name, text in zip((name, *[""] * len(texts)), texts, strict=False)
    ]
    for severity, heading in _HEADINGS.items():
        of_it = [hazard for hazard in found.hazards if hazard.severity == severity]
        if of_it:
            rows += ["", heading, *(f"  {hazard.name}: {hazard}" for hazard in of_it)]
    if found.library is None:
        rows += ["", "To do:", f"  runtime: {found.no_library}"]
    elif not any(hazard.severity == "refuse" for hazard in found.hazards):
        rows += ["", "Ready to measure."]
    return "\n".join(rows)


def _rows(found: Findings) -> Iterator[tuple[str, list[str]]]:
    report = found.report
    identity, memory, battery, busy = report.identity, report.memory, report.battery, report.busy

    def row(name: str, *parts: str | None) -> tuple[str, list[str]]:
        return name, [", ".join(part for part in parts if part)]

    name = " ".join(filter(None, (identity.maker, identity.model))) or "of unknown make"
    level = f"API {identity.api_level}" if identity.api_level else None
    yield row("phone", f"{name} ({report.serial})", f"Android {_or(identity.android)}", level)
    yield row("chip", _or(identity.soc), *(identity.abis or ("no ABI told",)))
    page = identity.page_size_bytes
    yield row("kernel", _or(identity.kernel), f"pages of {page // KIB} KiB" if page else None)
    yield row("build", _or(identity.fingerprint))
    yield "cores", [_group(report, entry) for entry in report.groups] or [_UNKNOWN]
    cores = report.default_cores
    yield row(
        "measure on", f"cores {ranges(cores)}" if cores else _UNKNOWN, f"{len(cores)} threads"
    )
    yield row("features", " ".join(report.kernel_features) or "none of those that make int8 fast")
    yield row("memory", f"{_bytes(memory.available_bytes)} free of {_bytes(memory.total_bytes)}")
    ours = f"ours takes {format_bytes(report.folder_bytes)}" if report.folder_bytes else None
    yield row("space", f"{_bytes(report.free_bytes)} free in /data/local/tmp", ours)
    yield row(
        "heat",
        f"thermal status {_or(report.heat.status)}",
        f"skin {_celsius(report.heat.skin_c)}",
        f"battery {_celsius(battery.temperature_c)}",
    )
    yield row(
        "battery",
        _UNKNOWN if battery.level is None else f"{battery.level:.0%}",
        _or(battery.status),
        f"powered by {' and '.join(battery.powered_by) or 'nothing'}",
        f"saver {_ON_OFF[report.is_low_power]}",
    )
    yield row("screen", _or(report.wakefulness), f"doze {_or(report.doze)}")
    yield row(
        "other load",
        _UNKNOWN if busy.share is None else f"{busy.share:.0%} of all cores",
        f"most by {busy.process} ({busy.process_cores:.1f} cores)" if busy.process else None,
    )
    if found.library is None:
        yield row("runtime", "not set up")
    else:
        checked = "one that we have run" if found.library.is_checked else "not one we have run"
        yield row("runtime", f"ONNX Runtime {_or(found.library.version)}", checked)
    yield row("adb", found.adb_version, "over the network" if report.is_networked else "by cable")


def _group(report: PhoneReport, entry: CoreGroup) -> str:
    members = [core for core in report.cores if core.number in entry.cores]
    clock = "off, or hides its clock"
    if entry.max_clock_hz is not None:
        allowed = [core.allowed_clock_hz for core in members if core.allowed_clock_hz]
        held = min(allowed, default=entry.max_clock_hz)
        cap = f", held to {format_hertz(held)}" if held < entry.max_clock_hz else ""
        now = [core.clock_hz for core in members if core.clock_hz]
        at = f", now {format_hertz(max(now))}" if now else ""
        clock = f"up to {format_hertz(entry.max_clock_hz)}{cap}{at}"
    governors = sorted({core.governor for core in members if core.governor})
    by = f", governor {' '.join(governors)}" if governors else ""
    return f"{ranges(entry.cores):<6} {entry.name or 'of unknown kind':<16} {clock}{by}"


def ranges(numbers: Iterable[int]) -> str:
    """`0-3,7` of 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _bytes(size: int | None) -> str:
    return _UNKNOWN if size is None else format_bytes(size)


def _celsius(degrees: float | None) -> str:
    return _UNKNOWN if degrees is None else f"{degrees:.0f} C"


def _or(value: object) -> str:
    return _UNKNOWN if value is None else str(value)


def sweep_json(swept: Sequence[Swept]) -> list[dict[str, Any]]:
    """Sets of cores and what the reference model took on them, fastest first."""
    return [asdict(one) for one in swept]


def sweep_text(swept: Sequence[Swept]) -> str:
    """The same, as a table for people."""
    lines = [
        "Cores, by the time for a prompt and an answer of 128 tokens of a 30M model:",
        f"  {'cores':22}{'threads':>7}{'prompt':>12}{'token':>12}{'turn':>12}",
    ]
    for one in swept:
        name = f"{one.choice.name} ({ranges(one.choice.cpus)})"
        row = f"  {name:22}{one.choice.num_threads:7}"
        if one.time is None:
            lines.append(f"{row}   the system does not give us these cores")
            continue
        times = (one.time.prefill_s, one.time.decode_s, one.turn_s)
        lines.append(row + "".join(f"{format_seconds(time):>12}" for time in times))
    best = swept[0].choice
    lines.append(
        f"{best.name} ({ranges(best.cpus)}) with {best.num_threads} threads is kept for later "
        "measurements of this phone."
    )
    return "\n".join(lines)
