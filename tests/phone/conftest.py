"""A fake phone, a real adb and ONNX Runtime for ARM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from arm_runner import ArmRunner
from fakephone_rig import AdbServer, FakePhone, adb_server, serve
from fakephone_state import State
from fakephone_state import make_phone as lay_out_phone
from needs import lack, need


@pytest.fixture(scope="session")
def arm_library() -> Path:
    """`libonnxruntime.so` for 64-bit ARM, of the version that this machine runs."""
    from fakephone_library import arm_library as found

    try:
        return found()
    except (OSError, subprocess.SubprocessError) as error:
        lack(f"needs onnxruntime's wheel for ARM, which pip could not download: {error}")


@pytest.fixture(scope="session")
def _arm_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("qemu-aarch64-static", "arm", "ziglang")
    root = tmp_path_factory.mktemp("arm") / "root"
    lay_out_phone(root, python=sys.executable)
    return root


@pytest.fixture
def arm_runner(_arm_root: Path, arm_library: Path) -> ArmRunner:
    """The runner under qemu, without adb; on a machine in its default state."""
    State(_arm_root).create({})
    return ArmRunner(_arm_root, arm_library)


@pytest.fixture
def make_phone() -> Iterator[Callable[..., FakePhone]]:
    """Starts fake phones, with changes to the default state."""
    need("qemu-aarch64-static", "arm", "ziglang")
    with ExitStack() as phones:

        def make(**changes: Any) -> FakePhone:
            return phones.enter_context(serve(**changes))

        yield make


@pytest.fixture(scope="session", params=["debian", "adbutils"])
def adb_program(request: pytest.FixtureRequest) -> str:
    """The adb of Debian 12 (29.0.6), and that of the package adbutils (36)."""
    if request.param == "debian":
        need("adb")
        return shutil.which("adb") or ""
    need("adbutils")
    return _bundled_adb()


def _bundled_adb() -> str:
    import importlib.util

    found = importlib.util.find_spec("adbutils")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "binaries" / "adb")


@pytest.fixture
def adb(adb_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """A client with a server of its own; also for what runs `adb` by itself, through $ADB."""
    with adb_server(adb_program, tmp_path) as server:
        monkeypatch.setenv("ADB", adb_program)
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", server.environment["ANDROID_ADB_SERVER_PORT"])
        monkeypatch.delenv("ANDROID_SERIAL", raising=False)
        yield server


@pytest.fixture
def fake_phone(make_phone: Callable[..., FakePhone], adb: AdbServer) -> FakePhone:
    """One phone, connected."""
    phone = make_phone()
    adb.connect(phone)
    return phone
