"""The database that the workers of a run share: its URL, its password, what goes wrong with it."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage

from phonesearch.errors import StorageError
from phonesearch.study.settings import Fleet

STORAGE_VARIABLE: Final = "PHONESEARCH_STORAGE"
"""Environment variable with the URL: unlike an option it is not in the list of processes."""
MASK: Final = "***"
_SECRETS: Final = ("password", "passwd", "sslpassword")
"""Parts of a URL's query that hold one."""
_BUSY_TIMEOUT_S: Final = 60
_CONNECT_TIMEOUT_S: Final = 10
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 2.0

_OF_A_STATEMENT: Final = (
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.IntegrityError,
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.NotSupportedError,
)
"""What fails alike however often it is tried. All else may come of a server that went away: which
error that is depends on what was under way."""

T = TypeVar("T")


def parsed_url(url: str) -> sqlalchemy.URL:
    """A URL as SQLAlchemy reads it; plain `postgresql://` gets the driver that we install.

    Raises:
        StorageError: If it is none. The message does not hold it, as it may hold a password.
    """
    try:
        found = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise StorageError(
            "The storage is not the URL of a database. It has the form "
            "postgresql+psycopg://USER:PASSWORD@HOST:5432/DATABASE, or sqlite:///FILE on one "
            f"machine; give it with --storage or in {STORAGE_VARIABLE}."
        ) from error
    if found.drivername in ("postgres", "postgresql"):
        found = found.set(drivername="postgresql+psycopg")
    return found


def masked(url: str) -> str:
    """The URL with `***` for passwords, for messages and files."""
    found = parsed_url(url)
    hidden = {name: MASK for name in found.query if name.lower() in _SECRETS}
    if hidden:
        found = found.update_query_dict(hidden)
    return found.render_as_string(hide_password=True).replace("%2A%2A%2A", MASK)


def is_local(url: str) -> bool:
    """Whether only this machine can reach it."""
    return parsed_url(url).get_backend_name() == "sqlite"


def complete_url(url: str | None) -> str | None:
    """A URL with its password: as given, else of the environment.

    Raises:
        StorageError: If the password is masked and the environment has none.
    """
    outside = os.environ.get(STORAGE_VARIABLE) or None
    if url is None or MASK in url:
        if outside is None and url is not None:
            raise StorageError(
                f"The password of {url} is not kept. Give the whole URL in {STORAGE_VARIABLE}, or "
                "with --storage."
            )
        return outside
    return url


class SharedStorage(_CachedStorage):
    """Optuna's cache over its RDB storage, which can be held still.

    Each look of a sampler at the trials is six queries; while it is held, all see what the first
    saw. Nothing of others is hidden otherwise: every look reads all that was not finished before.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._is_held = False

    @property
    def backend(self) -> RDBStorage:
        """What it caches."""
        return self._backend

    def close(self) -> None:
        """Leave no connection open."""
        self._backend.remove_session()
        self._backend.engine.dispose()

    @contextmanager
    def held(self, study_id: int) -> Iterator[None]:
        """Look once, and show that as long as the block lasts."""
        self._read_trials_from_remote_storage(study_id)
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if not self._is_held:
            super()._read_trials_from_remote_storage(study_id)


def open_storage(url: str, fleet: Fleet, *, is_new: bool) -> SharedStorage:
    """Connect to the database.

    Args:
        url: With its password.
        fleet: Heartbeats.
        is_new: Whether tables are made where there are none.

    Raises:
        StorageError: If it cannot be reached, or its driver is not installed.
    """
    found = parsed_url(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _require_driver(found)
    text = found.render_as_string(hide_password=False).replace("{", "%7B").replace("}", "%7D")
    try:
        _require_tables(found, is_new=is_new)
        with warnings.catch_warnings():  # heartbeats are marked as experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = RDBStorage(
                text,
                engine_kwargs=_engine_arguments(found),
                heartbeat_interval=fleet.heartbeat_s,
                grace_period=fleet.grace_s,
                skip_table_creation=not is_new,
            )
    except StorageError:
        raise
    except Exception as error:  # drivers have no common base
        raise StorageError(
            f"The database {masked(url)} cannot be used ({problem(error)}). Check that it runs, "
            "and its host, user, password and name."
        ) from error
    if found.get_backend_name() == "sqlite":
        _prepare_sqlite(backend)
    return SharedStorage(backend)


def _engine_arguments(url: sqlalchemy.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    arguments: dict[str, Any] = {
        # Two connections a worker, of which one for heartbeats is closed in between.
        "pool_size": 1,
        "max_overflow": 2,
    }
    if url.get_driver_name() == "psycopg" and "connect_timeout" not in url.query:
        arguments["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    return arguments


def _require_driver(url: sqlalchemy.URL) -> None:
    try:
        url.get_dialect().import_dbapi()
    except sqlalchemy.exc.NoSuchModuleError as error:
        raise StorageError(
            f"{url.drivername!r} is no kind of database that SQLAlchemy knows. Use "
            "postgresql+psycopg, or sqlite on one machine."
        ) from error
    except ImportError as error:
        how = ""
        if url.drivername == "postgresql+psycopg":
            how = ' Install it: pip install "phonesearch[postgresql]".'
        elif importlib.util.find_spec("psycopg") is not None:
            how = " Or write postgresql+psycopg://, whose driver is installed."
        raise StorageError(
            f"The driver of {url.drivername} databases is not installed ({error}).{how}"
        ) from error


def _require_tables(url: sqlalchemy.URL, *, is_new: bool) -> None:
    """With a connection of its own, which is closed whatever is found."""
    engine = sqlalchemy.create_engine(url, **_engine_arguments(url))
    try:
        if not sqlalchemy.inspect(engine).has_table("studies") and not is_new:
            raise StorageError(
                f"The database {masked(str(url))} holds no studies. Start the run first: "
                "phonesearch run --storage URL --study NAME."
            )
    finally:
        engine.dispose()


def _prepare_sqlite(backend: RDBStorage) -> None:
    """Readers do not keep a writer waiting. The mode stays with the file."""
    with backend.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def problem(error: BaseException) -> str:
    """What the database itself said, without the statement and its parameters."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def patiently(
    call: Callable[[], T], *, patience_s: float, where: str, say: Callable[[str], None]
) -> T:
    """What `call` gives, tried again while the database does not answer.

    Args:
        call: May be made twice with the effect of once.
        patience_s: How long it is tried.
        where: The database in words, without a password.
        say: Told once that it is being waited for.

    Raises:
        StorageError: If it stays away.
    """
    began_s, delay_s = time.monotonic(), _FIRST_DELAY_S
    while True:
        try:
            return call()
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            if not _may_pass(error):
                raise
            if time.monotonic() - began_s > patience_s:
                raise StorageError(
                    f"The database {where} does not answer any more ({problem(error)}). Finished "
                    "trials are kept in it. Go on when it is back: start the workers again, or "
                    "phonesearch run --resume with the run's folder."
                ) from error
            if delay_s == _FIRST_DELAY_S:
                say(f"The database does not answer ({problem(error)}); trying again")
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


def _may_pass(error: BaseException | None) -> bool:
    """Whether it is the database that failed, and not a statement of ours."""
    found = False
    while error is not None:
        if isinstance(error, _OF_A_STATEMENT):
            return False
        found |= isinstance(error, sqlalchemy.exc.SQLAlchemyError)
        error = error.__cause__
    return found
