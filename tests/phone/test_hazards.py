from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phonesearch.phone.cores import Core
from phonesearch.phone.device import Identity, PhoneReport
from phonesearch.phone.hazards import hazards
from phonesearch.phone.readings import Battery, Busy, Heat, Memory
from phonesearch.units import GIB, MIB

CORE = Core(
    number=0,
    name="Cortex-X4",
    is_online=True,
    max_clock_hz=3_300_000_000,
    allowed_clock_hz=3_300_000_000,
    clock_hz=1_000_000_000,
    governor="walt",
)
IDENTITY = Identity(
    soc="QTI SM8650",
    soc_model="SM8650",
    maker="samsung",
    model="SM-S928B",
    android="14",
    api_level=34,
    fingerprint="samsung/e3q",
    abis=("arm64-v8a", "armeabi-v7a"),
    kernel="6.1",
    page_size_bytes=4096,
    is_emulator=False,
)
GOOD = PhoneReport(
    serial="R5C",
    identity=IDENTITY,
    cores=(CORE,),
    features=("asimd", "asimddp", "i8mm"),
    memory=Memory(total_bytes=12 * GIB, available_bytes=6 * GIB),
    free_bytes=80 * GIB,
    folder_bytes=None,
    heat=Heat(status=0, skin_c=30.0),
    battery=Battery(level=0.9, temperature_c=27.0, status="full", powered_by=("USB",)),
    is_low_power=False,
    wakefulness="Awake",
    doze="ACTIVE",
    busy=Busy(share=0.02, process="com.quiet", process_cores=0.1),
    leftovers=(),
    raw={},
)


def found(report: PhoneReport, **options: Any) -> dict[str, str]:
    return {hazard.name: hazard.severity for hazard in hazards(report, **options)}


def test_a_cool_idle_full_phone_has_none() -> None:
    assert found(GOOD) == {}


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        ({"identity": replace(IDENTITY, abis=("armeabi-v7a",))}, "abi", "refuse"),
        ({"identity": replace(IDENTITY, api_level=23, android="6.0")}, "android", "refuse"),
        ({"identity": replace(IDENTITY, is_emulator=True)}, "emulator", "refuse"),
        ({"features": ("asimd",)}, "no-dotprod", "warn"),
        ({"cores": (replace(CORE, max_clock_hz=None),)}, "clocks-hidden", "warn"),
        ({"cores": (replace(CORE, allowed_clock_hz=2_000_000_000),)}, "capped", "warn"),
        ({"cores": (replace(CORE, governor="powersave"),)}, "governor", "warn"),
        (
            {"cores": (CORE, replace(CORE, number=1, is_online=False))},
            "cores-off",
            "warn",
        ),
        ({"free_bytes": 90 * MIB}, "space", "refuse"),
        ({"free_bytes": GIB}, "space", "warn"),
        ({"memory": Memory(available_bytes=GIB)}, "memory", "warn"),
        ({"heat": Heat(status=1)}, "hot", "refuse"),
        ({"heat": Heat()}, "heat-hidden", "note"),
        ({"heat": Heat(status=0, is_pretended=True)}, "pretended", "warn"),
        ({"battery": Battery(level=0.9, temperature_c=41.0)}, "warm-battery", "warn"),
        ({"battery": Battery(level=0.19)}, "low-battery", "warn"),
        ({"battery": Battery(status="charging", powered_by=("USB",))}, "charging", "note"),
        ({"battery": Battery(is_pretended=True)}, "pretended", "warn"),
        ({"is_low_power": True}, "low-power", "refuse"),
        ({"wakefulness": "Asleep"}, "screen", "note"),
        ({"doze": "IDLE"}, "doze", "warn"),
        ({"busy": Busy(share=0.11)}, "busy", "warn"),
        ({"leftovers": (977,)}, "leftovers", "refuse"),
        ({"serial": "192.168.1.5:5555"}, "network", "note"),
    ],
)
def test_each_rule_by_itself(change: dict[str, Any], name: str, severity: str) -> None:
    assert found(replace(GOOD, **change)) == {name: severity}
    (hazard,) = hazards(replace(GOOD, **change))
    assert hazard.what.endswith(".")
    assert hazard.remedy.endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        {"battery": Battery(level=0.2)},
        {"busy": Busy(share=0.1)},
        {"identity": replace(IDENTITY, api_level=24)},
        {"battery": Battery(temperature_c=39.9)},
        {"doze": "LOCATING"},
    ],
)
def test_just_within_a_bound_is_no_hazard(change: dict[str, Any]) -> None:
    assert found(replace(GOOD, **change)) == {}


def test_what_is_to_be_pushed_must_fit() -> None:
    report = replace(GOOD, free_bytes=GIB)
    assert found(report, push_bytes=GIB - 64 * MIB) == {}
    assert found(report, push_bytes=GIB - 64 * MIB + 1) == {"space": "refuse"}


def test_a_model_must_fit_into_memory() -> None:
    assert found(GOOD, memory_bytes=6 * GIB) == {}
    assert found(GOOD, memory_bytes=6 * GIB + 1) == {"memory": "refuse"}


def test_little_cores_that_are_held_back_do_not_matter() -> None:
    little = replace(
        CORE, number=1, name="Cortex-A520", max_clock_hz=2_000_000_000, allowed_clock_hz=1
    )
    assert found(replace(GOOD, cores=(CORE, little))) == {}


def test_the_busiest_program_is_named() -> None:
    report = replace(GOOD, busy=Busy(share=0.3, process="com.game", process_cores=2.4))
    assert "30% of its cores; most by com.game (2.4 cores)" in hazards(report)[0].what


def test_what_refuses_comes_first() -> None:
    report = replace(GOOD, wakefulness="Asleep", is_low_power=True, busy=Busy(share=0.5))
    assert list(found(report).values()) == ["refuse", "warn", "note"]


def test_every_hazard_is_in_the_guide() -> None:
    root = Path(__file__).parents[2]
    guide = (root / "docs" / "phone.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([\w-]+)` \|", guide, re.MULTILINE))
    written = {
        name
        for module in ("hazards", "runtime")
        for name in re.findall(
            r"name=\"([\w-]+)\",\s+severity=",
            (root / "src" / "phonesearch" / "phone" / f"{module}.py").read_text(encoding="utf-8"),
        )
    }
    assert rows == written
