"""What tests of several workers share: a database server, and quick runs."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleets import QuickRun
from postgres import Server, lack

_COUNT = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL; skipped without, and failed in CI."""
    if importlib.util.find_spec("psycopg") is None:
        lack("needs psycopg")
    server = Server()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(server: Server) -> str:
    """A database of the test's own."""
    return server.database(f"test{next(_COUNT)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Callable[..., QuickRun]]:
    """Makes a run whose trials take milliseconds, and publishes its study."""
    with ExitStack() as opened:

        def make(url: str, **changes: object) -> QuickRun:
            return QuickRun.make(tmp_path / "run", url, opened, **changes)

        yield make
