"""The whole question to a phone, answered by this machine's shell with tools of Android's kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from phonesearch.errors import CableLostError
from phonesearch.phone.clean import clean
from phonesearch.phone.device import read_answers, survey

if TYPE_CHECKING:
    from tests.conftest import StubAdb

GALAXY_S24 = """ro.soc.manufacturer=QTI
ro.soc.model=SM8650
ro.board.platform=pineapple
ro.hardware=qcom
ro.product.manufacturer=samsung
ro.product.model=SM-S928B
ro.build.version.release=14
ro.build.version.sdk=34
ro.build.fingerprint=samsung/e3qxxx/e3q:14/UP1A.231005.007/S928BXXU1AWM9:user/release-keys
ro.product.cpu.abilist=arm64-v8a,armeabi-v7a,armeabi
ro.kernel.qemu=
"""


def test_a_phone_of_android_14_is_identified() -> None:
    answers = {"properties": GALAXY_S24, "kernel": "6.1.25-android14-11\n", "page_size": "4096\n"}
    identity = read_answers(answers, serial="R5C").identity
    assert identity.soc == "QTI SM8650"
    assert identity.model == "SM-S928B"
    assert (identity.android, identity.api_level) == ("14", 34)
    assert identity.abis == ("arm64-v8a", "armeabi-v7a", "armeabi")
    assert (identity.kernel, identity.page_size_bytes) == ("6.1.25-android14-11", 4096)
    assert not identity.is_emulator


def test_before_android_12_the_platform_stands_for_the_chip() -> None:
    text = "ro.soc.model=\nro.board.platform=kona\nro.build.version.release=11\n"
    identity = read_answers({"properties": text}, serial="x").identity
    assert identity.soc == "kona"
    assert identity.soc_model is None


@pytest.mark.parametrize("line", ["ro.kernel.qemu=1", "ro.boot.qemu=1", "ro.hardware=ranchu"])
def test_an_emulator_is_known(line: str) -> None:
    assert read_answers({"properties": line}, serial="x").identity.is_emulator


def test_a_phone_that_answers_nothing_is_unknown_and_no_error() -> None:
    report = read_answers({}, serial="x")
    assert report.cores == ()
    assert report.default_cores == ()
    assert report.is_low_power is None
    assert report.free_bytes is None


@pytest.mark.parametrize(
    ("answer", "expected"), [("1\n", True), ("0\n", False), ("null\n", False), ("error", None)]
)
def test_battery_saver_is_read(answer: str, expected: bool | None) -> None:
    assert read_answers({"low_power": answer}, serial="x").is_low_power is expected


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("R5CT10ABCDE", False),
        ("192.168.1.5:5555", True),
        ("adb-R5C-x._adb-tls-connect._tcp", True),
    ],
)
def test_a_phone_on_wifi_is_known(serial: str, expected: bool) -> None:
    assert read_answers({}, serial=serial).is_networked is expected


def test_the_serial_number_in_cpuinfo_is_not_kept() -> None:
    text = "processor\t: 0\nHardware\t: Qualcomm\nSerial\t\t: 00c0ffee\n"
    assert "c0ffee" not in str(read_answers({"cpuinfo": text}, serial="x").raw)


@pytest.fixture
def android(stub_adb: StubAdb, tmp_path: Path) -> StubAdb:
    """This machine's shell with the tools that Android has and it lacks."""
    cores = tmp_path / "cpu"
    for number, top in enumerate((1_800_000, 3_000_000)):
        folder = cores / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{top}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    (cores / "cpufreq").mkdir()
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n"
        "processor\t: 1\nFeatures\t: asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd44\n"
    )
    stub_adb.replaces("/sys/devices/system/cpu", cores)
    stub_adb.replaces("/proc/cpuinfo", tmp_path / "cpuinfo")
    stub_adb.has("getprop", '[ "$1" = ro.product.model ] && echo \'Pixel $(touch owned); "x"\'')
    stub_adb.has(
        "dumpsys",
        'case "$1" in battery) printf "  level: 50\\n  scale: 100\\n  temperature: 300\\n" ;;\n'
        "power) echo '  mWakefulness=Awake' ;;\n"
        "deviceidle) echo ACTIVE ;;\n"
        '*) echo "Can\'t find service: $1" >&2; exit 1 ;; esac',
    )
    stub_adb.has("settings", "echo 1")
    stub_adb.has("top", "exit 0")
    return stub_adb


def test_one_question_tells_all(android: StubAdb) -> None:
    report = survey(android.phone)
    assert len([call for call in android.calls if "shell" in call]) == 1
    assert report.serial == "S1"
    assert [core.name for core in report.cores] == ["Cortex-A55", "Cortex-X1"]
    assert [core.max_clock_hz for core in report.cores] == [1_800_000_000, 3_000_000_000]
    assert report.default_cores == (1,)
    assert report.kernel_features == ("asimddp",)
    assert report.memory.total_bytes
    assert report.free_bytes
    assert (report.battery.level, report.battery.temperature_c) == (0.5, 30.0)
    assert report.heat.status is None
    assert report.is_low_power is True
    assert (report.wakefulness, report.doze) == ("Awake", "ACTIVE")
    assert report.leftovers == ()
    assert report.identity.page_size_bytes == 4096


def test_a_property_never_runs(android: StubAdb) -> None:
    assert survey(android.phone).identity.model == 'Pixel $(touch owned); "x"'
    assert not list(Path().glob("owned"))


def test_the_question_is_short_enough_for_any_adb(android: StubAdb) -> None:
    survey(android.phone)
    assert len(android.calls[-1][-1]) < 4000


def test_a_cable_lost_within_gives_no_half_report(stub_adb: StubAdb) -> None:
    stub_adb.says("shell", "\n==abc stat_before\ncpu  1 2 3 4\n")
    with pytest.raises(CableLostError, match="asking for its state"):
        survey(stub_adb.phone)


def test_what_is_left_over_is_seen_and_removed(stub_adb: StubAdb) -> None:
    folder = stub_adb.folder / "data" / "phonesearch"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(100_000))
    stub_adb.has("pgrep", 'echo 4194999; echo "$@" > "$(dirname "$0")/asked"')
    stub_adb.has("kill", "exit 1")
    cleaned = clean(stub_adb.phone)
    assert cleaned.folder_bytes >= 100_000
    assert 4194999 in cleaned.processes
    assert not folder.exists()
    assert clean(stub_adb.phone).folder_bytes == 0
    assert "[p]honesearch" in (stub_adb.folder / "bin" / "asked").read_text()
