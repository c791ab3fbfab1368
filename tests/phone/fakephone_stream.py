"""One stream of a connection: bytes both ways, each chunk acknowledged before the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

CHUNK = 64 * 1024


class StreamClosedError(Exception):
    """The other side, or the cable, is gone."""


class Stream:
    """Read from and written to by the thread of a service, fed by the thread of the connection."""

    def __init__(self, own: int, other: int, send: Callable[[str, Stream, bytes], None]) -> None:
        self.own, self.other = own, other
        self.gone = threading.Event()
        """Set once the other side has hung up."""
        self._send = send
        self._chunks: queue.Queue[bytes | None] = queue.Queue()
        self._buffer = b""
        self._may_write = threading.Semaphore(0)
        self._writing = threading.Lock()

    def accept(self) -> None:
        """Say that the service exists."""
        self._may_write.release()
        self._send("okay", self, b"")

    def receive(self, chunk: bytes) -> None:
        """From the connection: a chunk came."""
        self._chunks.put(chunk)

    def acknowledged(self) -> None:
        """From the connection: the last chunk arrived."""
        self._may_write.release()

    def hang_up(self) -> None:
        """From the connection: no more will come."""
        self.gone.set()
        self._chunks.put(None)
        self._may_write.release()

    def read_some(self) -> bytes:
        """The next bytes.

        Raises:
            StreamClosedError: If none will come.
        """
        if not self._buffer:
            chunk = self._chunks.get()
            if chunk is None:
                self._chunks.put(None)
                raise StreamClosedError
            self._send("okay", self, b"")
            self._buffer = chunk
        found, self._buffer = self._buffer, b""
        return found

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        found = b""
        while len(found) < count:
            found += self.read_some()
        found, self._buffer = found[:count], found[count:] + self._buffer
        return found

    def write(self, content: bytes) -> None:
        """All of `content`.

        Raises:
            StreamClosedError: If nobody takes it.
        """
        with self._writing:
            for start in range(0, len(content), CHUNK):
                self._may_write.acquire()
                if self.gone.is_set():
                    self._may_write.release()
                    raise StreamClosedError
                self._send("write", self, content[start : start + CHUNK])

    def close(self) -> None:
        """Nothing more is to say."""
        self._send("close", self, b"")
        self.hang_up()
