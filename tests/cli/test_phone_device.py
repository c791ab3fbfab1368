"""Phones and machines as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app, console
from phonesearch.cli.machine import check_cores
from phonesearch.cli.phone_device import is_phone, serials
from phonesearch.errors import SettingsError


def test_phones_are_named_by_adb_and_serials() -> None:
    assert serials("adb") == (None,)
    assert serials("adb:R5CT1") == ("R5CT1",)
    assert serials("adb:192.168.1.7:5555, adb:R5CT1") == ("192.168.1.7:5555", "R5CT1")
    assert all(is_phone(name) for name in ("adb", "adb:X", "adb:X,adb:Y", "adb,adb:X"))
    assert not any(is_phone(name) for name in ("adbX", "host", "snapdragon8gen3", "my/adb.yaml"))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("adb:", "does not name phones"),
        ("adb:A,", "does not name phones"),
        ("adb,adb:A", "does not name phones"),
        ("adb:A,host", "does not name phones"),
        ("adb:A,adb:A", "names the phone 'A' twice"),
    ],
)
def test_what_names_no_phones_is_refused(device: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        serials(device)


@pytest.mark.parametrize(
    ("device", "cpus", "threads", "said"),
    [
        ("snapdragon8gen3", None, 2, "`--threads` goes with `host` and `adb`"),
        ("snapdragon8gen3", "4-7", None, "`--cpus` is for phones"),
        ("host", "4-7", None, "`--cpus` is for phones"),
        ("host", None, 5000, "must be at most"),
    ],
)
def test_cores_are_for_what_is_measured(
    device: str, cpus: str | None, threads: int | None, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        check_cores(device, cpus, threads)


def test_one_phone_is_needed_for_a_calibration() -> None:
    found = CliRunner().invoke(app, ["device", "calibrate", "adb:A,adb:B", "--out", "x.yaml"])
    assert found.exit_code == 1
    assert "One phone is needed here, and 'adb:A,adb:B' names 2." in found.output


def test_a_phone_that_cannot_be_used_stops_a_run_before_it_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "cache_dir", lambda: tmp_path / "cache")
    out = tmp_path / "run"
    found = CliRunner().invoke(
        app, ["run", "--device", "adb", "--measure", "all", "--out", str(out)]
    )
    assert found.exit_code == 1
    assert "phone setup" in found.output
    assert "Nothing was begun: no folder was made." in found.output
    assert "Solving" not in found.output
    assert not out.exists()
