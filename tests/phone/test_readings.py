"""What the services print, in the forms of Android 9 to 16."""

from __future__ import annotations

import pytest

from phonesearch.phone.clean import parse_pids
from phonesearch.phone.readings import (
    Battery,
    Busy,
    Heat,
    parse_battery,
    parse_busy,
    parse_free,
    parse_heat,
    parse_memory,
    parse_properties,
    parse_wakefulness,
)

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3120000
  status: 2
  health: 2
  present: true
  level: 85
  scale: 100
  voltage: 4200
  temperature: 281
  technology: Li-ion
"""
SAMSUNG_TAIL = """  batteryMiscEvent: 65536
  batteryCurrentEvent: 0
  mSecPlugTypeSummary: 2
  LED Charging: true
  level: 3
  status: 99
"""
HEAT = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 3
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=41.5, mType=3, mName=skin, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=33.4, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=NaN, mType=3, mName=skin-b, mStatus=0}
\tTemperature{mValue=31.25, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
\tTemperature{mValue=29.1, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
\tTemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0]}
"""
TOP = """Tasks: 612 total,   1 running, 611 sleeping,   0 stopped,   0 zombie
  Mem:  7655720K total,  7377596K used,   278124K free,     2276K buffers
 Swap:  4194300K total,  1053148K used,  3141152K free,  3270900K cached
800%cpu   0%user   0%nice   0%sys 800%idle   0%iow   0%irq   0%sirq   0%host
  PID USER         PR  NI VIRT  RES  SHR S[%CPU] %MEM     TIME+ ARGS
  999 u0_a9        10 -10  14G 210M 130M S  780   2.8   1:23.45 com.first.table
800%cpu 110%user   3%nice  13%sys 670%idle   0%iow   3%irq   1%sirq   0%host
  PID USER         PR  NI VIRT  RES  SHR S[%CPU] %MEM     TIME+ ARGS
31415 shell        20   0  12G 4.4M 3.5M R  150   0.0   0:00.12 top -b -n 2 -d 2 -m 8
 1234 u0_a123      10 -10  14G 210M 130M S 96.5   2.8   1:23.45 com.example.app --flag
   55 root         20   0    0    0    0 I  3.0   0.0   0:05.00 [kworker/u16:2]
"""


def test_a_battery_is_read() -> None:
    assert parse_battery(BATTERY) == Battery(
        level=0.85, temperature_c=28.1, status="charging", powered_by=("USB",)
    )


def test_lines_of_the_maker_do_not_override_the_first() -> None:
    assert parse_battery(BATTERY + SAMSUNG_TAIL) == parse_battery(BATTERY)


def test_a_pretended_battery_is_noticed() -> None:
    text = BATTERY.replace("\n", "\n  (UPDATES STOPPED -- use 'reset' to restart)\n", 1)
    assert parse_battery(text).is_pretended


@pytest.mark.parametrize("text", ["", "cmd: Can't find service: battery", "level: full"])
def test_no_battery_is_unknown(text: str) -> None:
    assert parse_battery(text) == Battery()


def test_the_skin_is_what_the_hardware_says_now() -> None:
    assert parse_heat(HEAT) == Heat(status=0, skin_c=31.25)


def test_without_hardware_readings_the_cached_ones_do() -> None:
    text = HEAT.partition("HAL Ready")[0].replace("Status: 0\nC", "Status: 2\nC")
    assert parse_heat(text) == Heat(status=2, skin_c=41.5)


def test_android_9_has_no_thermal_service() -> None:
    assert parse_heat("Can't find service: thermalservice\n") == Heat()


def test_an_overridden_status_is_noticed() -> None:
    assert parse_heat(HEAT.replace("Override: false", "Override: true")).is_pretended


def test_memory_is_read_in_bytes() -> None:
    memory = parse_memory("MemTotal:       11498052 kB\nMemFree:  1 kB\nMemAvailable: 5242880 kB\n")
    assert memory.total_bytes == 11498052 * 1024
    assert memory.available_bytes == 5 * 1024**3
    assert parse_memory("").total_bytes is None


@pytest.mark.parametrize(
    "text",
    [
        "Filesystem     1K-blocks     Used Available Use% Mounted on\n"
        "/dev/block/dm-52 231538316 99000000 1048576 43% /data/user/0\n",
        "Filesystem           1K-blocks      Used Available Use% Mounted on\n"
        "/dev/block/bootdevice/by-name/userdata\n"
        "                      25000000  20000000   1048576  95% /data\n",
    ],
)
def test_free_space_is_read_though_a_name_breaks_the_line(text: str) -> None:
    assert parse_free(text) == 1024**3


def test_free_space_of_no_folder_is_unknown() -> None:
    assert parse_free("df: /data/local/tmp: No such file or directory") is None


def test_other_load_is_that_between_the_two_looks() -> None:
    """Worked by hand: 80 of 400 ticks were not idle, waiting for the disk being idle."""
    before = "cpu  1000 0 500 8000 100 0 0 0 0 0\n"
    after = "cpu  1060 0 520 8300 120 0 0 0 0 0\n"
    busy = parse_busy(before, after, TOP)
    assert busy.share == pytest.approx(0.2)
    assert busy.process == "com.example.app"
    assert busy.process_cores == pytest.approx(0.965)


def test_without_top_the_load_is_known_and_no_name() -> None:
    assert parse_busy("cpu  0 0 0 1\n", "cpu  1 0 0 2\n", "top: bad -b") == Busy(share=0.5)


@pytest.mark.parametrize(("before", "after"), [("", ""), ("cpu 1 2 3 4", "cpu 1 2 3 4")])
def test_no_time_passed_is_no_load_known(before: str, after: str) -> None:
    assert parse_busy(before, after, "") == Busy()


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("  mWakefulness=Awake\n  mWakefulnessChanging=false\n", "Awake"),
        ("mWakefulnessRaw=Asleep\n", "Asleep"),
        ("  getWakefulnessLocked()=Dozing\n", "Dozing"),
        ("", None),
    ],
)
def test_the_screen_is_read(text: str, state: str | None) -> None:
    assert parse_wakefulness(text) == state


def test_properties_are_values_and_never_more() -> None:
    text = "ro.a=Pixel $(reboot); 'x'\nro.empty=\nnot a line\nro.a=second\nro.b=\x1b[2Jred\n"
    assert parse_properties(text) == {"ro.a": "Pixel $(reboot); 'x'", "ro.b": "[2Jred"}


def test_processes_are_found_by_name_and_by_folder() -> None:
    text = (
        "412\nlrwxrwxrwx 1 shell shell 0 2026-11-25 03:00 /proc/977/cwd -> "
        "/data/local/tmp/phonesearch\n412\n"
    )
    assert parse_pids(text) == (412, 977)
