"""ARM programs on the fake phone: in their place lies a script that has qemu run them.

The script is as long as the program and carries its sha256, so that sizes and sums that the phone
tells are those of the program; pulling gives the program back.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

_ARM64 = 183
_INTERPRETER = 3
_MARK = b"#!/bin/sh\n# fakephone "


def is_program(content: bytes | bytearray) -> bool:
    """Whether it is an ARM executable and not a library: one that names its linker."""
    if content[:6] != b"\x7fELF\x02\x01" or len(content) < 64:
        return False
    if struct.unpack_from("<H", content, 18) != (_ARM64,):
        return False
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    starts = (start + place * size for place in range(count))
    return any(content[at : at + 4] == struct.pack("<I", _INTERPRETER) for at in starts)


def wrap(root: Path, content: bytes) -> bytes:
    """The script for a program, which is kept under `root`."""
    checksum = hashlib.sha256(content).hexdigest()
    kept = root / "programs" / checksum
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(content)
    kept.chmod(0o755)
    script = (
        _MARK
        + (
            f"{checksum} {kept}\n"
            f'exec qemu-aarch64-static -cpu "$(cat {root}/answers/qemu_cpu)" -L {root}/tree '
            '-E "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/system/lib64" '
            f'-0 "$0" {kept} "$@"\n'
        ).encode()
    )
    return script + b"#" * (len(content) - len(script))


def original(path: Path) -> bytes:
    """What was pushed as `path`."""
    content = path.read_bytes()
    if not content.startswith(_MARK):
        return content
    return Path(content.split(b"\n", 2)[1].split()[-1].decode()).read_bytes()
