"""Values that tests of several rooms share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.phone.adb import Adb

_STUB = """#!/bin/sh
# Stands in adb's place: notes its arguments, and prints what a file holds for the command.
here=$(dirname "$0")
"$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >> "$here/calls"
[ "$1" = -s ] && shift 2
if [ "$1" = shell ] && ! [ -e "$here/shell.code" ]; then
    PATH="$here/bin:$PATH" exec sh -c "$(printf %s "$2" | sed "$(cat "$here/paths")")"
fi
cat "$here/$1.out"
cat "$here/$1.err" >&2
exit "$(cat "$here/$1.code")"
"""


class StubAdb:
    """A program in adb's place that prints what it is told to, or runs a phone's shell here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "adb"
        self.adb = Adb(program=self.program)
        self.phone = Adb(program=self.program, serial="S1")
        (folder / "bin").mkdir(parents=True)
        (folder / "data").mkdir()
        (folder / "paths").write_text(f"s#/data/local/tmp#{folder}/data#g\n")
        self.program.write_text(_STUB.replace("$PYTHON", sys.executable))
        self.program.chmod(0o755)
        self.says("devices", "List of devices attached\nS1  device model:Stub_1\n")
        self.says("version", "Android Debug Bridge version 1.0.41\nVersion 29.0.6-debian\n")

    def says(self, command: str, out: str, err: str = "", code: int = 0) -> None:
        """What `adb COMMAND` prints from now on."""
        for ending, text in (("out", out), ("err", err), ("code", str(code))):
            (self.folder / f"{command}.{ending}").write_text(text)

    def has(self, tool: str, script: str) -> None:
        """Give the phone a program of its own."""
        (self.folder / "bin" / tool).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / tool).chmod(0o755)

    def replaces(self, path: str, by: Path) -> None:
        """Let a path of the phone be one of this machine."""
        with (self.folder / "paths").open("a") as stream:
            stream.write(f"s#{path}#{by}#g\n")

    @property
    def calls(self) -> list[list[str]]:
        """Arguments of every call, in order."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def stub_adb(tmp_path: Path) -> StubAdb:
    """A program in adb's place, with one phone, S1, whose shell is that of this machine."""
    return StubAdb(tmp_path / "stub-adb")


@pytest.fixture
def tiny() -> Candidate:
    """Two layers of width 64 with grouped heads, small enough to run everywhere."""
    return Candidate(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
