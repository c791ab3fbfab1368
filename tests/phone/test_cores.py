"""Samples in the form of real kernels; the clocks are those that makers publish."""

from __future__ import annotations

import pytest

from phonesearch.errors import SettingsError
from phonesearch.phone.cores import (
    Core,
    cores_of,
    default_cores,
    group,
    parse_clocks,
    parse_cpuinfo,
    parse_cpus,
    telling_features,
)

BLOCK = """processor\t: {number}
BogoMIPS\t: 38.40
Features\t: {features}
CPU implementer\t: {implementer}
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part}
CPU revision\t: 1

"""
PLAIN = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc"


def cpuinfo(*cores: tuple[str, str], features: str = f"{PLAIN} dcpop asimddp i8mm bf16") -> str:
    return "".join(
        BLOCK.format(number=number, features=features, implementer=implementer, part=part)
        for number, (implementer, part) in enumerate(cores)
    )


def clocks(*top_khz: int, governor: str = "walt") -> str:
    folder = "/sys/devices/system/cpu/cpu"
    return "".join(
        f"{folder}{number}/cpufreq/cpuinfo_max_freq:{top}\n"
        f"{folder}{number}/cpufreq/scaling_max_freq:{top}\n"
        f"{folder}{number}/cpufreq/scaling_cur_freq:{top // 2}\n"
        f"{folder}{number}/cpufreq/scaling_governor:{governor}\n"
        for number, top in enumerate(top_khz)
    )


A = "0x41"
X4, A720, A520, A55, A53, A76 = "0xd82", "0xd81", "0xd80", "0xd05", "0xd03", "0xd0b"


def test_names_and_features_are_read() -> None:
    names, features = parse_cpuinfo(cpuinfo((A, A520), (A, A720), (A, X4)))
    assert names == {0: "Cortex-A520", 1: "Cortex-A720", 2: "Cortex-X4"}
    assert telling_features(features) == ("asimddp", "i8mm", "bf16", "fphp")


def test_a_feature_counts_if_all_cores_have_it() -> None:
    text = cpuinfo((A, A520)) + cpuinfo((A, X4), features=PLAIN).replace(": 0\n", ": 1\n", 1)
    names, features = parse_cpuinfo(text)
    assert len(names) == 2
    assert "asimddp" not in features


def test_an_old_kernel_states_them_once_for_all() -> None:
    text = (
        "Processor\t: AArch64 Processor rev 4 (aarch64)\n"
        "processor\t: 0\nprocessor\t: 1\n"
        "Features\t: fp asimd evtstrm aes crc32\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU part\t: 0xd03\nCPU revision\t: 4\n\nHardware\t: Qualcomm MSM8953\nSerial\t: 00c0ffee\n"
    )
    names, features = parse_cpuinfo(text)
    assert names == {0: "Cortex-A53", 1: "Cortex-A53"}
    assert "asimd" in features


def test_a_part_that_is_not_known_is_shown_as_it_is() -> None:
    assert parse_cpuinfo(cpuinfo((A, "0xd99"), ("0x51", "0x001")))[0] == {
        0: "0x41:0xd99",
        1: "Oryon",
    }


def test_clock_files_are_read_wherever_they_lie() -> None:
    text = "/tmp/fake/sys/devices/system/cpu/cpu4/cpufreq/scaling_governor:schedutil\nnonsense\n"
    assert parse_clocks(text) == {4: {"scaling_governor": "schedutil"}}


def test_a_core_that_is_off_has_no_clock() -> None:
    text = clocks(1_800_000) + "/sys/devices/system/cpu/cpu1/online:0\n"
    on, off = cores_of(cpuinfo((A, A55)), text)
    assert (on.max_clock_hz, on.clock_hz, on.governor) == (1_800_000_000, 900_000_000, "walt")
    assert on.is_online
    assert not off.is_online
    assert off.max_clock_hz is None


def test_a_lowered_clock_is_a_cap() -> None:
    text = clocks(2_000_000).replace("scaling_max_freq:2000000", "scaling_max_freq:1500000")
    assert cores_of("", text)[0].is_capped
    assert not cores_of("", clocks(2_000_000))[0].is_capped


@pytest.mark.parametrize(
    ("parts", "top_khz", "expected"),
    [
        (  # Snapdragon 8 Gen 3
            [A520, A520, A720, A720, A720, A720, A720, X4],
            [2265600, 2265600, 3148800, 3148800, 3148800, 2956800, 2956800, 3302400],
            (2, 3, 4, 5, 6, 7),
        ),
        (  # Dimensity 9300: no little cores, but some at 2.0 GHz
            [A720] * 4 + [X4] * 4,
            [2000000] * 4 + [2850000] * 3 + [3250000],
            (4, 5, 6, 7),
        ),
        (  # Tensor G1: 2 x X1, 2 x A76, 4 x A55
            [A55] * 4 + [A76] * 2 + ["0xd44"] * 2,
            [1803000] * 4 + [2253000] * 2 + [2802000] * 2,
            (4, 5, 6, 7),
        ),
        ([A53] * 8, [1800000] * 4 + [2300000] * 4, tuple(range(8))),  # all little
        ([A55] * 6 + [A76] * 2, [1800000] * 6 + [2200000] * 2, (6, 7)),  # little at 82 %
    ],
)
def test_the_prime_and_big_cores_are_measured_on(
    parts: list[str], top_khz: list[int], expected: tuple[int, ...]
) -> None:
    cores = cores_of(cpuinfo(*((A, part) for part in parts)), clocks(*top_khz))
    assert default_cores(cores) == expected


def test_without_clocks_all_that_are_on_are_used() -> None:
    cores = cores_of(cpuinfo((A, A55), (A, A76)), "/sys/devices/system/cpu/cpu1/online:0\n")
    assert default_cores(cores) == (0,)


def test_a_core_that_is_off_is_not_measured_on() -> None:
    core = Core(
        number=0,
        name="Oryon",
        is_online=True,
        max_clock_hz=4_320_000_000,
        allowed_clock_hz=None,
        clock_hz=None,
        governor=None,
    )
    off = Core(
        number=1,
        name="Oryon",
        is_online=False,
        max_clock_hz=4_320_000_000,
        allowed_clock_hz=None,
        clock_hz=None,
        governor=None,
    )
    assert default_cores((core, off)) == (0,)


def test_groups_are_of_one_kind_and_clock_slowest_first() -> None:
    cores = cores_of(
        cpuinfo((A, A55), (A, A76), (A, A55), (A, X4)),
        clocks(1_800_000, 2_000_000, 1_800_000, 2_000_000),
    )
    found = group(cores)
    assert [(entry.cores, entry.name) for entry in found] == [
        ((0, 2), "Cortex-A55"),
        ((1,), "Cortex-A76"),
        ((3,), "Cortex-X4"),
    ]
    assert [entry.is_little for entry in found] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("7", (7,)), ("4-7", (4, 5, 6, 7)), ("7, 4,5", (4, 5, 7)), ("0,4-5", (0, 4, 5))],
)
def test_cores_are_typed_as_numbers_and_ranges(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "f0", "7-4", "1;reboot", "1,", "-1", "1-2-3"])
def test_what_is_no_list_of_cores_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="a list of cores such as 4-7"):
        parse_cpus(text)
