"""What tests of a phone in use share."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import onnxruntime
from fakephone_rig import FakePhone, wait_until

from phonesearch.phone.adb import REMOTE_FOLDER, Adb
from phonesearch.phone.runtime import RuntimeLibrary

OTHER = {"ro.serialno": "FAKE0666", "ro.product.model": "Other Phone 6"}
"""Properties of another phone."""


def runtime_library(path: Path) -> RuntimeLibrary:
    """A library as if it had been set up."""
    content = path.read_bytes()
    return RuntimeLibrary(
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        version=onnxruntime.__version__,
        api_level=24,
        source="a wheel",
        source_sha256="",
        warnings=(),
    )


def phone_adb(phone: FakePhone) -> Adb:
    """The client of the test, for this phone."""
    return Adb.find().choose(phone.serial)


def models(phone: FakePhone) -> list[str]:
    """Folders of models that lie on it."""
    folder = phone.place(f"{REMOTE_FOLDER}/models")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def replug_when_lost(phone: FakePhone, *, after_s: float = 0.0, **changes: object) -> None:
    """Plug it in again once its cable was lost, changed meanwhile; this returns at once."""

    def replug() -> None:
        wait_until(lambda: phone.state.read()["cable"] == "lost", 30)
        threading.Event().wait(after_s)
        if changes:
            phone.state.update(**changes)
        phone.state.update(cable="ok")

    threading.Thread(target=replug, daemon=True).start()
