"""What the fake phone says of itself: one JSON file, and the files and tools that show it.

Tests change the state at any time (`State.update`); the phone looks at it 50 times a second and
before every command. Faults strike once and are then taken out of the state.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from fakephone_tree import CORES, make_tree

KIB = 1024

DEFAULT: dict[str, Any] = {
    "cable": "ok",  # or "lost"
    "authorised": True,
    "properties": {
        "ro.serialno": "FAKE0001",
        "ro.soc.manufacturer": "Fake",
        "ro.soc.model": "FK8350",
        "ro.board.platform": "fake",
        "ro.hardware": "fake",
        "ro.product.manufacturer": "Phonemaker",
        "ro.product.name": "fakephone",
        "ro.product.model": "Fake Phone 5",
        "ro.product.device": "fakephone",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.build.fingerprint": "phonemaker/fakephone/fakephone:14/FAKE.1/1:user/release-keys",
    },
    "battery": {"level": 80, "temperature": 271, "status": 3, "usb": True},
    "thermal": {"status": 0, "skin": 31.5},
    "settings": {"global/low_power": "0"},
    "wakefulness": "Awake",
    "doze": "ACTIVE",
    "kernel": "5.10.0-fakephone",
    "busy_share": 0.02,  # of all cores
    "busy_process": ["surfaceflinger", 1.5],  # and percent of one core
    "memory_total_kb": 7_600_000,
    "memory_available_kb": 4_100_000,
    "disk_bytes": 8 << 30,  # what /data can hold
    "governor": "walt",
    "khz": [core.max_khz for core in CORES],
    "max_khz": [core.max_khz for core in CORES],
    "allowed_cpus": list(range(len(CORES))),  # the cpuset of the adb shell
    "offline_cpus": [],
    "qemu_cpu": "cortex-a76",  # decides the kernels that ONNX Runtime chooses
    "runner_fault": None,  # "hang" or the number of a signal, after the runner's next stretch
    "faults": {
        "lose_push_after_bytes": None,
        "keep_partial": False,  # and what had arrived stays, as a shorter file
        "lose_on_output": None,  # once a command has printed this
        "replug_after_s": None,  # None: stays lost
    },
}

_TOOLS = {
    "getprop": 'if [ $# = 0 ]; then cat "$A/getprop"; else cat "$A/properties/$1" 2>/dev/null || '
    "echo; fi",
    "dumpsys": 'case "$1" in battery|thermalservice|power) cat "$A/$1";; deviceidle) cat "$A/doze"'
    ';; *) echo "Can\'t find service: $1";; esac',
    "settings": 'case "$1" in get) cat "$A/settings/$2/$3" 2>/dev/null || echo null;; '
    '*) echo "settings $*" >> "$A/calls";; esac',
    "uname": 'case "$*" in -r) cat "$A/kernel";; -m) echo aarch64;; *) echo "Linux localhost '
    '$(cat "$A/kernel") aarch64";; esac',
    "df": 'cat "$A/df"',
    "top": 'cat "$A/top"; cp "$A/stat_after" "$R/tree/proc/stat"',
    "cmd": 'echo "cmd $*" >> "$A/calls"',
    "svc": 'echo "svc $*" >> "$A/calls"',
    "input": 'echo "input $*" >> "$A/calls"',
    "taskset": 'shift; exec "$@"',
    "pgrep": 'exec "$P" -I -S "$H" pgrep "$R" "$@"',
    "pkill": 'exec "$P" -I -S "$H" pkill "$R" "$@"',
    "killall": 'exec "$P" -I -S "$H" pkill "$R" "$@"',
    "sha256sum": 'exec "$P" -I -S "$H" sha256sum "$R" "$@"',
}
"""Scripts in place of Android's tools; A holds their answers, R is the root."""
_NOT_TOYBOX = {*_TOOLS, "sh", "su", "reboot", "halt", "poweroff", "chroot", "watch"}


