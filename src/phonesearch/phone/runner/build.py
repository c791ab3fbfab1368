"""Builds the runner for Android without an NDK: `python -m phonesearch.phone.runner.build`.

Needs the PyPI package `ziglang` in the version below, a developer's tool: the built runner lies in
the repository and in the wheel. The same sources give the same bytes, in any folder; a test holds
the shipped file against a fresh build.

Zig brings a compiler and a linker for the target, but no Android headers or libraries. So the
sources declare what they call (`system.h`), libraries with names and no code stand in for the
phone's when linking (`stub_libc.c`, `stub_libdl.c`), and `start_bionic.c` is the start code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from phonesearch.errors import PhoneSearchError
from phonesearch.phone.runner import RUNNER

ZIG_VERSION: Final = "0.17.1"
TARGET: Final = "aarch64-linux-android"
SOURCES: Final = Path(__file__).parent
CHECKSUM: Final = RUNNER.with_suffix(".sha256")

_COMPILE: Final = (
    *("-target", TARGET, "-nostdlib", "-O2", "-s"),
    *("-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-incompatible-library-redeclaration"),
)
_LINK: Final = (
    *("-fPIE", "-pie", "-Wl,--dynamic-linker=/system/bin/linker64"),
    *("-Wl,-z,max-page-size=16384", "-Wl,--hash-style=both"),
)


def zig_cc(arguments: Sequence[str], *, folder: Path) -> None:
    """Run Zig's C compiler in `folder`, its caches there too.

    Raises:
        PhoneSearchError: If `ziglang` is not installed in the version that the runner is built
            with, or the sources do not compile.
    """
    caches = {
        "ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(folder / "zig"),
    }
    zig = [sys.executable, "-m", "ziglang"]
    version = subprocess.run([*zig, "version"], capture_output=True, text=True, check=False)
    if version.stdout.strip() != ZIG_VERSION:
        found = version.stdout.strip() or "none"
        raise PhoneSearchError(
            f"The runner is built with ziglang {ZIG_VERSION}, found {found}. Install it with "
            f"`pip install ziglang=={ZIG_VERSION}`."
        )
    done = subprocess.run(
        [*zig, "cc", *arguments],
        cwd=folder,
        env=os.environ | caches,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PhoneSearchError(f"The C compiler failed:\n{done.stderr[-4000:]}")


def shared_library(source: str, soname: str, *, folder: Path, needed: Sequence[str] = ()) -> Path:
    """Compile the C file `source` in `folder` to a library of that name, linked to `needed`."""
    zig_cc(
        [*_COMPILE, "-shared", "-fPIC", source, *needed, f"-Wl,-soname,{soname}", "-o", soname],
        folder=folder,
    )
    return folder / soname


def build(target: Path) -> str:
    """Write the runner to `target`; its sha256 in hexadecimal.

    Raises:
        PhoneSearchError: See `zig_cc`.
    """
    with tempfile.TemporaryDirectory(prefix="phonesearch-runner-") as name:
        folder = Path(name)
        for source in (*SOURCES.glob("*.c"), *SOURCES.glob("*.h")):
            shutil.copy(source, folder)
        for library in ("libc", "libdl"):
            shared_library(f"stub_{library}.c", f"{library}.so", folder=folder)
        zig_cc(
            [
                *_COMPILE,
                *_LINK,
                "runner.c",
                "start_bionic.c",
                "libc.so",
                "libdl.so",
                "-o",
                "runner",
            ],
            folder=folder,
        )
        content = (folder / "runner").read_bytes()
    target.write_bytes(content)
    target.chmod(0o755)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Build the runner that ships, and note its checksum beside it."""
    checksum = build(RUNNER)
    CHECKSUM.write_text(f"{checksum}  {RUNNER.name}\n", encoding="ascii")
    sys.stdout.write(f"{RUNNER}: {RUNNER.stat().st_size:,} bytes, sha256 {checksum}\n")


if __name__ == "__main__":
    main()
