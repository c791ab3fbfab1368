"""ONNX Runtime for the fake phone: the library out of the aarch64 wheel on PyPI, kept in a cache.

It is the version that this machine runs, so that both compute the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import onnxruntime
from filelock import FileLock

PLATFORM = "manylinux_2_28_aarch64"
_ATTEMPTS = 3


def arm_library() -> Path:
    """`libonnxruntime.so` for 64-bit ARM, downloaded the first time with pip's own settings.

    Raises:
        subprocess.SubprocessError: If pip could not download it, three times over.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phonesearch-tests"
    library = cache / onnxruntime.__version__ / "libonnxruntime.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(library.with_suffix(".lock")):
        if not library.is_file():
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    _download(library)
                    break
                except (subprocess.SubprocessError, zipfile.BadZipFile):
                    if attempt == _ATTEMPTS:
                        raise
                    time.sleep(5 * attempt)
    return library


def _download(library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--only-binary=:all:"),
                *("--platform", PLATFORM, "--python-version", python, "--dest", folder),
                f"onnxruntime=={onnxruntime.__version__}",
            ],
            check=True,
            timeout=80,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            (name,) = [name for name in packed.namelist() if "/libonnxruntime.so." in name]
            (Path(folder) / "whole").write_bytes(packed.read(name))
        (Path(folder) / "whole").replace(library)
