"""Takes `libonnxruntime.so` out of whatever it is wrapped in, in memory and within limits."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from phonesearch.errors import RuntimeLibraryError
from phonesearch.units import MIB, format_bytes

_LIBRARY: Final = "jni/arm64-v8a/libonnxruntime.so"
_NESTED: Final = "onnxruntime.aar"
_MOST_BYTES: Final = 512 * MIB
"""Of a file taken out; the library has 31 MB."""
_MOST_SOURCE_BYTES: Final = 2048 * MIB
_DAMAGE: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, OSError, UnicodeDecodeError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A library, and the way it came."""

    content: bytes
    member: str
    """Its path in the file given, as `Plugins/Android/onnxruntime.aar/jni/...`."""
    source_sha256: str


def unpack_library(source: Path) -> Unpacked:
    """The library for arm64-v8a in an AAR, in a NuGet or npm package with one, or by itself.

    Args:
        source: Told apart by their first bytes, not by their names.

    Raises:
        RuntimeLibraryError: If it cannot be read, is damaged or too large, or has none.
    """
    try:
        size = source.stat().st_size
        content = source.read_bytes() if size <= _MOST_SOURCE_BYTES else b""
    except OSError as error:
        raise RuntimeLibraryError(f"{source} cannot be read: {error.strerror}.") from error
    if size > _MOST_SOURCE_BYTES:
        raise RuntimeLibraryError(f"{source} has {format_bytes(size)}, too many for an AAR.")
    try:
        found, member = _library(content, source.name)
    except _DAMAGE as error:
        raise RuntimeLibraryError(
            f"{source} is cut off or damaged ({error}). Download it again."
        ) from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile's: method, password
        raise RuntimeLibraryError(f"{source} cannot be unpacked: {error}.") from error
    return Unpacked(
        content=found,
        member=member,
        source_sha256=hashlib.sha256(content).hexdigest(),
    )


def _library(content: bytes, name: str) -> tuple[bytes, str]:
    if content[:4] == b"\x7fELF":
        return content, name
    if content[:2] == b"PK":
        return _from_zip(content, name)
    if content[:2] == b"\x1f\x8b":
        return _from_tarball(content, name)
    raise RuntimeLibraryError(
        f"{name} is neither an AAR, nor a package with one in it, nor a library. A web page that "
        "was saved instead of the file looks so too: download it again."
    )


def _from_zip(content: bytes, name: str, *, may_nest: bool = True) -> tuple[bytes, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.namelist()
        if _LIBRARY in members:
            return _member(archive, _LIBRARY), _LIBRARY
        nested = [member for member in members if PurePosixPath(member).name == _NESTED]
        if nested and may_nest:
            inner = _member(archive, nested[0])
            found, member = _from_zip(inner, nested[0], may_nest=False)
            return found, f"{nested[0]}/{member}"
    abis = sorted({member.split("/")[1] for member in members if member.startswith("jni/")} - {""})
    has = f"it has {', '.join(abis)} alone" if abis else "it has no folder jni"
    raise RuntimeLibraryError(
        f"There is no {_LIBRARY} in {name}: {has}. Give the AAR onnxruntime-android, whole."
    )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > _MOST_BYTES:
        raise RuntimeLibraryError(
            f"{name} would take {format_bytes(info.file_size)}, too many for what it should be."
        )
    return archive.read(info)


def _from_tarball(content: bytes, name: str) -> tuple[bytes, str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if member.isfile() and path.name in (_NESTED, PurePosixPath(_LIBRARY).name):
                if path.name != _NESTED and "arm64-v8a" not in path.parts:
                    continue
                if member.size > _MOST_BYTES:
                    raise RuntimeLibraryError(
                        f"{path} would take {format_bytes(member.size)}, too many for what it "
                        "should be."
                    )
                stream = archive.extractfile(member)
                assert stream is not None
                found, inner = _library(stream.read(), path.name)
                return found, str(path) if inner == path.name else f"{path}/{inner}"
    raise RuntimeLibraryError(
        f"There is no {_NESTED} in {name}. The npm package that has one is "
        "com.github.asus4.onnxruntime."
    )
