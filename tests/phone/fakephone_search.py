"""A whole `phonesearch run` on the fake phone, in a process of its own; and what it has kept.

    python fakephone_search.py run --device adb ...

types that, with the library for ARM set up and steadiness not asked of an emulator. Nothing else is
changed: candidates are drawn, exported, pushed, timed, and their proxies trained.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["all", "front"]
TRIALS = 3
"""Of each run; with `front` as many as are measured before their errors tell of others."""
HANGS_AFTER_S = 300.0
GO_ON = "Go on with: phonesearch run --resume"
NOT_BEGUN = "Nothing was begun: no folder was made."
_ERROR_CLASS = "class of the error: "


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    exit_code: int | None
    """None if it hung, and was killed."""
    said: str
    """Both its streams."""
    seconds: float

    @property
    def error(self) -> str:
        """Class of the deliberate error that it told of; empty if it did not."""
        return self.said.rpartition(_ERROR_CLASS)[2].split("\n")[0] if self.is_told else ""

    @property
    def is_told(self) -> bool:
        """Whether it ended in a deliberate error and no other, which is printed."""
        return (
            self.exit_code == 1
            and _ERROR_CLASS in self.said
            and "\nerror: " in self.said
            and "Traceback" not in self.said
        )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a run has on the disk that it must not lose: bytes, as they are."""

    lines: tuple[bytes, ...]
    """Of `measurements.jsonl`."""
    trials: dict[int, tuple[Any, ...]]
    """Rows of the database on each trial that is over, by number."""

    @classmethod
    def of(cls, folder: Path) -> Kept:
        """As it is now, also while the run goes on."""
        measured = folder / "measurements.jsonl"
        lines = measured.read_bytes().splitlines(keepends=True) if measured.is_file() else []
        trials: dict[int, tuple[Any, ...]] = {}
        database = folder / "study.db"
        if database.is_file():
            with (
                suppress(sqlite3.OperationalError),  # its tables are just being made
                closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened,
            ):
                trials = _finished(opened)
        return cls(lines=tuple(lines), trials=trials)

    def lost(self, later: Kept) -> list[str]:
        """What `later` lacks, or has otherwise."""
        problems = []
        if later.lines[: len(self.lines)] != self.lines:
            problems.append("lines of measurements.jsonl were lost or changed")
        problems += [
            f"trial {number}, which was over, was lost or changed"
            for number, rows in self.trials.items()
            if later.trials.get(number) != rows
        ]
        return problems


def _finished(database: sqlite3.Connection) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    over = "SELECT trial_id, number, state FROM trials WHERE state IN ('COMPLETE', 'FAIL')"
    for trial, number, state in database.execute(over).fetchall():
        rows = [
            database.execute(
                f"SELECT {columns} FROM {table} WHERE trial_id = ? ORDER BY 1", (trial,)
            ).fetchall()
            for table, columns in (
                ("trial_user_attributes", "key, value_json"),
                ("trial_params", "param_name, param_value"),
                ("trial_values", "objective, value"),
            )
        ]
        found[number] = (state, rows)
    return found


