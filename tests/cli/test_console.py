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
