"""The commands as a user types them, through real adb clients, against the fake phone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakephone_library import write_aar
from fakephone_rig import AdbServer, FakePhone, wait_until
from typer.testing import CliRunner, Result

from phonesearch.cli import app

pytestmark = pytest.mark.adb
FOLDER = "/data/local/tmp/phonesearch"
Typed = Callable[..., Result]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that only something executed makes; the shell of the fake phone could, too."""
    return tmp_path / "canary"


@pytest.fixture
def phonesearch(adb: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types `phonesearch phone ...`; what it prints can be printed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def typed(*words: str, **more: str) -> Result:
        done = CliRunner().invoke(app, ["phone", *words], env=more, color=True)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.output.replace("\n", "").isprintable(), repr(done.output)
        return done

    return typed


def test_the_doctor_shows_a_phone_that_is_fine(fake_phone: FakePhone, phonesearch: Typed) -> None:
    done = phonesearch("doctor")
    assert done.exit_code == 0, done.stdout + done.stderr
    for text in (
        f"Phonemaker Fake Phone 5 ({fake_phone.serial}), Android 14, API 34",
        "Fake FK8350, arm64-v8a",
        "0-3    Cortex-A55",
        "7      Cortex-X1        up to 2.84 GHz, now 2.84 GHz, governor walt",
        "measure on cores 4-7, 4 threads",
        "thermal status 0, skin 32 C, battery 27 C",
        "80%, discharging, powered by USB, saver off",
    ):
        assert text in done.stdout
    assert "Must be mended" not in done.stdout
    assert fake_phone.calls() == []
    assert not fake_phone.place(FOLDER).exists()


def test_its_json_says_the_same(fake_phone: FakePhone, phonesearch: Typed) -> None:
    done = phonesearch("doctor", "--json")
    assert done.exit_code == 0, done.stderr
    assert fake_phone.serial not in done.stdout
    assert "FAKE0001" not in done.stdout
    found = json.loads(done.stdout)
    assert found["ready"] is True
    assert found["default_cores"] == [4, 5, 6, 7]
    assert found["identity"]["fingerprint"].startswith("phonemaker/fakephone")
    assert found["battery"]["temperature_c"] == 27.1
    assert [hazard["name"] for hazard in found["hazards"]] == ["network"]


@pytest.mark.parametrize(
    ("changes", "name", "remedy"),
    [
        ({"settings": {"global/low_power": "1"}}, "low-power", "Switch it off"),
        ({"thermal": {"status": 2, "skin": 43.0}}, "hot", "Let it cool"),
        ({"properties": {"ro.product.cpu.abilist": "armeabi-v7a,armeabi"}}, "abi", "64-bit"),
        ({"properties": {"ro.build.version.sdk": "23"}}, "android", "newer phone"),
        ({"properties": {"ro.hardware": "ranchu"}}, "emulator", "Plug in a phone"),
        ({"disk_bytes": 50_000_000}, "space", "Free some"),
    ],
)
def test_what_refuses_is_told_with_its_remedy(
    fake_phone: FakePhone, phonesearch: Typed, changes: dict[str, Any], name: str, remedy: str
) -> None:
    fake_phone.update(**changes)
    done = phonesearch("doctor")
    assert done.exit_code == 1
    _, _, mend = done.stdout.partition("Must be mended before measuring:")
    assert f"{name}: " in mend
    assert remedy in mend
    found = json.loads(phonesearch("doctor", "--json").stdout)
    assert found["ready"] is False
    assert name in [entry["name"] for entry in found["hazards"] if entry["severity"] == "refuse"]


@pytest.mark.parametrize("command", ["doctor", "clean"])
def test_no_phone_is_told_with_what_to_do(phonesearch: Typed, command: str) -> None:
    done = phonesearch(command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "USB debugging" in done.stderr


def test_an_unauthorised_phone_is_told(
    make_phone: Callable[..., FakePhone], adb: AdbServer, phonesearch: Typed
) -> None:
    phone = make_phone(authorised=False)
    adb.connect(phone, state="unauthorized")
    for command in ("doctor", "clean"):
        done = phonesearch(command)
        assert done.exit_code == 1
        assert "has not authorised this computer" in done.stderr
    phone.update(authorised=True)
    adb.wait_for(phone, "device")
    assert phonesearch("doctor").exit_code == 0


def test_an_offline_phone_is_told(
    fake_phone: FakePhone, adb: AdbServer, phonesearch: Typed
) -> None:
    fake_phone.lose_cable()
    wait_until(lambda: f"{fake_phone.serial}\tdevice" not in adb("devices").stdout)
    done = phonesearch("doctor")
    assert done.exit_code == 1
    assert "does not answer" in done.stderr or "not connected" in done.stderr
    adb.replug(fake_phone)
    assert phonesearch("doctor").exit_code == 0


def test_of_two_phones_one_has_to_be_named(
    fake_phone: FakePhone,
    make_phone: Callable[..., FakePhone],
    adb: AdbServer,
    phonesearch: Typed,
) -> None:
    other = make_phone(properties={"ro.product.model": "Other Phone"})
    adb.connect(other)
    done = phonesearch("doctor")
    assert done.exit_code == 1
    for phone in (fake_phone, other):
        assert phone.serial in done.stderr
    assert "Other Phone" in phonesearch("doctor", "--serial", other.serial).stdout
    assert "Other Phone" in phonesearch("doctor", ANDROID_SERIAL=other.serial).stdout
    assert "Fake Phone 5" in phonesearch("doctor", "-s", fake_phone.serial).stdout


def test_setting_up_keeps_the_library_of_an_aar_and_the_doctor_sees_it(
    fake_phone: FakePhone, phonesearch: Typed, arm_library: Path, tmp_path: Path, canary: Path
) -> None:
    aar = tmp_path / f"it's\x1b]0;x\x07 $(touch {canary.name}); `touch {canary.name}`\n.aar"
    write_aar(arm_library, aar)
    done = phonesearch("setup", "--runtime", str(aar))
    assert done.exit_code == 0, done.stderr
    assert "not one that we have run" in done.stdout
    (kept,) = (tmp_path / "cache").rglob("libonnxruntime.so")
    assert kept.stat().st_size > arm_library.stat().st_size
    assert not list(Path.cwd().glob(canary.name))
    shown = phonesearch("doctor")
    assert "runtime    not set up" not in shown.stdout
    assert json.loads(phonesearch("doctor", "--json").stdout)["runtime"]["api_level"] == 24


def test_cleaning_ends_a_runner_and_removes_all_of_ours_and_nothing_else(
    fake_phone: FakePhone, adb: AdbServer, phonesearch: Typed
) -> None:
    adb("shell", f"mkdir -p {FOLDER}/parts; echo x > {FOLDER}/model; echo x > /sdcard/photo")
    adb("shell", f"ln -s /sdcard {FOLDER}/link; echo x > /data/local/tmp/theirs")
    adb("shell", f"cp /bin/sleep {FOLDER}/runner")
    client = subprocess.Popen(
        [adb.program, "-s", fake_phone.serial, "shell", f"cd {FOLDER} && exec ./runner 60"],
        env={**os.environ, **adb.environment},
        stdin=subprocess.DEVNULL,
    )
    wait_until(lambda: any("./runner" in line for line in fake_phone.processes().values()))
    refused = phonesearch("doctor")
    assert refused.exit_code == 1
    assert "Something of ours still runs" in refused.stdout
    done = phonesearch("clean")
    assert done.exit_code == 0, done.stderr
    assert "ended process" in done.stdout
    assert f"removed {FOLDER}" in done.stdout
    client.wait(timeout=10)
    assert not fake_phone.processes()
    left = {path.name for path in fake_phone.place("/data/local/tmp").iterdir()}
    assert left == {"theirs"}
    assert fake_phone.place("/sdcard/photo").read_text() == "x\n"
    assert phonesearch("clean").exit_code == 0


HOSTILE = (
    "$(touch {})",
    "`touch {}`",
    "; touch {};",
    "' ; touch {} ; '",
    '" ; touch {} ; "',
    "a\ntouch {}\n",
    "| touch {} #",
    "&& touch {}",
    "\x1b[2J\x1b]0;owned\x07 \u202e",
)
"""What a shell would run, where it got through."""


def test_the_canary_sings(fake_phone: FakePhone, adb: AdbServer, canary: Path) -> None:
    """What the tests below look for does happen where a word is not quoted."""
    adb("shell", f"echo {HOSTILE[0].format(canary)}")
    assert canary.exists()


@pytest.mark.parametrize("command", ["doctor", "clean"])
def test_a_serial_is_never_run(
    fake_phone: FakePhone, phonesearch: Typed, canary: Path, command: str
) -> None:
    for text in HOSTILE:
        serial = text.format(canary)
        done = phonesearch(command, f"--serial={serial}")
        assert done.exit_code == 1
        assert "is not connected" in done.stderr
        assert fake_phone.serial in done.stderr
    named = f"{fake_phone.serial};touch {canary}"
    assert phonesearch(command, ANDROID_SERIAL=named).exit_code == 1
    assert not canary.exists()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_phone_says_of_itself_is_never_run(
    fake_phone: FakePhone, phonesearch: Typed, canary: Path, hostile: str
) -> None:
    text = hostile.format(canary)
    names = ("ro.product.model", "ro.product.manufacturer", "ro.build.fingerprint", "ro.soc.model")
    fake_phone.update(
        properties={**dict.fromkeys(names, text), "ro.build.version.release": text},
        busy_process=[text, 90.0],
        governor=text.split("\n")[0],
        kernel=text,
        wakefulness=text,
    )
    for words in (["doctor"], ["doctor", "--json"], ["clean"]):
        done = phonesearch(*words)
        assert done.exit_code in (0, 1), done.stderr
        assert not done.stderr
    json.loads(phonesearch("doctor", "--json").stdout)
    assert not canary.exists()


def test_names_of_files_on_the_phone_are_never_run(
    fake_phone: FakePhone, phonesearch: Typed, canary: Path
) -> None:
    folder = fake_phone.place(FOLDER)
    folder.mkdir()
    for text in HOSTILE:
        (folder / text.format(canary.name)).mkdir()
        (folder / text.format(canary.name) / "-rf").write_text("")
    assert phonesearch("doctor").exit_code == 0
    assert phonesearch("clean").exit_code == 0
    assert not folder.exists()
    assert not canary.exists()
    assert not list(fake_phone.root.rglob(canary.name))


@pytest.mark.parametrize("hostile", HOSTILE[::2])
def test_paths_on_this_computer_are_never_run(
    fake_phone: FakePhone,
    adb: AdbServer,
    phonesearch: Typed,
    tmp_path: Path,
    canary: Path,
    hostile: str,
) -> None:
    program = tmp_path / hostile.format(canary.name)
    program.symlink_to(adb.program)
    assert phonesearch("doctor", "--adb", str(program)).exit_code == 0
    missing = phonesearch("setup", "--runtime", f"{program}.aar")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("error: ")
    assert not list(Path.cwd().glob(canary.name))
    assert not canary.exists()
