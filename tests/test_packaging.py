"""What is in the wheel, and that it works from there."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def test_the_wheel_holds_every_catalog_file(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("search_spaces", "device_profiles"):
        wanted = {f"phonesearch/_catalog/{kind}/{path.name}" for path in (ROOT / kind).glob("*")}
        assert wanted
        assert wanted <= packed


def test_the_wheel_holds_the_data_that_the_rooms_read(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and path.suffix in {".csv", ".css", ".js", ".json", ".typed"}
    }
    assert wanted
    assert wanted <= packed


def test_the_wheel_holds_the_built_runner_and_its_source(wheel: Path) -> None:
    folder = ROOT / "src" / "phonesearch" / "phone" / "runner"
    packed = zipfile.ZipFile(wheel)
    assert packed.read("phonesearch/phone/runner/runner") == (folder / "runner").read_bytes()
    wanted = {f"phonesearch/phone/runner/{path.name}" for path in folder.glob("*.[ch]")}
    assert wanted
    assert wanted <= set(packed.namelist())


@pytest.mark.slow
def test_an_installed_wheel_finds_its_catalog(wheel: Path, tmp_path: Path) -> None:
    """From an environment of its own, beside this one's libraries, in another folder."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (next(folder.glob("lib/*/site-packages")) / "libraries.pth").write_text(libraries)
    listed = subprocess.run(
        [folder / "bin" / "phonesearch", "device", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    ).stdout
    assert "snapdragon8gen3" in listed
    where = subprocess.run(
        [python, "-c", "import phonesearch; print(phonesearch.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    ).stdout
    assert str(folder) in where
