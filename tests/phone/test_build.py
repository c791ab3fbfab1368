"""The runner that ships is the one that its sources give."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from needs import need

from phonesearch.errors import PhoneSearchError
from phonesearch.phone.runner import RUNNER
from phonesearch.phone.runner import build as building
from phonesearch.phone.runner.build import CHECKSUM, build

ARM64 = 183
INTERPRETER = 3


def test_a_fresh_build_has_the_bytes_of_the_shipped_runner(tmp_path: Path) -> None:
    need("ziglang")
    checksum = build(tmp_path / "runner")
    assert (tmp_path / "runner").read_bytes() == RUNNER.read_bytes()
    assert hashlib.sha256(RUNNER.read_bytes()).hexdigest() == checksum


def test_the_noted_checksum_is_that_of_the_shipped_runner() -> None:
    checksum = hashlib.sha256(RUNNER.read_bytes()).hexdigest()
    assert CHECKSUM.read_text(encoding="ascii") == f"{checksum}  runner\n"


def test_the_runner_is_a_program_for_android_on_64_bit_arm() -> None:
    content = RUNNER.read_bytes()
    assert content[:6] == b"\x7fELF\x02\x01"
    kind, machine = struct.unpack_from("<HH", content, 16)
    assert (kind, machine) == (3, ARM64), "position-independent, as Android demands"
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    for place in range(count):
        kind, _, offset, _, _, length, _, alignment = struct.unpack_from(
            "<IIQQQQQQ", content, start + place * size
        )
        if kind == INTERPRETER:
            assert content[offset : offset + length] == b"/system/bin/linker64\0"
        if kind == 1:
            assert alignment == 16384, "phones with pages of 16 KiB refuse less"
    assert content.count(b"libc.so\0") == 1
    assert b"GLIBC" not in content


def test_another_zig_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "ZIG_VERSION", "0.0.1")
    with pytest.raises(PhoneSearchError, match=r"ziglang 0\.0\.1, found"):
        build(tmp_path / "runner")
    assert not (tmp_path / "runner").exists()
