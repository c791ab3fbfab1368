"""What a run ran on: versions of everything that can move a number."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from phonesearch import __version__

_PACKAGES = ("numpy", "onnx", "onnxruntime", "optuna", "tokenizers", "torch")


def environment() -> dict[str, str]:
    """Versions and machine of this process, as plain text by name."""
    found = {"phonesearch": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = metadata.version(package)
    found["platform"] = platform.platform()
    found["processor"] = _processor()
    return found


def _processor() -> str:
    """Name of the CPU; Linux tells it only in /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
