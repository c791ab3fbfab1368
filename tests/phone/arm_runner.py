"""Runs the runner that ships under qemu, without a phone around it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakephone_arm import wrap
from fakephone_state import State

from phonesearch.phone.runner import RUNNER
from phonesearch.timing.exchange import Stretch


@dataclass(frozen=True)
class Ran:
    """How the runner ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    lines: list[dict[str, Any]]
    text: str

    @property
    def last(self) -> dict[str, Any]:
        """The line by which success is told."""
        return self.lines[-1]

    def samples(self, stretch: int) -> list[int]:
        """Nanoseconds of all rounds."""
        return [
            sample
            for line in self.lines
            if line["event"] == "samples" and line["stretch"] == stretch
            for sample in line["ns"]
        ]


def words(stretches: Sequence[Stretch]) -> list[str]:
    """The arguments that ask for them."""
    return [
        word
        for each in stretches
        for word in (
            "--stretch",
            f"{each.new_tokens}:{each.past_tokens}:{each.steps}:{each.repeats}"
            f":{each.settling_steps}",
        )
    ]


@dataclass(frozen=True)
class ArmRunner:
    """The runner on a fake processor whose state can be changed."""

    root: Path
    library: Path

    @property
    def state(self) -> State:
        """Of the machine that it believes to run on."""
        return State(self.root)

    def run(self, *arguments: str | Path, timeout_s: float = 60) -> Ran:
        """With just these arguments."""
        program = self.root / "runner"
        program.write_bytes(wrap(self.root, RUNNER.read_bytes()))
        program.chmod(0o755)
        self.state.render()
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
        return Ran(done.returncode, lines, done.stdout + done.stderr)

    def time(
        self,
        model: Path,
        stretches: Sequence[Stretch],
        *more: str | Path,
        capacity: int | None = None,
        threads: int = 2,
        warmup_rounds: int = 0,
        rounds: int = 1,
    ) -> Ran:
        """Stretches of a model."""
        longest = max(stretch.longest for stretch in stretches)
        return self.run(
            *("--lib", self.library, "--model", model, "--threads", str(threads)),
            *("--capacity", str(capacity or longest), "--warmup-rounds", str(warmup_rounds)),
            *("--rounds", str(rounds), *words(stretches), "--max-seconds", "50", *more),
        )
