"""URLs keep their passwords to themselves, and what goes wrong is said in one message."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from fleets import quick_settings
from postgres import PASSWORD, Server, free_port

from phonesearch.errors import StorageError
from phonesearch.study.settings import Fleet
from phonesearch.study.shared import shared_study
from phonesearch.study.storage import (
    STORAGE_VARIABLE,
    complete_url,
    is_local,
    masked,
    open_storage,
    parsed_url,
)

FLEET = Fleet(study="any")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql+psycopg://me:s3cret@host:5432/db",
            "postgresql+psycopg://me:***@host:5432/db",
        ),
        ("postgresql://me:s3cret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        (
            "postgresql+psycopg://host/db?user=me&password=s3cret",
            "postgresql+psycopg://host/db?password=***&user=me",
        ),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert "s3cret" not in masked(url)
    assert parsed_url(masked(url)).query.keys() == parsed_url(shown).query.keys()
    assert masked(url).partition("?")[0] == shown.partition("?")[0]


def test_only_sqlite_is_local() -> None:
    assert is_local("sqlite:///study.db")
    assert not is_local("postgresql+psycopg://host/db")


def test_a_masked_url_is_completed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    with pytest.raises(StorageError, match=f"password of .*me:.* is not kept.*{STORAGE_VARIABLE}"):
        complete_url("postgresql+psycopg://me:***@host/db")
    assert complete_url("sqlite:///a.db") == "sqlite:///a.db"
    assert complete_url(None) is None
    monkeypatch.setenv(STORAGE_VARIABLE, "postgresql+psycopg://me:s3cret@host/db")
    assert complete_url("postgresql+psycopg://me:***@host/db") == (
        "postgresql+psycopg://me:s3cret@host/db"
    )
    assert complete_url(None) == "postgresql+psycopg://me:s3cret@host/db"


def test_what_is_no_url_is_refused_without_showing_it() -> None:
    with pytest.raises(StorageError, match=r"not the URL of a database.*postgresql") as caught:
        open_storage("me:s3cret at host", FLEET, is_new=False)
    assert "s3cret" not in str(caught.value)


def test_an_unknown_kind_of_database_is_named() -> None:
    with pytest.raises(StorageError, match="'orakel' is no kind of database"):
        open_storage("orakel://host/db", FLEET, is_new=False)


def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r'pip install "phonesearch\[postgresql\]"'):
        open_storage("postgresql://host/db", FLEET, is_new=False)


@pytest.mark.skipif(importlib.util.find_spec("psycopg2") is not None, reason="it is installed")
def test_another_missing_driver_is_named() -> None:
    with pytest.raises(StorageError, match=r"postgresql\+psycopg2 databases is not installed"):
        open_storage("postgresql+psycopg2://host/db", FLEET, is_new=False)


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    url = f"postgresql+psycopg://me:s3cret@127.0.0.1:{free_port()}/db"
    with pytest.raises(StorageError, match=r"me:\*\*\*@127.*cannot be used.*refused") as caught:
        open_storage(url, FLEET, is_new=False)
    assert "s3cret" not in str(caught.value)


def test_a_wrong_password_and_a_wrong_database_are_named(server: Server) -> None:
    url = server.url("nowhere")
    with pytest.raises(StorageError, match='database "nowhere" does not exist') as caught:
        open_storage(url, FLEET, is_new=True)
    assert PASSWORD not in str(caught.value)
    wrong = f"postgresql+psycopg://postgres:wrong@127.0.0.1:{server.port}/postgres"
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        open_storage(wrong, FLEET, is_new=True)
    assert ":wrong@" not in str(caught.value)


def test_a_database_without_studies_and_an_unknown_name_are_named(
    any_url: str, quick: object, tmp_path: Path
) -> None:
    with (
        pytest.raises(StorageError, match=r"holds no studies.*Start the run first"),
        shared_study(any_url, "quick"),
    ):
        pass
    quick(any_url)  # type: ignore[operator]
    with (
        pytest.raises(StorageError, match=r"no study named 'other'.*It holds: 'quick'"),
        shared_study(any_url, "other"),
    ):
        pass


def test_a_study_of_another_run_is_not_written_to(
    any_url: str, quick: object, tmp_path: Path
) -> None:
    from contextlib import ExitStack

    from fleets import QuickRun

    quick(any_url)  # type: ignore[operator]
    with (
        ExitStack() as opened,
        pytest.raises(StorageError, match="a study named 'quick' in the database already"),
    ):
        QuickRun.make(tmp_path / "second", any_url, opened)


def test_settings_hold_no_password(any_url: str, quick: object, tmp_path: Path) -> None:
    run = quick(any_url)  # type: ignore[operator]
    texts = [
        path.read_text()
        for path in (tmp_path / "run").iterdir()
        if path.is_file() and not path.name.endswith(".db")
    ]
    attributes = str(run.study().user_attrs)
    assert quick_settings().space in attributes
    for text in (*texts, attributes):
        assert "secret" not in text
