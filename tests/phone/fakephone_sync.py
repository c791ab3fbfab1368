"""The sync service: what `adb push` and `adb pull` speak."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from fakephone_arm import is_program, original, wrap
from fakephone_stream import Stream

if TYPE_CHECKING:
    from fakephone import Phone

DATA = 64 * 1024
WRITABLE = ("/data/local/tmp", "/sdcard")


def run_sync(stream: Stream, phone: Phone) -> None:
    """Answer requests until QUIT."""
    while True:
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"QUIT":
            return
        path = stream.read(length).decode()
        if name in (b"STAT", b"STA2", b"LST2"):
            stream.write(_status(name, _place(phone, path), follow=name == b"STA2"))
        elif name in (b"LIST", b"LIS2"):
            _list(stream, name, _place(phone, path))
        elif name == b"RECV":
            _receive(stream, phone, path)
        elif name == b"SEND":
            path, _, mode = path.rpartition(",")
            _send(stream, phone, path, int(mode))
        else:
            _fail(stream, f"unknown command {name!r}")


def _place(phone: Phone, path: str) -> Path:
    """Where a path of the phone lies here; `..` does not lead out."""
    absolute = os.path.normpath("/" + path.lstrip("/"))
    top = "" if absolute.startswith(("/data", "/sdcard")) else "tree"
    return phone.root / top / absolute.lstrip("/")


def _fail(stream: Stream, message: str) -> None:
    content = message.encode()
    stream.write(struct.pack("<4sI", b"FAIL", len(content)) + content)


def _fields(path: Path, *, follow: bool) -> tuple[int, ...]:
    """Error, dev, ino, mode, nlink, uid, gid, size, atime, mtime, ctime."""
    try:
        found = path.stat() if follow else path.lstat()
    except OSError as error:
        return (error.errno or errno.EIO, *[0] * 10)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    owner = (2000, 2000)  # the shell user
    size = len(original(path)) if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111 else None
    return (
        *(0, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, *owner),
        *(found.st_size if size is None else size, *times),
    )


def _status(name: bytes, path: Path, *, follow: bool) -> bytes:
    fields = _fields(path, follow=follow)
    if name == b"STAT":
        return struct.pack("<4sIII", name, fields[3], fields[7] & 0xFFFFFFFF, fields[9])
    return struct.pack("<4sIQQIIIIQqqq", name, *fields)


def _list(stream: Stream, name: bytes, folder: Path) -> None:
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        fields = _fields(entry, follow=False)
        text = entry.name.encode()
        if name == b"LIST":
            head = struct.pack("<4sIII", b"DENT", fields[3], fields[7], fields[9])
        else:
            head = struct.pack("<4sIQQIIIIQqqq", b"DNT2", *fields)
        stream.write(head + struct.pack("<I", len(text)) + text)
    stream.write(b"DONE" + bytes(16 if name == b"LIST" else 72))


def _receive(stream: Stream, phone: Phone, path: str) -> None:
    place = _place(phone, path)
    try:
        content = original(place)
    except OSError as error:
        _fail(stream, f"open failed: {os.strerror(error.errno or errno.EIO)}")
        return
    for start in range(0, len(content), DATA):
        piece = content[start : start + DATA]
        stream.write(struct.pack("<4sI", b"DATA", len(piece)) + piece)
    stream.write(struct.pack("<4sI", b"DONE", 0))


def _send(stream: Stream, phone: Phone, path: str, mode: int) -> None:
    place = _place(phone, path)
    absolute = os.path.normpath("/" + path.lstrip("/"))
    problem = None
    if not absolute.startswith(WRITABLE):
        problem = f"couldn't create file: {os.strerror(errno.EACCES)}"
    elif place.is_dir():
        problem = f"couldn't create file: {os.strerror(errno.EISDIR)}"
    free = phone.state.free_bytes()
    disk = phone.state.read()["disk_bytes"]
    content = bytearray()
    total = 0
    while True:
        name, length = struct.unpack("<4sI", stream.read(8))
        if name != b"DATA":
            break
        piece = stream.read(length)
        total += length
        state = phone.state.read()
        lost_at = state["faults"]["lose_push_after_bytes"]
        if lost_at is not None and total >= lost_at:
            if state["faults"]["keep_partial"] and problem is None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            phone.lose(lose_push_after_bytes=None)
        if problem is None and total > free + state["disk_bytes"] - disk:
            problem = f"write failed: {os.strerror(errno.ENOSPC)}"
        if problem is None:  # after a failure go on reading, as adbd does
            content += piece
    if problem is not None:
        _fail(stream, problem)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if is_program(content):
        content = bytearray(wrap(phone.root, bytes(content)))
    place.write_bytes(content)
    place.chmod(stat.S_IMODE(mode) or 0o644)
    os.utime(place, (length, length))  # DONE carries the time
    stream.write(struct.pack("<4sI", b"OKAY", 0))
