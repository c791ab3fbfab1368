"""The committed profiles are what the command gives, and it tells when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonesearch import catalog
from phonesearch.device.make_profiles import differing_profiles, main, write_profiles


def test_committed_profiles_are_those_made_from_the_carried_rows() -> None:
    assert differing_profiles(catalog.catalog_dir("device_profiles")) == []


def test_a_changed_profile_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_profiles(tmp_path)
    assert main(["--check", "--folder", str(tmp_path)]) == 0

    changed = tmp_path / "tensor_g5.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Pixel 10", "Pixel 11"))
    (tmp_path / "stray.yaml").write_text("name: stray")

    assert main(["--check", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "tensor_g5.yaml" in said
    assert "stray.yaml" in said
    assert "tensor_g2" not in said


def test_the_command_writes_every_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path)]) == 0

    assert sorted(path.stem for path in tmp_path.glob("*.yaml")) == catalog.names("device_profiles")
    assert "snapdragon8gen3.yaml" in capsys.readouterr().out
