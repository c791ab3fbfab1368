"""What the README says is there is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from phonesearch.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    " ".join((*group, name)): command
    for group, commands in (
        ((), typer.main.get_command(app).commands),  # type: ignore[attr-defined]
    )
    for name, command in commands.items()
    if not hasattr(command, "commands")
} | {
    f"{name} {sub}": command
    for name, group in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    if hasattr(group, "commands")
    for sub, command in group.commands.items()
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert name in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_options_in_the_readme_exist() -> None:
    known = {
        option
        for command in COMMANDS.values()
        for parameter in command.params
        for option in parameter.opts
    } | {"--help", "--extra-index-url"}
    written = set(re.findall(r"--[a-z][a-z-]+", README))
    assert written
    assert written <= known


def test_benchmarks_and_files_named_in_the_readme_exist() -> None:
    named = re.findall(
        r"(?:benchmarks|src/phonesearch|device_profiles|search_spaces)/[\w/.]+", README
    )
    assert named
    for path in named:
        assert (ROOT / path.rstrip(".").rstrip("/")).exists(), path


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)|^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target[0] or target[1]}:", makefile, flags=re.MULTILINE)


def test_every_room_is_on_the_map() -> None:
    for path in (ROOT / "src" / "phonesearch").glob("*/__init__.py"):
        assert f"  {path.parent.name}/" in README


def test_each_benchmark_states_a_command_that_names_itself() -> None:
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert scripts
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert f"python benchmarks/{path.name}" in text.split('"""')[1], path
        assert f"benchmarks/{path.name}" in README, path
