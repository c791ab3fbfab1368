"""ONNX Runtime for the fake phone: the library out of the aarch64 wheel on PyPI, kept in a cache.

It is the version that this machine runs, so that both compute the same.
"""

from __future__ import annotations

import os
import struct
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


def as_android(content: bytes) -> bytes:
    """The library with the mark by which one built for Android is told, API level 24.

    It stays one for glibc, which the fake phone has. The mark is a section of its own behind the
    file, and so is the table of sections; programs are loaded without looking at either.
    """
    note = struct.pack("<III", 8, 132, 1) + b"Android\0" + struct.pack("<I128x", 24)
    table_at = struct.unpack_from("<Q", content, 40)[0]
    size, count = struct.unpack_from("<HH", content, 58)
    table = content[table_at : table_at + size * count]
    note_at = len(content) + -len(content) % 8
    section = struct.pack("<IIQQQQIIQQ", 0, 7, 0, 0, note_at, len(note), 0, 0, 4, 0)
    changed = bytearray(content.ljust(note_at, b"\0") + note)
    changed += bytes(-len(changed) % 8)
    struct.pack_into("<Q", changed, 40, len(changed))
    struct.pack_into("<H", changed, 60, count + 1)
    return bytes(changed) + table + section


def write_aar(library: Path, aar: Path) -> None:
    """An AAR as Microsoft's is laid out, around a library for the fake phone."""
    with zipfile.ZipFile(aar, "w") as archive:
        archive.writestr("AndroidManifest.xml", "<manifest/>")
        archive.writestr("jni/x86_64/libonnxruntime.so", b"another")
        archive.writestr("jni/arm64-v8a/libonnxruntime.so", as_android(library.read_bytes()))