class State:
    """The state of the phone under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "state.json"
        self._answers = root / "answers"

    def read(self) -> dict[str, Any]:
        """All of it."""
        state: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        return state

    def stamp(self) -> tuple[int, int]:
        """Another one after every change."""
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Against other threads and processes: what is shown must not be older than the state."""
        with (self._root / "state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def update(self, **changes: Any) -> None:
        """Change some fields; of those that are mappings, only the keys that are given."""
        with self._locked():
            state = self.read()
            for name, value in changes.items():
                if name not in state:
                    raise KeyError(name)
                if isinstance(state[name], dict):
                    state[name] |= value
                else:
                    state[name] = value
            self._write(state)

    def _write(self, state: dict[str, Any]) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
        temporary.replace(self._path)

    def create(self, changes: dict[str, Any]) -> None:
        """Write the first state."""
        self._write(copy.deepcopy(DEFAULT))
        self.update(**changes)

    def free_bytes(self) -> int:
        """Left on /data."""
        files = (self._root / "data").rglob("*")
        used = sum(path.lstat().st_size for path in files if not path.is_dir())
        disk: int = self.read()["disk_bytes"]
        return max(disk - used, 0)

    def render(self) -> None:
        """Bring the files that show the state up to date."""
        with self._locked():
            self._render(self.read())

    def _render(self, state: dict[str, Any]) -> None:
        cpus = sum(1 << cpu for cpu in state["allowed_cpus"])
        fault = {"hang": 255, None: 0}.get(state["runner_fault"], state["runner_fault"])
        fake = self._root / "tree" / "sys" / "fakephone"
        for name, value in (
            ("allowed_cpus", cpus),
            ("fault", fault),
            ("free_bytes", self.free_bytes()),
        ):
            _put(fake / name, f"{value}\n")
        self._render_clocks(state)
        self._render_answers(state)
        proc = self._root / "tree" / "proc"
        busy = int(1600 * state["busy_share"])  # ticks of 8 cores in 2 s
        _put(proc / "stat", "cpu  1000 0 1000 90000 0 0 0 0 0 0\n")
        _put(
            self._answers / "stat_after",
            f"cpu  {1000 + busy} 0 1000 {90000 + 1600 - busy} 0 0 0 0 0 0\n",
        )
        _put(proc / "loadavg", "0.10 0.20 0.30 1/900 12345\n")
        _put(
            proc / "meminfo",
            f"MemTotal:       {state['memory_total_kb']} kB\n"
            f"MemFree:         {state['memory_available_kb'] // 4} kB\n"
            f"MemAvailable:   {state['memory_available_kb']} kB\n",
        )

    def _render_clocks(self, state: dict[str, Any]) -> None:
        cpus = self._root / "tree" / "sys" / "devices" / "system" / "cpu"
        for index in range(len(CORES)):
            folder = cpus / f"cpu{index}"
            offline = index in state["offline_cpus"]
            _put(folder / "online", f"{int(not offline)}\n")
            if offline:
                (folder / "cpufreq" / "scaling_cur_freq").unlink(missing_ok=True)
            else:
                _put(folder / "cpufreq" / "scaling_cur_freq", f"{state['khz'][index]}\n")
            _put(folder / "cpufreq" / "scaling_max_freq", f"{state['max_khz'][index]}\n")
            _put(folder / "cpufreq" / "scaling_governor", f"{state['governor']}\n")

    def _render_answers(self, state: dict[str, Any]) -> None:
        properties = state["properties"]
        for name, value in properties.items():
            _put(self._answers / "properties" / name, f"{value}\n")
        for path in (self._answers / "properties").iterdir():
            # Names with a dot in front are files that another thread is writing.
            if path.name not in properties and not path.name.startswith("."):
                path.unlink(missing_ok=True)
        _put(
            self._answers / "getprop",
            "".join(f"[{name}]: [{value}]\n" for name, value in sorted(properties.items())),
        )
        for name, value in state["settings"].items():
            _put(self._answers / "settings" / name, f"{value}\n")
        battery, thermal = state["battery"], state["thermal"]
        used = (state["disk_bytes"] - self.free_bytes()) // KIB
        disk, free = state["disk_bytes"] // KIB, self.free_bytes() // KIB
        busy = state["busy_process"]
        row = f" 1234 u0_a99       20   0  12G 300M 200M R {busy[1]}   4.0   1:23.45 {busy[0]}\n"
        for name, text in (
            ("qemu_cpu", state["qemu_cpu"]),
            ("kernel", f"{state['kernel']}\n"),
            ("doze", f"{state['doze']}\n"),
            ("power", f"POWER MANAGER (dumpsys power)\n  mWakefulness={state['wakefulness']}\n"),
            (
                "df",
                "Filesystem     1K-blocks     Used Available Use% Mounted on\n"
                f"/dev/block/dm-9 {disk} {used} {free} {100 * used // max(disk, 1)}% /data\n",
            ),
            (
                "battery",
                "Current Battery Service state:\n  AC powered: false\n"
                f"  USB powered: {str(battery['usb']).lower()}\n  Wireless powered: false\n"
                f"  status: {battery['status']}\n  level: {battery['level']}\n  scale: 100\n"
                f"  temperature: {battery['temperature']}\n",
            ),
            (
                "thermalservice",
                f"IsStatusOverride: false\nThermal Status: {thermal['status']}\n"
                "Current temperatures from HAL:\n"
                f"\tTemperature{{mValue={thermal['skin']}, mType=3, mName=skin, "
                f"mStatus={thermal['status']}}}\nCurrent cooling devices from HAL:\n",
            ),
            (
                "top",
                2 * f"  PID USER         PR  NI VIRT  RES  SHR S[%CPU] %MEM     TIME+ ARGS\n{row}",
            ),
        ):
            _put(self._answers / name, text)


def _put(path: Path, text: str) -> None:
    """Replace a file whole, and only if that changes it: a program may be reading."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{id(text)}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def make_phone(root: Path, *, python: str, **changes: Any) -> None:
    """Lay out a phone under `root`, an empty folder of a short and plain name."""
    (root / "data" / "local" / "tmp").mkdir(parents=True)
    (root / "sdcard").mkdir()
    (root / "answers" / "properties").mkdir(parents=True)
    make_tree(root / "tree")
    State(root).create(changes)
    binaries = root / "bin"
    binaries.mkdir()
    tool = Path(__file__).with_name("fakephone_tool.py")
    head = "".join(
        f"{name}={shlex.quote(str(value))}\n"
        for name, value in (("A", root / "answers"), ("R", root), ("P", python), ("H", tool))
    )
    for name, script in _TOOLS.items():
        path = binaries / name
        path.write_text(f"#!/bin/sh\n{head}{script}\n", encoding="utf-8")
        path.chmod(0o755)
    toybox = which("toybox")
    if toybox is not None:  # what Android's own commands are
        import subprocess

        listed = subprocess.run([toybox], capture_output=True, text=True, check=True).stdout
        for name in set(listed.split()) - _NOT_TOYBOX:
            (binaries / name).symlink_to(toybox)
    assert stat.S_ISDIR(root.stat().st_mode)