class Searches:
    """Runs on one phone, each in a folder of its own."""

    def __init__(self, folder: Path, serial: str) -> None:
        self._folder = folder
        self._serial = serial
        self._text = folder / "text.txt"
        self._text.write_text(
            "".join(
                f"def f{n}(x, y={n % 7}):\n    return x * {n} + y - {n % 13}\n" for n in range(9000)
            )
        )
        self.good: dict[str, Any] = {}
        """A measurement that nothing disturbed, as it was kept."""

    def prepare(self) -> None:
        """A search by predictions whose front is still to be measured, copied by `command`."""
        template = self._folder / "front"
        ended = self.type(*self._new("front", template), "--profile", "snapdragon8gen3")
        assert ended.exit_code == 0, ended.said
        (template / "measurements.jsonl").unlink()

    def _new(self, kind: Kind, out: Path) -> tuple[str, ...]:
        return (
            *("run", "--device", f"adb:{self._serial}", "--measure", kind, "--space", "tiny"),
            *("--budget", "300k", "--trials", str(TRIALS), "--prompt", "8"),
            *("--generate", "4", "--proxy", "prior" if kind == "front" else "each"),
            *("--proxy-tokens", "20k", "--proxy-parameters", "20k"),
            *("--jobs", "1", "--data", str(self._text), "--out", str(out)),
        )

    def command(self, kind: Kind, out: Path) -> tuple[str, ...]:
        """What begins measuring a search, in a new folder."""
        shutil.rmtree(out, ignore_errors=True)
        if kind == "all":
            return self._new(kind, out)
        shutil.copytree(self._folder / "front", out)
        return ("run", "--resume", str(out))

    def type(
        self, *words: str, meanwhile: Callable[[Callable[[], bool]], None] | None = None
    ) -> Ended:
        """Run a command to its end.

        Args:
            words: Of the command, after `phonesearch`.
            meanwhile: Called once it runs, with a function that tells whether it still does.
        """
        start = time.monotonic()
        output = self._folder / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, __file__, *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "XDG_CACHE_HOME": str(self._folder / "cache"),
                },
            )
            try:
                if meanwhile is not None:
                    meanwhile(lambda: process.poll() is None)
                exit_code: int | None = process.wait(timeout=HANGS_AFTER_S)
            except subprocess.TimeoutExpired:
                exit_code = None
            finally:
                with suppress(ProcessLookupError):  # and its workers, where it left any
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = output.read_text(errors="replace")
        return Ended(exit_code=exit_code, said=said, seconds=time.monotonic() - start)

    def problems(self, kind: Kind, out: Path) -> list[str]:
        """What is wrong with a run that has come to its end."""
        from phonesearch.study.folder import open_folder
        from phonesearch.study.measurements import read_measurements
        from phonesearch.study.store import read_records

        found = [
            f"no {name}" for name in ("front.json", "report.html") if not (out / name).is_file()
        ]
        records = read_records(open_folder(out))
        measured = read_measurements(out)
        if len(Kept.of(out).trials) != TRIALS or len(records) != TRIALS:
            found.append(f"{len(records)} trials are over and not {TRIALS}")
        for record in records:
            of = measured.get(record.number)
            if of is None and record.measured is not None:
                found.append(f"trial {record.number}: a speed and no measurement")
            elif of is None and record.state == "complete" and kind == "all":
                found.append(f"trial {record.number}: complete without a measurement")
            elif of is not None and record.measured != of.measurement.speed:
                found.append(f"trial {record.number}: not the speed of its measurement")
        for line in Kept.of(out).lines:
            content = json.loads(line)
            found += [f"trial {content['number']}: {one}" for one in self._wrong(content)]
        if kind == "front":
            front = {
                one["number"] for one in json.loads((out / "front.json").read_text())["members"]
            }
            if not front or not front <= measured.keys():
                found.append(f"of the front {sorted(front)} are measured {sorted(measured)}")
        return found

    def _wrong(self, content: dict[str, Any]) -> list[str]:
        """What tells a measurement from a good one, its times excepted."""
        this, good = content["measurement"], self.good["measurement"]
        found = []
        for name in ("prefill_samples_s", "decode_samples_s"):
            samples = this[name]
            if len(samples) != len(good[name]) or not all(0 < each < 60 for each in samples):
                found.append(f"{name}: {samples}")
        found += [
            f"{name}: {this[name]}"
            for name in ("device", "engine", "num_threads", "warmup_runs")
            if this[name] != good[name]
        ]
        told, known = this["conditions"], good["conditions"]
        found += [
            f"{name}: {told[name]}"
            for name in ("phone", "library", "runner_sha256", "cpus_asked", "rounds")
            if told[name] != known[name]
        ]
        if told["cpus_granted"] != told["cpus_asked"]:
            found.append(f"ran on cores {told['cpus_granted']}")
        if not told["logits"] or told["logits"]["largest"] > 1e-4:
            found.append(f"logits: {told['logits']}")
        return found


def main(words: list[str]) -> None:
    """Type a command, with what a phone under emulation needs."""
    from fakephone_library import arm_library
    from fakephone_measure import GRACE_S, PLAIN, emulated
    from in_use import runtime_library
    from typer.core import TyperGroup

    from phonesearch.cli import app
    from phonesearch.errors import PhoneSearchError
    from phonesearch.phone import backend, runtime, session

    library = runtime_library(arm_library())
    runtime.installed = lambda _: library
    backend.PhoneSettings = emulated  # type: ignore[assignment, misc]
    session._GRACE_S = GRACE_S  # type: ignore[misc]
    session._WEIGHTS_LEAST_S = PLAIN.max_seconds  # type: ignore[misc]
    real = TyperGroup.invoke

    def invoke(self: TyperGroup, ctx: Any) -> Any:
        try:
            return real(self, ctx)
        except PhoneSearchError as error:
            print(f"\n{_ERROR_CLASS}{type(error).__name__}", file=sys.stderr)
            raise

    TyperGroup.invoke = invoke  # type: ignore[method-assign]
    app(words)


if __name__ == "__main__":
    main(sys.argv[1:])
