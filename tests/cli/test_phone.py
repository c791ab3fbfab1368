"""The commands, with a program in adb's place that prints what adb prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from phonesearch.cli import app, phone_text
from phonesearch.cli.phone_text import ranges
from phonesearch.errors import RuntimeLibraryError
from phonesearch.phone.judge import ReferenceTime
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.sweep import Choice, Swept

if TYPE_CHECKING:
    from tests.conftest import StubAdb

HEADER = "List of devices attached\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ANDROID_SERIAL", "ADB"):
        monkeypatch.delenv(name, raising=False)


def phone(stub: StubAdb, *typed: str) -> Result:
    return CliRunner().invoke(app, ["phone", *typed, "--adb", str(stub.program)])


@pytest.fixture
def android(stub_adb: StubAdb) -> StubAdb:
    """A phone that is fine, and busy with somebody's app."""
    stub_adb.has(
        "getprop",
        'case "$1" in ro.product.model) echo "Pixel 8 Pro" ;; ro.soc.model) echo SM8650 ;;\n'
        "ro.product.cpu.abilist) echo arm64-v8a ;; ro.build.version.sdk) echo 34 ;;\n"
        "ro.build.version.release) echo 14 ;; esac",
    )
    stub_adb.has(
        "dumpsys",
        'case "$1" in battery) printf "  USB powered: true\\n  status: 5\\n  level: 100\\n" ;;\n'
        "thermalservice) echo 'Thermal Status: 0' ;; esac",
    )
    stub_adb.has("settings", "echo 0")
    stub_adb.has("pgrep", "exit 1")
    stub_adb.has(
        "top",
        "echo '  PID USER PR NI VIRT RES SHR S[%CPU] %MEM TIME+ ARGS'\n"
        "echo ' 12 u0_a1 10 -10 14G 210M 130M S 196.5 2.8 1:23.45 org.private.app'",
    )
    return stub_adb


def test_the_doctor_fits_on_a_screen(android: StubAdb) -> None:
    done = phone(android, "doctor")
    assert done.exit_code == 0, done.output
    for text in ("Pixel 8 Pro (S1)", "SM8650", "Android 14", "API 34", "100%, full", "29.0.6"):
        assert text in done.stdout
    assert "phone setup --from-npm" in done.stdout
    assert len(done.stdout.splitlines()) <= 45


def test_what_is_sent_to_us_tells_nothing_of_the_owner(android: StubAdb) -> None:
    done = phone(android, "doctor", "--json")
    assert done.exit_code == 0, done.output
    assert "S1" not in done.stdout
    assert "org.private.app" not in done.stdout
    assert str(Path.home()) not in done.stdout
    found = json.loads(done.stdout)
    assert found["ready"] is True
    assert found["identity"]["model"] == "Pixel 8 Pro"
    assert found["battery"]["level"] == 1.0
    assert "Pixel 8 Pro" in found["raw"]["properties"]


def test_it_is_told_when_asked_for(android: StubAdb) -> None:
    found = json.loads(phone(android, "doctor", "--json", "--include-private").stdout)
    assert found["serial"] == "S1"
    assert found["busy"]["process"] == "org.private.app"


def test_a_refusal_is_an_exit_code_and_a_remedy(android: StubAdb) -> None:
    android.has("settings", "echo 1")
    done = phone(android, "doctor")
    assert done.exit_code == 1
    assert "low-power: Battery saver is on" in done.stdout
    assert "Switch it off" in done.stdout
    assert not done.stderr
    assert json.loads(phone(android, "doctor", "--json").stdout)["ready"] is False


