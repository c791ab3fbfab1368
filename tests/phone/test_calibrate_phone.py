"""`phonesearch device calibrate adb` from end to end, on models as small as they can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from fakephone_rig import FakePhone
from in_use import models, runtime_library
from typer.testing import CliRunner

from phonesearch import files
from phonesearch.cli import app
from phonesearch.device.profile import read_profile

pytestmark = [pytest.mark.adb, pytest.mark.slow]


@pytest.fixture(scope="session")
def adb_program() -> str:
    return shutil.which("adb") or pytest.skip("needs adb")


def test_a_phone_is_calibrated(
    fake_phone: FakePhone, arm_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = runtime_library(arm_library)
    kept = tmp_path / "phonesearch" / "onnxruntime-android"
    (kept / library.sha256[:16]).mkdir(parents=True)
    (kept / library.sha256[:16] / "libonnxruntime.so").symlink_to(arm_library)
    files.write_json(kept / library.sha256[:16] / "library.json", asdict(library))
    files.write_json(kept / "current.json", {"sha256": library.sha256})
    out = tmp_path / "my phone.yaml"

    words = ["device", "calibrate", f"adb:{fake_phone.serial}", "--out", str(out), "--cpus", "6,7"]
    bounds = ["--largest", "300k", "--rounds", "1", "--candidates", "2"]
    found = CliRunner().invoke(app, [*words, *bounds])

    assert found.exit_code == 0, found.output
    profile = read_profile(str(out))
    assert profile.default_engine == "onnxruntime-cpu-int4-2t"
    assert "cores 6,7" in profile.soc
    assert fake_phone.serial not in out.read_text()
    lines = out.with_suffix(".probes.jsonl").read_text().splitlines()
    assert {json.loads(line)["num_threads"] for line in lines} == {2}
    assert models(fake_phone) == []
    assert not fake_phone.processes()
