from __future__ import annotations

import io
import re

import pytest
import rich.console

from phonesearch.candidate.config import Candidate
from phonesearch.cli import console as module
from phonesearch.cli.console import Console
from phonesearch.device.profile import read_profile
from phonesearch.device.speed import Speed
from phonesearch.study.anchors import Anchor
from phonesearch.study.deadline import REPORT_S, Deadline
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score, ScoreKind
from phonesearch.study.stopwatch import Turn, predicted


@pytest.fixture
def speed(tiny: Candidate) -> Speed:
    return predicted(tiny, read_profile("snapdragon8gen3"), engine=None, turn=Turn()).speed


def shown_by(console: Console, *, terminal: bool) -> io.StringIO:
    stream = io.StringIO()
    console._console = rich.console.Console(file=stream, force_terminal=terminal, width=140)
    return stream


def test_a_line_stays_whole_while_bars_are_drawn(tiny: Candidate, speed: Speed) -> None:
    console = Console()
    stream = shown_by(console, terminal=True)
    console.resumed((), 4)
    console.timed(0, tiny, speed)
    console.say("a message [with] brackets")
    console.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert re.search(r"\d (us|ms|s)  a message \[with\] brackets\n", text)


def test_without_a_terminal_the_state_is_told_now_and_then(
    tiny: Candidate, speed: Speed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINE_INTERVAL_S", -1.0)
    console = Console()
    stream = shown_by(console, terminal=False)
    console.resumed((), 4)
    console.timed(2, tiny, speed)
    console.training(2, 50, 100)
    assert "training the proxies of trials 2 at 50%" in stream.getvalue()
    assert "left" in stream.getvalue()


@pytest.mark.parametrize(
    ("left_s", "text"),
    [(3.0, "under 10 s"), (44.0, "about 40 s"), (600.0, "about 10 min")],
)
def test_time_left_is_no_finer_than_the_guess(left_s: float, text: str) -> None:
    assert module._coarse(left_s) == text


def judged(
    number: int, candidate: Candidate, speed: Speed, log_loss: float, kind: ScoreKind
) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="complete",
        reason=None,
        candidate=candidate,
        candidate_id="id",
        num_parameters=1000,
        num_non_embedding_parameters=900,
        weight_bytes=500,
        peak_memory_bytes=700,
        predicted=speed,
        measured=None,
        prefill_seconds_by_operator=None,
        decode_seconds_by_operator=None,
        score=Score(
            kind=kind,
            log_loss=log_loss,
            law=log_loss,
            prior=0.0,
            proxy=0.0,
            shared=(0.5,),
            own_sd=0.003 if number else 0.004,
        ),
        proxy=None,
        started_at="2026-11-24T00:00:00+00:00",
        seconds=2.0,
    )


def test_a_loss_is_told_against_the_lowest_before_it(tiny: Candidate, speed: Speed) -> None:
    """hypot(0.3 %, 0.4 %) = 0.5 %; what the two share cancels."""
    console = Console()
    stream = shown_by(console, terminal=False)
    console.resumed((), 4)
    for number, log_loss in enumerate((0.10, 0.12, 0.09)):
        console.finished(judged(number, tiny, speed, log_loss, "anchors"))
    first, second, third = (
        line for line in stream.getvalue().splitlines() if "expected loss" in line
    )

    assert "first expected loss" in first
    assert "expected loss 2.0 % +- 0.5 % above the lowest so far (trial 0)" in second
    assert "expected loss 1.0 % +- 0.5 % below the lowest so far (trial 0)" in third
    assert "lowest loss expected of trial 2" in stream.getvalue()


def test_without_any_training_every_line_says_so(tiny: Candidate, speed: Speed) -> None:
    console = Console()
    stream = shown_by(console, terminal=False)
    console.resumed((), 4)
    for number in range(2):
        console.finished(judged(number, tiny, speed, -0.01 * number, "prior"))

    lines = [line for line in stream.getvalue().splitlines() if "loss" in line]
    assert len(lines) == 4
    assert all("nothing trained" in line for line in lines)


def test_time_left_is_told_by_what_was_trained_and_not_by_what_was_there(
    tiny: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two anchors from the cache; then two gone on with, of which 0.4 were there: 0.3 of each in
    60 s, the other 0.3 of each in 60 more."""
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    console = Console()
    console._console = rich.console.Console(file=io.StringIO(), width=200)
    anchor = Anchor(candidate=tiny, trained=None, reason="None was needed.")
    console.anchors(2, 0, "anchors")
    for number in (0, 1):
        console.anchor(number, anchor)
    console.anchors(2, 0, "anchors for longer")
    for number in (0, 1):
        console.training_anchor(number, 400, 1000)
    now = 60.0
    for number in (0, 1):
        console.training_anchor(number, 700, 1000)
    assert isinstance(console._console.file, io.StringIO)
    told = console._console.file.getvalue()
    assert "1.1 of 2 anchors for longer; about 3 min left" in told  # 0.3 of 2 in the minute
    now = 100.0
    console.training_anchor(1, 900, 1000)
    told = console._console.file.getvalue()
    assert told.rstrip().endswith("1.6 of 2 anchors for longer; about 50 s left")


def test_a_run_with_a_time_tells_what_is_left_of_it(tiny: Candidate, speed: Speed) -> None:
    console = Console()
    stream = shown_by(console, terminal=False)
    console.deadline = Deadline(time_s=REPORT_S + 600.0)
    console.resumed((), 2000)
    console.finished(judged(0, tiny, speed, 0.1, "prior"))
    told = stream.getvalue()
    assert "1 candidates; " in told
    assert "about 10 min left" in told
    assert "2000" not in told


def test_what_given_up_trainings_leave_is_counted(tiny: Candidate, speed: Speed) -> None:
    console = Console()
    stream = shown_by(console, terminal=False)
    console.resumed((), 4)
    console.wanted(6)
    console.finished(judged(0, tiny, speed, 0.1, "prior"))
    assert "1 of 6 candidates" in stream.getvalue()
