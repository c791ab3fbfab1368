"""The fake phone from a test's side: started, changed, unplugged, and reached with a real adb."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakephone_state import State, make_phone
from fakephone_tool import processes

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class FakePhone:
    """A phone that is served."""

    root: Path
    port: int

    @property
    def serial(self) -> str:
        """As adb lists it."""
        return f"127.0.0.1:{self.port}"

    @property
    def state(self) -> State:
        """What it says of itself."""
        return State(self.root)

    def update(self, **changes: Any) -> None:
        """Change its state, effective when this returns for all but the cable (20 ms later)."""
        self.state.update(**changes)
        self.state.render()

    def lose_cable(self) -> None:
        """Unplug it."""
        self.update(cable="lost")

    def replug(self) -> None:
        """Plug it in again; adb finds it within half a second or so."""
        self.update(cable="ok")

    def is_listening(self) -> bool:
        """Whether a cable would find it."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def place(self, path: str) -> Path:
        """Where a file under /data lies on this machine."""
        return self.root / path.lstrip("/")

    def processes(self) -> dict[int, str]:
        """Command lines of what runs on it, by process."""
        return processes(str(self.root))

    def calls(self) -> list[str]:
        """Commands that would have changed a setting."""
        path = self.root / "answers" / "calls"
        return path.read_text().splitlines() if path.is_file() else []

    def kill(self, pattern: str, number: int = signal.SIGKILL) -> int:
        """Signal what matches, as the low-memory killer does; how many were found."""
        found = [process for process, line in self.processes().items() if pattern in line]
        for process in found:
            os.kill(process, number)
        return len(found)


@contextmanager
def serve(**changes: Any) -> Iterator[FakePhone]:
    """A phone of its own process, with `changes` to the default state."""
    # A short and plain path: commands of the phone are rewritten to lead there.
    root = Path(tempfile.mkdtemp(prefix="fakephone-"))
    try:
        make_phone(root, python=sys.executable, **changes)
        server = subprocess.Popen(
            [sys.executable, str(FOLDER / "fakephone.py"), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield FakePhone(root=root, port=int(server.stdout.readline()))
        finally:
            server.stdin.close()
            server.wait(timeout=10)
            server.stdout.close()
            for number in processes(str(root)):
                os.kill(number, signal.SIGKILL)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class AdbServer:
    """A client and a server of its own, apart from those of whoever runs the tests."""

    program: str
    environment: Mapping[str, str]

    def __call__(
        self, *arguments: str, timeout_s: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the client."""
        return subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=stdin,
            check=False,
        )

    def connect(self, phone: FakePhone, *, state: str = "device") -> None:
        """Until the phone is listed in that state."""
        self("connect", phone.serial)
        self.wait_for(phone, state)

    def replug(self, phone: FakePhone) -> None:
        """Plug the phone in, and have adb notice at once, as it does with a cable: over TCP adb 29
        by itself looks again after 10 s only."""
        phone.replug()
        wait_until(phone.is_listening)
        self("disconnect", phone.serial)
        self.connect(phone)

    def wait_for(self, phone: FakePhone, state: str, *, timeout_s: float = 15) -> None:
        """Until the phone is listed in that state."""
        wait_until(lambda: f"{phone.serial}\t{state}\n" in self("devices").stdout, timeout_s)


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    """Poll a condition.

    Raises:
        TimeoutError: If it does not come true.
    """
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.02)


_ATTEMPTS = 3


@contextmanager
def adb_server(program: str, folder: Path) -> Iterator[AdbServer]:
    """Start a server on a free port, its keys in `folder`, and end it.

    Something else may take the port between the look and the start, so it is tried again.
    """
    for attempt in range(_ATTEMPTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            "ANDROID_ADB_SERVER_PORT": str(port),
            "HOME": str(folder),  # where adb keeps its keys; only the server needs them
            # adb 36 otherwise waits 3 s for cables, and might find a phone of yours
            "ADB_USB": "0",
        }
        adb = AdbServer(program, environment)
        started = adb("start-server")
        if started.returncode == 0:
            break
        assert attempt + 1 < _ATTEMPTS, started.stderr
    try:
        yield adb
    finally:
        adb("kill-server")
