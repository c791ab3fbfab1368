"""Two sessions and one phone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakephone_measure import TINY
from fakephone_rig import FakePhone
from in_use import models, phone_adb, runtime_library
from needs import need
from typer.testing import CliRunner

from phonesearch.cli import app, console
from phonesearch.errors import PhoneError, PhoneInUseError
from phonesearch.phone.backend import PhoneBackend, PhoneSettings
from phonesearch.phone.judge import Limits
from phonesearch.phone.lock import phone_held
from phonesearch.phone.protocol import Reference
from phonesearch.timing.base import TimingSettings
from phonesearch.timing.exchange import Stretch

ANY = 1e9
SETTINGS = PhoneSettings(
    max_seconds=30,
    check="once",
    reference=Reference(
        candidate=TINY,
        stretches=(
            Stretch(new_tokens=4, past_tokens=0),
            Stretch(new_tokens=1, past_tokens=4, steps=2),
        ),
        rounds=1,
        warmup_rounds=0,
    ),
    limits=Limits(drift=ANY, spread=ANY, reference=ANY, cool_poll_s=0.1, cool_patience_s=2),
)
TURN = TimingSettings(prompt_tokens=4, generate_tokens=4, repetitions=1, decode_steps=2)
HOLD = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from in_use import runtime_library
from test_lock import SETTINGS
from phonesearch.phone.adb import Adb
from phonesearch.phone.backend import PhoneBackend
serial, library, cache = sys.argv[1:]
library = runtime_library(Path(library))
with PhoneBackend(Adb.find().choose(serial), library, SETTINGS, cache=Path(cache)) as backend:
    backend.bench.time_reference()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="session")
def adb_program() -> str:
    """Which client it is, does not matter here."""
    need("adb")
    return shutil.which("adb") or ""


def test_phones_are_held_apart_and_the_serial_is_not_written_down(tmp_path: Path) -> None:
    with phone_held("S1", cache=tmp_path), phone_held("../S2", cache=tmp_path):
        with pytest.raises(PhoneInUseError, match="'S1', and was not disturbed"):
            phone_held("S1", cache=tmp_path).__enter__()
        names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 2
    assert not any("S1" in name or "S2" in name for name in names)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PhoneError, match="cannot be locked"):
        phone_held("S1", cache=tmp_path / "file").__enter__()


@pytest.mark.adb
def test_a_second_session_leaves_the_first_one_alone(
    fake_phone: FakePhone, arm_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = runtime_library(arm_library)
    monkeypatch.setattr(console, "cache_dir", lambda: tmp_path)

    def backend() -> PhoneBackend:
        return PhoneBackend(phone_adb(fake_phone), library, SETTINGS, cache=tmp_path)

    with backend() as first:
        first.time(TINY, TURN)
        there = models(fake_phone)
        assert there
        with pytest.raises(PhoneInUseError), backend():
            pass
        cleaned = CliRunner().invoke(app, ["phone", "clean"])
        assert cleaned.exit_code == 1
        assert "was not disturbed" in cleaned.stderr
        assert CliRunner().invoke(app, ["phone", "doctor"]).exit_code == 0
        assert models(fake_phone) == there
        first.time(TINY, TURN)
    with backend():
        pass
    assert CliRunner().invoke(app, ["phone", "clean"]).exit_code == 0


@pytest.mark.adb
def test_a_session_that_was_killed_holds_no_phone(
    fake_phone: FakePhone, arm_library: Path, tmp_path: Path
) -> None:
    def backend() -> PhoneBackend:
        library = runtime_library(arm_library)
        return PhoneBackend(phone_adb(fake_phone), library, SETTINGS, cache=tmp_path)

    with subprocess.Popen(
        [sys.executable, "-c", HOLD, fake_phone.serial, str(arm_library), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PhoneInUseError), backend():
            pass
        left = models(fake_phone)
        assert len(left) == 1
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with backend() as after:
            assert models(fake_phone) == []  # what the first left is gone
            after.time(TINY, TURN)
    assert models(fake_phone) == []
