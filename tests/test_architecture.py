"""Keeps the rooms in order: who may import whom, and what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import phonesearch

PACKAGE = Path(phonesearch.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [
    "errors",
    "units",
    "files",
    "locks",
    "catalog",
    "candidate",
    "space",
    "quality",
    "model",
    "onnx_export",
    "device",
    "timing",
    "phone",
    "proxy",
    "sampling",
    "study",
    "front",
    "report",
    "trainer_export",
    "cli",
]
LIBRARY_ROOMS = {
    "optuna": {"sampling", "study"},
    "sqlalchemy": {"study"},
    "ray": {"study"},
    "plotly": {"report"},
    "matplotlib": {"report"},
    "typer": {"cli"},
    "rich": {"cli"},
    "platformdirs": {"cli"},
    "pydantic": {"files"},
    "yaml": {"files"},
    "onnxruntime": {"onnx_export", "timing", "phone"},
    "torch": {"model", "onnx_export", "proxy", "sampling", "study", "trainer_export"},
    "transformers": set(),
    "tokenizers": {"proxy"},
    "gguf": {"trainer_export"},
    "executorch": {"trainer_export"},
    "torchao": {"trainer_export"},
    "pyarrow": {"proxy"},
    "datasets": {"proxy"},
    "huggingface_hub": {"proxy"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "phonesearch":
                found |= {f"phonesearch.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_rooms_import_only_earlier_rooms(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        assert not {module for module in imported_modules(path) if module.startswith("phonesearch")}
        return
    imported = {
        module.split(".")[1]
        for module in imported_modules(path)
        if module.startswith("phonesearch.") and module != "phonesearch.__version__"
    }
    late = {other for other in imported if ROOMS.index(other) > ROOMS.index(room)}
    assert not late, f"{room} comes before {sorted(late)} and must not import them"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_each_library_stays_in_its_rooms(path: Path) -> None:
    room = room_of(path)
    strays = {
        module
        for module in imported_modules(path)
        if room not in LIBRARY_ROOMS.get(module.split(".")[0], {room})
    }
    assert not strays


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_every_room_says_what_it_is_for() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, phonesearch.cli\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'optuna', 'pandas', 'plotly', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
