"""What an ARM program finds on the fake phone: a linker, libraries, and a processor with 8 cores.

qemu looks absolute paths up in this tree first (`-L`). In place of Android's linker and C library,
which may not be copied here, stand glibc's loader and a shim over glibc (`fakephone_libc.c`).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phonesearch.phone.runner.build import shared_library

ARM_LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
"""Of Debian's packages `libc6-arm64-cross`, `libstdc++6-...` and `libgcc-s1-arm64-cross`."""
_NEEDED = (
    *("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1"),
    *("libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"),
)
_FUNCTIONS = ("syscall", "__errno_location", "exit", "raise", "pause")
FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One core of the fake processor."""

    part: int
    """Of ARM's list: 0xd05 is a Cortex-A55, 0xd41 an A78, 0xd44 an X1."""
    max_khz: int
    cluster: int


CORES: Sequence[Core] = (
    *[Core(part=0xD05, max_khz=1_800_000, cluster=0)] * 4,
    *[Core(part=0xD41, max_khz=2_400_000, cluster=1)] * 3,
    Core(part=0xD44, max_khz=2_840_000, cluster=2),
)


def missing_packages() -> list[str]:
    """Debian packages that the tree needs and this machine lacks."""
    package = {"libstdc++.so.6": "libstdc++6-arm64-cross", "libgcc_s.so.1": "libgcc-s1-arm64-cross"}
    return sorted(
        {
            package.get(name, "libc6-arm64-cross")
            for name in _NEEDED
            if not (ARM_LIBRARIES / name).exists()
        }
    )


def make_tree(tree: Path) -> None:
    """Everything that no test changes."""
    libraries = tree / "system" / "lib64"
    libraries.mkdir(parents=True)
    for name in _NEEDED:
        (libraries / name).symlink_to(ARM_LIBRARIES / name)
    linker = tree / "system" / "bin" / "linker64"
    linker.parent.mkdir()
    linker.symlink_to(ARM_LIBRARIES / "ld-linux-aarch64.so.1")
    _make_shim(libraries)
    (tree / "proc").mkdir()
    (tree / "proc" / "cpuinfo").write_text(_cpuinfo())
    (tree / "proc" / "version").write_text("Linux version 5.10.0-fakephone (build@fake)\n")
    cpus = tree / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text(f"0-{len(CORES) - 1}\n")
    (cpus / "kernel_max").write_text("7\n")
    for index, core in enumerate(CORES):
        _make_core(cpus / f"cpu{index}", index, core)


def _make_shim(libraries: Path) -> None:
    for name, content in _shim().items():
        (libraries / name).write_bytes(content)


@functools.cache
def _shim() -> dict[str, bytes]:
    """Libraries that are compiled, once for all phones of a process."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = Path(__file__).with_name("fakephone_libc.c")
        (folder / source.name).write_bytes(source.read_bytes())
        (folder / "stub.c").write_text("".join(f"void {name}(void) {{}}\n" for name in _FUNCTIONS))
        (folder / "empty.c").write_text("")
        shared_library("stub.c", "libc.so.6", folder=folder)
        shared_library(source.name, "libc.so", folder=folder, needed=["libc.so.6"])
        shared_library("empty.c", "libdl.so", folder=folder)
        return {name: (folder / name).read_bytes() for name in ("libc.so", "libdl.so")}


def _cpuinfo() -> str:
    entries = [
        f"processor\t: {index}\n"
        "BogoMIPS\t: 38.40\n"
        f"Features\t: {FEATURES}\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        "CPU variant\t: 0x1\n"
        f"CPU part\t: {core.part:#x}\n"
        "CPU revision\t: 0\n\n"
        for index, core in enumerate(CORES)
    ]
    return "".join(entries) + "Hardware\t: Fake Technologies, Inc FK8350\n"


def _make_core(folder: Path, index: int, core: Core) -> None:
    siblings = [place for place, other in enumerate(CORES) if other.cluster == core.cluster]
    cluster = f"{siblings[0]}-{siblings[-1]}" if len(siblings) > 1 else str(siblings[0])
    values = {
        "cpufreq/cpuinfo_max_freq": core.max_khz,
        "cpufreq/cpuinfo_min_freq": 300_000,
        "cpufreq/scaling_min_freq": 300_000,
        "cpufreq/related_cpus": " ".join(map(str, siblings)),
        "cpufreq/scaling_driver": "qcom-cpufreq-hw",
        "topology/core_id": index,
        "topology/physical_package_id": core.cluster,
        "topology/core_siblings_list": cluster,
        "topology/thread_siblings_list": index,
        "regs/identification/midr_el1": f"{0x410F0000 | core.part << 4:#018x}",
    }
    for name, value in values.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
