"""Whoever wants to know how a run is going: the command line's progress bar, or a test."""

from __future__ import annotations

from typing import Protocol

from phonesearch.candidate.config import Candidate
from phonesearch.device.speed import Speed
from phonesearch.study.anchors import Anchor
from phonesearch.study.record import TrialRecord


class RunObserver(Protocol):
    """Told of every step. Nothing it does changes the run."""

    def say(self, message: str) -> None:
        """One line on what is being done."""
        ...

    def resumed(self, records: tuple[TrialRecord, ...], trials: int) -> None:
        """The trials that are already finished, of so many to come in all."""
        ...

    def wanted(self, trials: int) -> None:
        """Trials that there are to be in all by now: those given up make room for more."""
        ...

    def anchors(self, count: int, finished: int, what: str) -> None:
        """So many short trainings are to be made in all, of which some are finished already.

        `what` they are, in the plural, then what for.
        """
        ...

    def training_anchor(self, number: int, tokens: int, total_tokens: int) -> None:
        """One of them has seen so many of its tokens."""
        ...

    def anchor(self, number: int, anchor: Anchor) -> None:
        """One of them is over and stored."""
        ...

    def timed(self, trial: int, candidate: Candidate, speed: Speed) -> None:
        """A candidate has its speed, and waits for its proxy to be trained."""
        ...

    def training(self, trial: int, tokens: int, total_tokens: int) -> None:
        """A proxy has seen so many of its tokens."""
        ...

    def finished(self, record: TrialRecord) -> None:
        """A trial is over and stored."""
        ...


class Silent:
    """The observer that does not care."""

    def say(self, message: str) -> None:
        """Nothing."""

    def resumed(self, records: tuple[TrialRecord, ...], trials: int) -> None:
        """Nothing."""

    def wanted(self, trials: int) -> None:
        """Nothing."""

    def anchors(self, count: int, finished: int, what: str) -> None:
        """Nothing."""

    def training_anchor(self, number: int, tokens: int, total_tokens: int) -> None:
        """Nothing."""

    def anchor(self, number: int, anchor: Anchor) -> None:
        """Nothing."""

    def timed(self, trial: int, candidate: Candidate, speed: Speed) -> None:
        """Nothing."""

    def training(self, trial: int, tokens: int, total_tokens: int) -> None:
        """Nothing."""

    def finished(self, record: TrialRecord) -> None:
        """Nothing."""
