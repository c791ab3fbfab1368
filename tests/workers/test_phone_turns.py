"""Two workers that share a phone wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from phonesearch.cli import phone_device, phone_turns
from phonesearch.cli.phone_turns import PhoneTurns
from phonesearch.errors import PhoneInUseError


class Pool:
    """In the place of phones; some are held by others at first."""

    busy: Iterator[str]
    entered: list[str]
    left: list[str]

    def __init__(self, device: str) -> None:
        self.device = device
        self.fingerprint = f"a phone, {device}"

    def __enter__(self) -> Pool:
        Pool.entered.append(self.device)
        if next(Pool.busy, ""):
            raise PhoneInUseError(self.device)
        return self

    def __exit__(self, *given: Any) -> None:
        Pool.left.append(self.device)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> tuple[PhoneTurns, list[str], list[bool]]:
    Pool.entered, Pool.left = [], []
    said: list[str] = []
    stop: list[bool] = []
    monkeypatch.setattr(phone_device, "phone_pool", lambda device, **given: Pool(device))
    monkeypatch.setattr(phone_turns, "_POLL_S", 0.0)
    made = PhoneTurns(
        "adb:A,adb:B", cpus=None, threads=None, say=said.append, should_stop=lambda: bool(stop)
    )
    return made, said, stop


def test_a_phone_that_is_in_use_is_waited_for(turns: Any) -> None:
    made, said, _ = turns
    Pool.busy = iter(["A", "B", "A", "B", "A"])
    assert made.fingerprint == "a phone, adb:B"
    assert Pool.entered == ["adb:A", "adb:B"] * 3
    assert Pool.left == ["adb:B"]
    assert said == ["Waiting for a phone, as another session measures on it"]


def test_a_worker_that_is_told_to_stop_waits_no_longer(turns: Any) -> None:
    made, _, stop = turns
    Pool.busy = iter(["A", "B"])
    stop.append(True)
    with pytest.raises(PhoneInUseError):
        _ = made.fingerprint
