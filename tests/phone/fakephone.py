"""A phone without the phone: the device's side of adb's protocol, over TCP, for the real client.

    python fakephone.py ROOT

serves the phone whose files lie under ROOT (`fakephone_state.make_phone`) and prints its port.
Tests start it through `fakephone_rig.py`. What it does not imitate: SELinux, seccomp, cpusets'
schedulers, heat, USB. A cable that is pulled is a closed connection and a closed port.

Source of the protocol: AOSP, packages/modules/adb: protocol.txt, SERVICES.TXT, SYNC.TXT and what
two real clients (29.0.6 and 36.0.0) send.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fakephone_state import State
from fakephone_stream import Stream, StreamClosedError

CONNECT, AUTH, OPEN, OKAY, CLOSE, WRITE = (
    int.from_bytes(name, "little")
    for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
VERSION = 0x01000001
MAX_PAYLOAD = 1 << 20
FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
POLL_S = 0.02
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3


class Link:
    """One connection of an adb server to this phone."""

    def __init__(self, phone: Phone, connection: socket.socket) -> None:
        self.phone = phone
        self._socket = connection
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._number = 0

    def send(self, command: int, first: int, second: int, payload: bytes = b"") -> None:
        """One message; silently none if the connection is gone."""
        header = struct.pack(
            "<6I",
            *(command, first, second, len(payload), sum(payload) & 0xFFFFFFFF),
            command ^ 0xFFFFFFFF,
        )
        with self._sending, suppress(OSError):
            self._socket.sendall(header + payload)

    def close(self) -> None:
        """As if the cable was pulled."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def serve(self) -> None:
        """Answer until the connection goes."""
        try:
            while True:
                command, first, second, length, _, _ = struct.unpack("<6I", self._read(24))
                self._answer(command, first, second, self._read(length))
        except (OSError, EOFError):
            pass
        finally:
            self.phone.forget(self)
            self.close()
            for stream in list(self._streams.values()):
                stream.hang_up()

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._socket.recv(min(count, MAX_PAYLOAD))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _answer(self, command: int, first: int, second: int, payload: bytes) -> None:
        if command == CONNECT:
            if self.phone.state.read()["authorised"]:
                self._greet()
            else:
                self.send(AUTH, TOKEN, 0, bytes(20))
        elif command == AUTH and first == SIGNATURE:
            self.send(AUTH, TOKEN, 0, bytes(20))
        elif command == AUTH and first == PUBLIC_KEY:
            threading.Thread(target=self._await_consent, daemon=True).start()
        elif command == OPEN:
            self._number += 1
            stream = Stream(self._number, first, self._send_chunk)
            self._streams[stream.own] = stream
            service = payload.rstrip(b"\0").decode()
            threading.Thread(target=self._run, args=(stream, service), daemon=True).start()
        elif command == WRITE:
            if second in self._streams:
                self._streams[second].receive(payload)
        elif command == OKAY:
            if second in self._streams:
                self._streams[second].acknowledged()
        elif command == CLOSE:
            stream = self._streams.get(second)
            if stream is not None:
                stream.hang_up()

    def _send_chunk(self, kind: str, stream: Stream, payload: bytes) -> None:
        command = {"okay": OKAY, "write": WRITE, "close": CLOSE}[kind]
        self.send(command, stream.own, stream.other, payload)

    def _await_consent(self) -> None:
        """The dialog on the screen, until somebody accepts it."""
        while not self.phone.state.read()["authorised"]:
            time.sleep(POLL_S)
        self._greet()

    def _greet(self) -> None:
        properties = self.phone.state.read()["properties"]
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        banner = "".join(f"{name}={properties.get(name, '')};" for name in names)
        self.send(CONNECT, VERSION, MAX_PAYLOAD, f"device::{banner}features={FEATURES}".encode())

    def _run(self, stream: Stream, service: str) -> None:
        from fakephone_shell import run_shell
        from fakephone_sync import run_sync

        name, _, rest = service.partition(":")
        kind, *options = name.split(",")
        try:
            if kind == "sync":
                stream.accept()
                run_sync(stream, self.phone)
            elif kind in ("shell", "exec") and rest:
                stream.accept()
                run_shell(stream, self.phone, rest, packets="v2" in options)
            # Anything else is refused: a CLOSE without an OKAY before it.
        except StreamClosedError:
            pass
        finally:
            stream.close()
            self._streams.pop(stream.own, None)


class Phone:
    """Everything that all connections share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = State(root)
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0

    def forget(self, link: Link) -> None:
        """The connection is gone."""
        with self._lock:
            self._links.discard(link)

    def lose(self, **used_up: Any) -> None:
        """Pull the cable, as a fault of the state asks; the fault is used up."""
        replug_after_s = self.state.read()["faults"]["replug_after_s"]
        self.state.update(cable="lost", faults=used_up)
        self._unplug()
        if replug_after_s is not None:
            threading.Timer(replug_after_s, self.state.update, kwargs={"cable": "ok"}).start()

    def _unplug(self) -> None:
        with self._lock:
            links, listener, self._listener = list(self._links), self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        for link in links:
            link.close()

    def _plug_in(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()
        self._port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = Link(self, connection)
                with self._lock:
                    if self._listener is not listener:
                        connection.close()
                        return
                    self._links.add(link)
                threading.Thread(target=link.serve, daemon=True).start()

    def serve(self) -> None:
        """Until standard input ends, which it does with the test run."""
        self.state.render()
        self._plug_in()
        sys.stdout.write(f"{self._port}\n")
        sys.stdout.flush()
        ended = threading.Event()

        def watch_parent() -> None:
            sys.stdin.buffer.read()
            ended.set()

        threading.Thread(target=watch_parent, daemon=True).start()
        seen = None
        while not ended.wait(POLL_S):
            if (stamp := self.state.stamp()) == seen:
                continue
            seen = stamp
            self.state.render()
            lost = self.state.read()["cable"] != "ok"
            if lost and self._listener is not None:
                self._unplug()
            elif not lost and self._listener is None:
                self._plug_in()
        self._unplug()


if __name__ == "__main__":
    Phone(Path(sys.argv[1])).serve()
