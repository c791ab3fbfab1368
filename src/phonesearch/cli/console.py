"""What a running search shows on stderr: lines that stay, and bars where there is a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import rich.console
import rich.text
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from phonesearch.units import format_seconds

if TYPE_CHECKING:
    from phonesearch.candidate.config import Candidate
    from phonesearch.device.speed import Speed
    from phonesearch.study.anchors import Anchor
    from phonesearch.study.deadline import Deadline
    from phonesearch.study.record import TrialRecord
    from phonesearch.study.score import Score

_LINE_INTERVAL_S = 30.0
"""Between lines on the state of trainings, where there is no terminal to draw bars on."""


def cache_dir() -> Path:
    """Where tokenised corpora are kept between runs."""
    return platformdirs.user_cache_path("phonesearch")


@contextmanager
def console() -> Iterator[Console]:
    """A console that leaves the terminal as it found it."""
    shown = Console()
    try:
        yield shown
    finally:
        shown.close()


class Console:
    """A `phonesearch.study.observer.RunObserver` that prints."""

    def __init__(self) -> None:
        self._console = rich.console.Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._overall: TaskID | None = None
        self._bars: dict[int, TaskID] = {}
        self._shares: dict[int, float] = {}
        self.deadline: Deadline | None = None
        """When the run has to end, if it was given a time."""
        self._trials = 0
        self._finished = 0
        self._started_s = time.monotonic()
        self._work_started_s = time.monotonic()
        self._last_line_s = time.monotonic()
        self._new = 0
        self._fastest: tuple[float, str] | None = None
        self._best: tuple[int, Score] | None = None
        self._anchors = self._anchors_finished = 0
        self._anchors_new = 0.0  # how many were trained by this process, parts of them too
        self._anchor_name = "anchors"
        self._anchor_shares: dict[int, float] = {}
        self._anchor_bar: TaskID | None = None

    def say(self, message: str) -> None:
        """One line, with the time since the start."""
        elapsed = format_seconds(time.monotonic() - self._started_s)
        line = rich.text.Text.assemble((f"{elapsed:>8}  ", "dim"), message)
        self._console.print(line, soft_wrap=True)

    def resumed(self, records: tuple[TrialRecord, ...], trials: int) -> None:
        """Start the bars where the run stands."""
        self._trials, self._finished = trials, len(records)
        self._work_started_s = time.monotonic()
        for record in records:
            self._remember(record)
        if records:
            of_all = "" if self.deadline is not None else f" of {trials}"
            self.say(f"{len(records)}{of_all} trials are finished already")
        if len(records) < trials:
            self._start_bars()
        if self._progress is not None:
            self._overall = self._progress.add_task(
                "candidates", total=trials, completed=len(records), note=""
            )

    def wanted(self, trials: int) -> None:
        """Lengthen the bar."""
        self._trials = trials
        if self._progress is not None and self._overall is not None:
            self._progress.update(self._overall, total=trials)

    def _start_bars(self) -> None:
        """Where there is a terminal to draw on."""
        if not self._console.is_terminal or self._progress is not None:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        self._progress.start()

    def anchors(self, count: int, finished: int, what: str) -> None:
        """A bar for all of them."""
        self._anchors, self._anchors_finished, self._anchors_new = count, finished, 0.0
        self._anchor_shares = {}
        self._anchor_name = what.partition(";")[0]
        self._work_started_s = time.monotonic()
        self.say(f"Training {count - finished} of {count} {what}")
        self._start_bars()
        if self._progress is not None:
            self._anchor_bar = self._progress.add_task(
                self._anchor_name, total=count, completed=finished, note=""
            )

    def training_anchor(self, number: int, tokens: int, total_tokens: int) -> None:
        """Move the bar, or say how far they are."""
        share = min(tokens / total_tokens, 1.0)
        # What the first call tells of was there before: the trunk of a shorter training.
        self._anchors_new += share - self._anchor_shares.setdefault(number, share)
        self._anchor_shares[number] = share
        done = self._anchors_finished + sum(self._anchor_shares.values())
        note = ""
        if self._anchors_new > 0.2:
            elapsed_s = time.monotonic() - self._work_started_s
            left_s = elapsed_s / self._anchors_new * (self._anchors - done)
            note = f"{_coarse(left_s)} left"
        if self._progress is not None and self._anchor_bar is not None:
            self._progress.update(self._anchor_bar, completed=done, note=note)
        elif time.monotonic() - self._last_line_s > _LINE_INTERVAL_S:
            self._last_line_s = time.monotonic()
            told = f"   {done:.1f} of {self._anchors} {self._anchor_name}"
            self.say("; ".join(filter(None, (told, note))))

    def anchor(self, number: int, anchor: Anchor) -> None:
        """A line on it."""
        self._anchors_new += 1 - self._anchor_shares.pop(number, 1.0)
        self._anchors_finished += 1
        place = f"{self._anchors_finished} of {self._anchors} {self._anchor_name}"
        self.say(f"{place}: {describe_anchor(anchor)}")
        if self._anchors_finished == self._anchors:
            self._work_started_s = time.monotonic()
            if self._progress is not None and self._anchor_bar is not None:
                self._progress.remove_task(self._anchor_bar)
                self._anchor_bar = None

    def timed(self, trial: int, candidate: Candidate, speed: Speed) -> None:
        """A bar for the proxy that will now be trained, or a line."""
        shape = f"{candidate.num_hidden_layers} x {candidate.hidden_size}"
        self._shares[trial] = 0.0
        if self._progress is not None:
            self._bars[trial] = self._progress.add_task(
                f"  trial {trial}", total=1.0, note=f"training the proxy of {shape}"
            )

    def training(self, trial: int, tokens: int, total_tokens: int) -> None:
        """Move the bars."""
        self._shares[trial] = min(tokens / total_tokens, 1.0)
        if self._progress is None and time.monotonic() - self._last_line_s > _LINE_INTERVAL_S:
            self._last_line_s = time.monotonic()
            shares = ", ".join(f"{name} at {share:.0%}" for name, share in self._shares.items())
            told = f"   training the proxies of trials {shares}"
            self.say("; ".join(filter(None, (told, self._standing()))))
        if self._progress is not None and trial in self._bars and self._overall is not None:
            self._progress.update(self._bars[trial], completed=self._shares[trial])
            self._progress.update(
                self._overall,
                completed=self._finished + sum(self._shares.values()),
                note=self._standing(),
            )

    def finished(self, record: TrialRecord) -> None:
        """A line on the trial, and the best so far."""
        self._finished += 1
        self._new += 1
        self._shares.pop(record.number, None)
        line = f"trial {record.number}: {describe(record, self._best)}"
        self._remember(record)
        if self._progress is not None and self._overall is not None:
            if record.number in self._bars:
                self._progress.remove_task(self._bars.pop(record.number))
            self._progress.update(
                self._overall,
                completed=self._finished + sum(self._shares.values()),
                note=self._standing(),
            )
        self.say(line)
        if self._progress is None:
            of_all = "" if self.deadline is not None else f" of {self._trials}"
            self.say(f"   {self._finished}{of_all} candidates; {self._standing()}")

    def close(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _remember(self, record: TrialRecord) -> None:
        if record.state != "complete" or record.speed is None or record.score is None:
            return
        pace = record.speed.decode_tokens_per_s
        if self._fastest is None or pace > self._fastest[0]:
            self._fastest = (pace, _source(record))
        if _is_censored(record):
            return
        if self._best is None or record.score.log_loss < self._best[1].log_loss:
            self._best = record.number, record.score

    def _standing(self) -> str:
        parts = []
        if self._fastest is not None:
            pace, source = self._fastest
            parts.append(f"fastest decode {pace:.4g} tokens/s ({source})")
        if self._best is not None:
            number, score = self._best
            untrained = " (nothing trained)" if score.kind == "prior" else ""
            parts.append(f"lowest loss expected of trial {number}{untrained}")
        done = self._new + sum(self._shares.values())
        if self.deadline is not None:
            parts.append(f"{_coarse(max(0.0, self.deadline.left_s))} left")
        elif done > 0.2:
            elapsed_s = time.monotonic() - self._work_started_s
            left_s = elapsed_s / done * (self._trials - self._finished - sum(self._shares.values()))
            parts.append(f"{_coarse(left_s)} left")
        return ", ".join(parts)


def _coarse(left_s: float) -> str:
    """Time left, no finer than such a guess is."""
    if left_s < 10:
        return "under 10 s"
    if left_s < 90:
        return f"about {round(left_s / 10) * 10} s"
    return f"about {round(left_s / 60)} min"


def _source(record: TrialRecord) -> str:
    return "measured" if record.measured is not None else "predicted"


def describe_anchor(anchor: Anchor) -> str:
    """One line on a short training."""
    candidate, loss = anchor.candidate, anchor.trained
    shape = (
        f"{candidate.ffn_type} {candidate.hidden_act}, feed-forward "
        f"{candidate.intermediate_size / candidate.hidden_size:.2f} x width, "
        f"{candidate.num_attention_heads}/{candidate.num_key_value_heads} heads"
    )
    if loss is None:
        return f"{shape}: failed, {anchor.reason}"
    note = "" if loss.passed_transition else ", not used: has not learned to copy yet"
    return f"{shape}: {loss.bits_per_byte:.3f} bits/byte{note}, {format_seconds(loss.seconds)}"


def describe(record: TrialRecord, best: tuple[int, Score] | None) -> str:
    """One line on what was found out about a candidate.

    Args:
        record: The candidate.
        best: Trial of the lowest loss before it, and its score; None if it is the first.
    """
    candidate = record.candidate
    shape = (
        f"{candidate.num_hidden_layers} x {candidate.hidden_size}, "
        f"{candidate.num_attention_heads}/{candidate.num_key_value_heads} heads, "
        f"{candidate.ffn_type} {candidate.hidden_act} {candidate.intermediate_size}"
    )
    if record.state != "complete" or record.speed is None or record.score is None:
        return f"{shape}: {record.state}, {record.reason}"
    own = f", {record.proxy.bits_per_byte:.3f} bits/byte" if record.proxy is not None else ""
    loss = "not ranked: has not learned to copy yet"
    if not _is_censored(record):
        loss = _loss_so_far(record.score, best)
    return (
        f"{shape}: decode {record.speed.decode_tokens_per_s:.4g} tokens/s "
        f"({_source(record)}){own}, {loss}, {format_seconds(record.seconds)}"
    )


def _is_censored(record: TrialRecord) -> bool:
    return record.proxy is not None and not record.proxy.passed_transition


def _loss_so_far(score: Score, best: tuple[int, Score] | None) -> str:
    """Against the lowest before, as a loss alone says nothing."""
    untrained = ", nothing trained" if score.kind == "prior" else ""
    if best is None:
        return f"first expected loss{untrained}"
    from phonesearch.front.pareto import score_against

    number, lowest = best
    apart = score_against(score, lowest)
    where = "below" if apart.log_difference < 0 else "above"
    return (
        f"expected loss {abs(apart.fraction) * 100:.1f} % +- {apart.sd * 100:.1f} % {where} the "
        f"lowest so far (trial {number}{untrained})"
    )
