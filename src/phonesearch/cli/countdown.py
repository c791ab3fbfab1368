"""Progress of a known number of like steps: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from phonesearch.units import format_seconds

_LINE_INTERVAL_S: Final = 20.0


class Countdown:
    """Tells on stderr what is being done, how far it is, and how long it still takes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started_s = time.monotonic()
        self._last_line_s = 0.0
        self._console = rich.console.Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
            )
            self._task = self._bar.add_task(what, total=None, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            if error is None:
                total = self._bar.tasks[0].total
                self._bar.update(self._task, completed=total, note="")
            self._bar.stop()

    def say(self, message: str) -> None:
        """One line, above the bar."""
        self._console.print(message, soft_wrap=True, markup=False)

    def begin(self, note: str, done: int, total: int) -> None:
        """The next step begins, after `done` of `total`, which may have changed."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
            return
        now_s = time.monotonic()
        if done and now_s - self._last_line_s < _LINE_INTERVAL_S:
            return
        self._last_line_s = now_s
        left = ""
        if done:
            left_s = (now_s - self._started_s) / done * (total - done)
            left = f", about {format_seconds(left_s)} left"
        self._console.print(f"{self._what}: {done} of {total}{left}", soft_wrap=True)
