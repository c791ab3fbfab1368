"""Reads the few facts that we need of a shared library for a phone: no dependency, 64 bits only.

Source: the Executable and Linking Format as in glibc's `elf.h`, and the note of Android's NDK,
`.note.android.ident`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

_MACHINES: Final = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
_SHT_STRTAB, _SHT_NOTE, _SHT_DYNSYM = 3, 7, 11
_SHT_VERDEF: Final = 0x6FFFFFFD
_PT_LOAD: Final = 1
_VERSION_NAME: Final = re.compile(rb"VERS_(\d+\.\d+\.\d+)\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """Facts of a library."""

    machine: str
    exported: frozenset[str]
    """Names of the functions and data that it gives to others."""
    alignment_bytes: int
    """Smallest of its segments; phones with 16 KiB pages load no less."""
    api_level: int | None
    """Of Android that it was built for; None when it was not built for Android."""
    symbol_version: str | None
    """`1.29.0`, if its symbols carry `VERS_1.29.0`."""


def read_elf(content: bytes) -> Elf:
    """The facts of a library.

    Args:
        content: The whole file.

    Raises:
        ValueError: If it is no 64-bit little-endian ELF file, or is cut off or damaged.
    """
    if content[:4] != b"\x7fELF":
        raise ValueError("it is no ELF library")
    if content[4:6] != b"\x02\x01":
        raise ValueError("it is a 32-bit or big-endian library")
    try:
        return _read(content)
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError("it is cut off or damaged") from error


def _read(content: bytes) -> Elf:
    header = struct.unpack_from("<16xHHIQQQIHHHHHH", content)
    machine, program_offset, section_offset = header[1], header[4], header[5]
    program_size, num_programs, section_size, num_sections = header[8:12]
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", content, section_offset + section_size * number)
        for number in range(num_sections)
    ]
    if not sections or section_offset == 0:
        raise ValueError("its section table was removed, so it cannot be checked")
    exported: set[str] = set()
    api_level = None
    version = None
    for section in sections:
        kind, offset, size, link = section[1], section[4], section[5], section[6]
        if kind == _SHT_DYNSYM:
            strings = sections[link]
            exported |= _exported(content, offset, size, strings[4], strings[5])
        elif kind == _SHT_NOTE:
            api_level = _android_level(_slice(content, offset, size)) or api_level
        elif kind == _SHT_VERDEF:
            strings = sections[link]
            match = _VERSION_NAME.search(_slice(content, strings[4], strings[5]))
            version = match[1].decode("ascii") if match else version
    alignments = [
        alignment
        for number in range(num_programs)
        for kind, alignment in [
            struct.unpack_from("<I44xQ", content, program_offset + program_size * number)
        ]
        if kind == _PT_LOAD
    ]
    return Elf(
        machine=_MACHINES.get(machine, f"machine {machine}"),
        exported=frozenset(exported),
        alignment_bytes=min(alignments, default=0),
        api_level=api_level,
        symbol_version=version,
    )


def _slice(content: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(content):
        raise IndexError
    return content[offset : offset + size]


def _exported(
    content: bytes, offset: int, size: int, strings_at: int, num_strings: int
) -> set[str]:
    symbols = _slice(content, offset, size - size % 24)
    strings = _slice(content, strings_at, num_strings)
    names = set()
    for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", symbols):
        if section and info >> 4 in (1, 2):  # defined here, and global or weak
            names.add(strings[name:].split(b"\x00", 1)[0].decode("utf-8"))
    return names


def _android_level(notes: bytes) -> int | None:
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        name_at = position + 12
        at = name_at + (name_size + 3) // 4 * 4
        if kind == 1 and notes[name_at : name_at + name_size] == b"Android\x00":
            level: int = struct.unpack_from("<I", notes, at)[0]
            return level
        position = at + (size + 3) // 4 * 4
    return None
