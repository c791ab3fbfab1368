"""A PostgreSQL server of the tests' own: on a temporary folder, and never as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

PASSWORD = "not:so/secret@{all}"
_ENCODED = "not%3Aso%2Fsecret%40%7Ball%7D"


def lack(message: str) -> NoReturn:
    """Skip the test, or fail it with `PHONESEARCH_NEED_ALL=1`."""
    if os.environ.get("PHONESEARCH_NEED_ALL"):
        pytest.fail(message)
    pytest.skip(message)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found:
        return found
    # Debian keeps those of the server out of the way.
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).is_file():
            return str(folder / name)
    lack(f"needs PostgreSQL's {name} (Debian: postgresql)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One that is stopped and started again at will."""

    def __init__(self) -> None:
        initdb = _program("initdb")
        self._pg_ctl = (
            _program("pg_ctl")
            if shutil.which("pg_ctl")
            else str(Path(initdb).resolve().parent / "pg_ctl")
        )
        self._user = "postgres" if os.geteuid() == 0 else None
        # Not below pytest's folder, which other users may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="phonesearch-pg-"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self._as_user(
            [initdb, "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-N"]
        )
        with (self.folder / "data" / "pg_hba.conf").open("w") as stream:
            stream.write("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.start()
        self.sql(f"ALTER USER postgres PASSWORD '{PASSWORD}'")

    def _as_user(self, command: Sequence[str], *, check: bool = True) -> None:
        done = subprocess.run(
            command,
            user=self._user,
            extra_groups=[] if self._user else None,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.folder)},
        )
        if check and done.returncode:
            raise AssertionError(f"{command[0]}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 "
            f"-c unix_socket_directories={self.folder} -c timezone=UTC"
        )
        log = str(self.folder / "log")
        self._as_user(
            [self._pg_ctl, "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start"]
        )

    def stop(self) -> None:
        self._as_user(
            [self._pg_ctl, "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop"],
            check=False,
        )

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, command: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            connection.execute(command)  # type: ignore[arg-type]

    def database(self, name: str) -> str:
        """URL of a new database."""
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres:{_ENCODED}@127.0.0.1:{self.port}/{name}"
