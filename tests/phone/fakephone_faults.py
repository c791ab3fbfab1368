"""What can happen to a phone while it is measured, done to a fake one on purpose.

Each fault is a function that strikes now and says whether it could: a runner that has not started
cannot be killed, so callers ask again. `Bench.mend` undoes all of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fakephone_rig import AdbServer, FakePhone, wait_until

FOLDER = "/data/local/tmp/phonesearch"
SWAPPED = {
    "ro.serialno": "FAKE0666",
    "ro.product.model": "Other Phone 6",
    "ro.build.fingerprint": "othermaker/other/other:14/OTHER.1/1:user/release-keys",
}


@dataclass(frozen=True)
class Bench:
    """A phone on a cable, the adb it is reached by, and another phone on the table."""

    phone: FakePhone
    adb: AdbServer
    other: FakePhone
    draw: random.Random

    def lose_cable(self) -> bool:
        """Pull it. Half the time adb forgets the phone, as with USB; else it lists it as offline,
        as with a phone that hangs."""
        self.phone.lose_cable()
        if self.draw.random() < 0.5:
            self.adb("disconnect", self.phone.serial)
        return True

    def arm_push(self, after_bytes: int) -> None:
        """Pull the cable once so many bytes of one file have arrived; half the time a piece of it
        stays behind, which real phones avoid when they can."""
        keep = self.draw.random() < 0.5
        self.phone.update(faults={"lose_push_after_bytes": after_bytes, "keep_partial": keep})

    def fill_disk(self) -> bool:
        """Leave a random few bytes on it."""
        state = self.phone.state
        used = state.read()["disk_bytes"] - state.free_bytes()
        self.phone.update(disk_bytes=used + self.draw.choice([0, 100, 10_000, 1_000_000]))
        return True

    def runners(self) -> list[int]:
        """Processes that measure."""
        return [
            number
            for number, line in self.phone.processes().items()
            if line.split(" ")[0].endswith("runner")
        ]

    def signal_runner(self, number: signal.Signals) -> bool:
        """SIGKILL is the low-memory killer; SIGSTOP the freezer that hits what is hidden."""
        found = self.runners()
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        return bool(found)

    def hang_runner(self) -> bool:
        """Let it wait for ever after its next stretch."""
        if not self.runners():
            return False
        self.phone.update(runner_fault="hang")
        return True

    def revoke(self) -> bool:
        """Take the authorisation back, which also cuts what is connected."""
        self.phone.update(authorised=False, cable="lost")
        wait_until(lambda: not self.phone.is_listening())
        self.phone.update(cable="ok")
        wait_until(self.phone.is_listening)
        self.adb("disconnect", self.phone.serial)
        self.adb("connect", self.phone.serial)
        return True

    def kill_server(self) -> bool:
        """As another program does that brings an adb of another version."""
        self.adb("kill-server")
        return True

    def swap(self, *, same_serial: bool) -> bool:
        """Another phone on the cable; nothing of ours is on it.

        Not before something of ours is on the first: a measurement that has not asked yet which
        phone it has, would be one of the other from its start, and right to be.
        """
        if not self.phone.place(FOLDER).is_dir():
            return False
        self.phone.lose_cable()
        if same_serial:
            wait_until(lambda: not self.phone.is_listening())
            self._become(SWAPPED)
            self.adb.replug(self.phone)
        else:
            self.adb("disconnect", self.phone.serial)
            self.adb.connect(self.other)
        return True

    def _become(self, properties: dict[str, str]) -> None:
        """The other phone, empty; or the first again, with the files that were on it."""
        for process in self.phone.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        files, kept = self.phone.place("/data/local/tmp"), self.phone.root / "first"
        if properties == SWAPPED:
            files.rename(kept)
            files.mkdir()
        else:
            shutil.rmtree(files)
            kept.rename(files)
        self.phone.update(properties=properties)

    def is_swapped(self) -> bool:
        """Whether the other phone answers by the serial of the first."""
        return bool(self.phone.state.read()["properties"]["ro.serialno"] == SWAPPED["ro.serialno"])

    def mend(self) -> None:
        """All is as before the faults, files and processes of ours excepted."""
        from fakephone_state import DEFAULT

        self.signal_runner(signal.SIGCONT)
        properties = {name: DEFAULT["properties"][name] for name in SWAPPED}
        self.phone.update(
            **{name: DEFAULT[name] for name in ("disk_bytes", "runner_fault", "faults")},
            authorised=True,
        )
        if self.is_swapped():
            self._become(properties)
        self.adb("disconnect", self.other.serial)
        self.adb.replug(self.phone)


FAULTS: dict[str, Callable[[Bench], bool]] = {
    "cable lost in push": lambda bench: bench.phone.state.read()["cable"] == "lost",
    "cable lost in run": Bench.lose_cable,
    "disk full": Bench.fill_disk,
    "runner killed": lambda bench: bench.signal_runner(signal.SIGKILL),
    "runner hangs": Bench.hang_runner,
    "runner frozen": lambda bench: bench.signal_runner(signal.SIGSTOP),
    "authorisation revoked": Bench.revoke,
    "adb server killed": Bench.kill_server,
    "other phone, same serial": lambda bench: bench.swap(same_serial=True),
    "other phone, other serial": lambda bench: bench.swap(same_serial=False),
}
"""By name. Before the first, `arm_push`; its strike is only noticed here."""


@dataclass
class Strike:
    """A fault at a moment, and its end a while later, beside whatever runs."""

    bench: Bench
    fault: Callable[[Bench], bool]
    at_s: float
    mend_after_s: float | None
    """None: it stays until `stop`."""
    struck_at_s: float | None = None
    """After the start; None until it struck."""
    error: BaseException | None = None
    """Of the rig itself."""

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Count from now."""
        self._thread.start()

    def stop(self) -> None:
        """What was measured is over, and the fault too."""
        self._ended.set()
        self._thread.join()
        if self.error is not None:
            raise self.error
        self.bench.mend()

    def _run(self) -> None:
        try:
            start = time.monotonic()
            if self._ended.wait(self.at_s):
                return
            while not self.fault(self.bench):
                if self._ended.wait(0.005):
                    return
            self.struck_at_s = time.monotonic() - start
            if self.mend_after_s is not None and not self._ended.wait(self.mend_after_s):
                self.bench.mend()
        except Exception as error:  # handed to `stop`
            self.error = error


def left_behind(phone: FakePhone, *, patience_s: float = 2.0) -> list[str]:
    """Files and processes on a phone that a clean one has not; processes that are just ending are
    given a moment."""
    files = [
        str(Path("/") / path.relative_to(phone.root))
        for top in ("data/local/tmp", "sdcard")
        for path in (phone.root / top).iterdir()
    ]
    with suppress(TimeoutError):
        wait_until(lambda: not phone.processes(), patience_s)
    return files + [f"process {line}" for line in phone.processes().values()]
