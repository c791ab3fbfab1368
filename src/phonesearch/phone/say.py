"""What somebody is told who waits for a phone: one line at a time, as things happen."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line; where it goes is the caller's."""


def say_nothing(_: str) -> None:
    """For callers that want to hear nothing."""