@pytest.mark.parametrize(
    ("listed", "typed", "message"),
    [
        ("", [], "USB debugging"),
        ("a device model:A\nb device model:B\n", [], "a (A): device"),
        ("a unauthorized\n", [], "accept the dialog"),
        ("a offline\n", [], "does not answer"),
        ("a no permissions (x); see [http://y]\n", [], "udev"),
        ("a device model:A\n", ["--serial", "b; $(reboot)"], "'b; $(reboot)' is not connected"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "clean"])
def test_what_is_wrong_is_one_message(
    stub_adb: StubAdb, command: str, listed: str, typed: list[str], message: str
) -> None:
    stub_adb.says("devices", HEADER + listed)
    done = phone(stub_adb, command, *typed)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_cable_lost_while_asking_is_one_message(stub_adb: StubAdb) -> None:
    stub_adb.says("shell", "half an ans", "", 0)
    done = phone(stub_adb, "doctor")
    assert done.exit_code == 1
    assert "error: The connection to the phone 'S1' was lost" in done.stderr


def test_an_adb_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(app, ["phone", "doctor", "--adb", "/no/such/adb"])
    assert done.exit_code == 1
    assert "--adb is '/no/such/adb'" in done.stderr


def test_cleaning_tells_what_was_there(stub_adb: StubAdb) -> None:
    stub_adb.has("pgrep", "exit 1")
    folder = stub_adb.folder / "data" / "phonesearch"
    folder.mkdir()
    (folder / "x").write_bytes(bytes(50_000))
    done = phone(stub_adb, "clean")
    assert done.exit_code == 0, done.output
    assert "removed /data/local/tmp/phonesearch" in done.stdout
    assert not folder.exists()


@pytest.mark.parametrize("typed", [[], ["--runtime", "x.aar", "--from-npm"]])
def test_setting_up_wants_one_source(typed: list[str]) -> None:
    done = CliRunner().invoke(app, ["phone", "setup", *typed])
    assert done.exit_code == 1
    assert "--runtime FILE" in done.stderr


def test_setting_up_what_is_no_library_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "page.aar").write_text("<html>")
    done = CliRunner().invoke(app, ["phone", "setup", "--runtime", str(tmp_path / "page.aar")])
    assert done.exit_code == 1
    assert "web page" in done.stderr
    assert "Traceback" not in done.output


def test_a_name_of_a_file_does_not_steer_the_terminal() -> None:
    typed = ["phone", "setup", "--runtime", "a\x1b]0;owned\x07\u202e.aar"]
    done = CliRunner().invoke(app, typed, color=True)
    assert done.exit_code == 1
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 3, 7), "0-3,7"), ((1, 3), "1,3")]
)
def test_cores_are_written_as_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert ranges(numbers) == text


def test_help_is_quick() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "phonesearch.cli", "phone", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "doctor" in done.stdout
    assert time.monotonic() - started < 5  # half a second on an idle machine


def test_help_loads_nothing_that_talks_to_a_phone() -> None:
    code = "import sys, phonesearch.cli; print([n for n in sys.modules if '.phone.' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sweep_is_shown_fastest_first_and_kept(
    android: StubAdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prime = Choice(name="prime", cpus=(7,), num_threads=1)
    little = Choice(name="all", cpus=(0, 1, 7), num_threads=3)
    swept = (
        Swept(choice=prime, time=ReferenceTime(prefill_s=0.1, decode_s=0.01)),
        Swept(choice=little, time=None),
    )
    library = RuntimeLibrary(
        path="",
        sha256="ab",
        size_bytes=0,
        version="1.29.0",
        api_level=24,
        source="x.aar",
        source_sha256="",
        warnings=(),
    )
    kept: list[Choice] = []

    class Backend:
        def __init__(self, *_: object, **__: object) -> None:
            self.report = SimpleNamespace(cores=(), identity=None)
            self.bench = None

        def __enter__(self) -> Backend:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("phonesearch.phone.backend.PhoneBackend", Backend)
    monkeypatch.setattr("phonesearch.phone.runtime.installed", lambda cache: library)
    monkeypatch.setattr("phonesearch.phone.sweep.sweep", lambda *_, **__: swept)
    monkeypatch.setattr("phonesearch.phone.sweep.keep_best", lambda one, *_, **__: kept.append(one))

    def no_library(cache: Path) -> None:
        raise RuntimeLibraryError("none")

    text = phone_text.sweep_text(swept)
    assert text.index("prime (7)") < text.index("all (0-1,7)")
    assert "prime (7) with 1 threads is kept" in text
    assert "does not give us these cores" in text
    assert phone_text.sweep_json(swept)[0]["choice"]["cpus"] == (7,)
    monkeypatch.setattr("phonesearch.cli.phone_text.as_text", lambda found: "the screen")
    found = phone(android, "doctor", "--sweep")
    assert found.exit_code == 0, found.output
    assert found.stdout == f"the screen\n\n{text}\n"
    assert kept == [prime]
    monkeypatch.setattr("phonesearch.phone.runtime.installed", no_library)
    without = phone(android, "doctor", "--sweep")
    assert without.exit_code == 1
    assert "error: none" in without.stderr
