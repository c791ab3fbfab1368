"""Libraries made by hand, in every wrapping that people can get them in."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from phonesearch.errors import RuntimeLibraryError
from phonesearch.phone.device import read_answers
from phonesearch.phone.elf import read_elf
from phonesearch.phone.runtime import (
    CHECKED,
    installed,
    is_broken_by_sme,
    runtime_hazards,
    set_up,
    set_up_from_npm,
)

MEMBER = "jni/arm64-v8a/libonnxruntime.so"


def library(
    *,
    machine: int = 183,
    symbols: tuple[str, ...] = ("OrtGetApiBase",),
    version: str | None = "1.29.0",
    api_level: int | None = 24,
    alignment: int = 16384,
    is_defined: bool = True,
) -> bytes:
    """An ELF file with one segment and the sections that we read."""
    strings = b"\0"
    table = bytes(24)
    for symbol in symbols:
        table += struct.pack("<IBBHQQ", len(strings), 0x12, 0, int(is_defined), 0x1000, 8)
        strings += symbol.encode() + b"\0"
    if version is not None:
        strings += f"VERS_{version}".encode() + b"\0"
    note = b""
    if api_level is not None:
        note = struct.pack("<III", 8, 132, 1) + b"Android\0" + struct.pack("<I128x", api_level)
    versions = bytes(20) if version is not None else b""
    start = 64 + 56
    offsets = []
    body = b""
    for part in (strings, table, note, versions):
        offsets.append(start + len(body))
        body += part
    sections = bytes(64)
    for kind, offset, part, link in (
        (3, offsets[0], strings, 0),
        (11, offsets[1], table, 1),
        (7, offsets[2], note, 0),
        (0x6FFFFFFD, offsets[3], versions, 1),
    ):
        if part:
            sections += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, len(part), link, 0, 8, 0)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH",
        *(3, machine, 1, 0, 64, start + len(body), 0),
        *(64, 56, 1, 64, len(sections) // 64, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, alignment)
    return header + segment + body + sections


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_v8a", "-v8a"), content)
    return stream.getvalue()


def aar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AndroidManifest.xml", "<manifest/>")
        archive.writestr("jni/x86_64/libonnxruntime.so", b"other")
        archive.writestr(MEMBER, content)
    return stream.getvalue()


def tarball(**members: bytes) -> bytes:
    stream = io.BytesIO()
    # Without the time of writing, which would be part of a test's name.
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_aar", ".aar"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


GOOD = library()
WRAPPED = {
    "onnxruntime-android-1.29.0.aar": aar(GOOD),
    "libonnxruntime.so": GOOD,
    "package.tgz": tarball(package__Plugins__Android__onnxruntime_aar=aar(GOOD)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_every_wrapping_gives_the_same_library(tmp_path: Path, name: str) -> None:
    found = set_up(written(tmp_path, name, WRAPPED[name]), cache=tmp_path / "cache")
    assert found.sha256 == hashlib.sha256(GOOD).hexdigest()
    assert Path(found.path).read_bytes() == GOOD
    assert (found.version, found.api_level, found.source) == ("1.29.0", 24, name)
    assert found.source_sha256 == hashlib.sha256(WRAPPED[name]).hexdigest()
    assert installed(tmp_path / "cache") == found


def test_a_nuget_package_holds_an_aar(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("runtimes/android/native/onnxruntime.aar", aar(GOOD))
    found = set_up(written(tmp_path, "x.nupkg", stream.getvalue()), cache=tmp_path / "cache")
    assert found.version == "1.29.0"


def test_one_that_we_have_not_run_is_taken_and_says_so(tmp_path: Path) -> None:
    found = set_up(written(tmp_path, "x.aar", aar(GOOD)), cache=tmp_path)
    assert not found.is_checked
    assert "not one that we have run" in found.warnings[0]


def test_the_last_one_set_up_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    set_up(written(tmp_path, "a.so", library(version="1.28.0")), cache=cache)
    set_up(written(tmp_path, "b.so", GOOD), cache=cache)
    assert installed(cache).version == "1.29.0"
    set_up(written(tmp_path, "a.so", library(version="1.28.0")), cache=cache)
    assert installed(cache).version == "1.28.0"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        *(("1.23.0", True), ("1.23.2", True), ("1.24.0", True), ("1.24.3", True)),
        *(("1.22.0", False), ("1.24.4", False), ("1.29.0", False), (None, False)),
    ],
)
def test_versions_that_die_on_a_new_chip_are_known(version: str | None, expected: bool) -> None:
    assert is_broken_by_sme(version) is expected


def test_they_are_refused_there_and_warned_of_elsewhere(tmp_path: Path) -> None:
    found = set_up(written(tmp_path, "a.so", library(version="1.23.2")), cache=tmp_path)
    assert any("SIGILL" in warning for warning in found.warnings)

    def severities(soc: str, api_level: int = 36) -> dict[str, str]:
        text = f"ro.soc.model={soc}\nro.build.version.sdk={api_level}\n"
        identity = read_answers({"properties": text}, serial="x").identity
        return {hazard.name: hazard.severity for hazard in runtime_hazards(found, identity)}

    assert severities("SM8850")["runtime-sigill"] == "refuse"
    assert severities("SM8650") == {"runtime": "warn"}
    assert severities("SM8650", api_level=23)["runtime-api"] == "refuse"


def test_a_library_of_small_pages_is_warned_of(tmp_path: Path) -> None:
    found = set_up(written(tmp_path, "a.so", library(alignment=4096)), cache=tmp_path)
    assert any("16 KiB" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (library(machine=62), "is for x86-64 and phones need aarch64"),
        (library(symbols=("JNI_OnLoad",)), "does not export OrtGetApiBase"),
        (library(is_defined=False), "does not export OrtGetApiBase"),
        (library(api_level=None), "was not built for Android"),
        (GOOD[:200], "cut off or damaged"),
        (GOOD[:-1], "cut off or damaged"),
        (b"\x7fELF\x01\x01" + bytes(100), "32-bit"),
        (b"<!DOCTYPE html>", "web page"),
        (b"", "neither an AAR"),
        (aar(GOOD)[:-30], "cut off or damaged"),
        (aar(GOOD)[:200] + b"\xff" * 40 + aar(GOOD)[240:], "cut off or damaged"),
        (WRAPPED["package.tgz"][:60], "cut off or damaged"),
        (zipped(jni__x86_64__libonnxruntime=b"x"), "it has x86_64 alone"),
        (zipped(classes=b"x"), "it has no folder jni"),
        (tarball(package__readme=b"x"), r"no onnxruntime\.aar"),
        (tarball(package__onnxruntime_aar=b"<html>"), "neither an AAR"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(RuntimeLibraryError, match=message):
        set_up(written(tmp_path, "given", content), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_no_cut_of_a_library_is_a_traceback() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ValueError, match=r"^it is"):
            read_elf(GOOD[:length])


def test_no_changed_byte_of_a_library_is_a_traceback() -> None:
    for position in range(len(GOOD)):
        for value in (0, 0xFF):
            with contextlib.suppress(ValueError):
                read_elf(GOOD[:position] + bytes([value]) + GOOD[position + 1 :])


def test_a_member_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonesearch.phone.unpack._MOST_BYTES", 100)
    for name in ("onnxruntime-android-1.29.0.aar", "package.tgz"):
        with pytest.raises(RuntimeLibraryError, match="too many for what it should be"):
            set_up(written(tmp_path, name, WRAPPED[name]), cache=tmp_path / "cache")


def test_a_package_within_packages_ends(tmp_path: Path) -> None:
    inner = aar(GOOD)
    for _ in range(3):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("onnxruntime.aar", inner)
        inner = stream.getvalue()
    with pytest.raises(RuntimeLibraryError, match="no folder jni"):
        set_up(written(tmp_path, "x.aar", inner), cache=tmp_path / "cache")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match=r"none\.aar cannot be read"):
        set_up(tmp_path / "none.aar", cache=tmp_path)


def test_none_set_up_says_how(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match="phone setup --from-npm"):
        installed(tmp_path)


@pytest.mark.parametrize("harm", ["library", "record", "current"])
def test_a_damaged_cache_says_so(tmp_path: Path, harm: str) -> None:
    found = set_up(written(tmp_path, "a.so", GOOD), cache=tmp_path / "cache")
    path = {
        "library": Path(found.path),
        "record": Path(found.path).parent / "library.json",
        "current": tmp_path / "cache" / "onnxruntime-android" / "current.json",
    }[harm]
    path.write_bytes(b"{}")
    with pytest.raises(RuntimeLibraryError, match="phone setup` again"):
        installed(tmp_path / "cache")


def test_a_moved_cache_still_works(tmp_path: Path) -> None:
    set_up(written(tmp_path, "a.so", GOOD), cache=tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert str(tmp_path / "moved") in installed(tmp_path / "moved").path


def stub_npm(folder: Path, script: str) -> str:
    path = folder / "npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_npm_is_asked_for_the_pinned_package(tmp_path: Path) -> None:
    written(tmp_path, "source.tgz", WRAPPED["package.tgz"])
    npm = stub_npm(
        tmp_path, f"echo \"$@\" > '{tmp_path}/asked'; cp '{tmp_path}/source.tgz' got-0.4.9.tgz"
    )
    found = set_up_from_npm(cache=tmp_path / "cache", npm=npm)
    assert found.source == "got-0.4.9.tgz"
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["pack", "--ignore-scripts", "com.github.asus4.onnxruntime@0.4.9"]


def test_npm_that_fails_is_quoted(tmp_path: Path) -> None:
    npm = stub_npm(tmp_path, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(RuntimeLibraryError, match="npm said: npm error code ENOTFOUND"):
        set_up_from_npm(cache=tmp_path / "cache", npm=npm)


def test_without_npm_the_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match=r"Download https://registry\.npmjs\.org"):
        set_up_from_npm(cache=tmp_path, npm=str(tmp_path / "no-npm"))


def test_a_record_is_plain_json(tmp_path: Path) -> None:
    found = set_up(written(tmp_path, "a.so", GOOD), cache=tmp_path)
    record = json.loads((Path(found.path).parent / "library.json").read_text())
    assert record["version"] == "1.29.0"


@pytest.mark.network
def test_the_package_of_npm_holds_the_library_that_we_have_run(tmp_path: Path) -> None:
    found = set_up_from_npm(cache=tmp_path)
    assert found.sha256 in CHECKED
    assert (found.version, found.api_level, found.warnings) == ("1.29.0", 24, ())
