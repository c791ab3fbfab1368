from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyDroppedError, ProxyError
from phonesearch.files import write_json
from phonesearch.proxy import loop
from phonesearch.proxy.checkpoint import read_snapshot
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import Watch, learning_rate_factor, rung_steps, steps_before_cooldown
from phonesearch.proxy.result import TrainedProxy
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.train import train_proxy, train_shrunk, trunk_path

REFERENCE = 1_350_000_000
CPU = torch.device("cpu")


@pytest.fixture
def proxy(settings: ProxySettings, full_size: Candidate) -> Candidate:
    return shrink(full_size, settings, reference_parameters=REFERENCE)


@pytest.fixture
def unbroken(proxy: Candidate, corpus: Corpus, settings: ProxySettings) -> TrainedProxy:
    return train_shrunk(proxy, corpus, settings)


def same(one: TrainedProxy, other: TrainedProxy) -> bool:
    """All but the time that it took."""
    return replace(one.loss, seconds=0) == replace(other.loss, seconds=0) and (
        one.windows == other.windows
    )


def stop_after(steps: int) -> Watch:
    seen: list[int] = []
    return Watch(
        progress=lambda tokens, total: seen.append(tokens), should_stop=lambda: len(seen) >= steps
    )


def steps_of(watch_list: list[int]) -> Watch:
    return Watch(progress=lambda tokens, total: watch_list.append(tokens))


@pytest.mark.parametrize("stop", [1, 45, 79], ids=["warm-up", "trunk", "cooldown"])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    stop: int,
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with pytest.raises(ProxyError, match="told to stop after"):
        train_shrunk(proxy, corpus, settings, watch=stop_after(stop), checkpoint=state)
    snapshot = read_snapshot(state, device=CPU)
    assert snapshot is not None
    assert stop <= snapshot.step < stop + 21
    made: list[int] = []
    again = train_shrunk(proxy, corpus, settings, watch=steps_of(made), checkpoint=state)
    assert same(again, unbroken)
    assert len(made) == settings.num_steps - snapshot.step
    assert again.loss.seconds > snapshot.seconds
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
import torch
from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import Watch
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.train import train_shrunk

torch.set_num_threads(1)
folder = Path(sys.argv[1])
train_shrunk(
    files.read(folder / "proxy.json", Candidate),
    files.read(folder / "corpus.json", Corpus),
    files.read(folder / "settings.json", ProxySettings),
    watch=Watch(progress=lambda tokens, total: print(tokens, flush=True)),
    checkpoint=folder / "state",
    checkpoint_interval_s=0.0,
)
"""


def test_a_training_that_was_killed_ends_as_one_that_was_not(
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
) -> None:
    write_json(tmp_path / "proxy.json", asdict(proxy))
    write_json(tmp_path / "settings.json", asdict(settings))
    write_json(tmp_path / "corpus.json", {**asdict(corpus), "folder": str(corpus.folder)})
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 55 * 128:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    made: list[int] = []
    state = tmp_path / "state"
    again = train_shrunk(proxy, corpus, settings, watch=steps_of(made), checkpoint=state)
    assert same(again, unbroken)
    assert len(made) <= settings.num_steps - 54
    assert not state.exists()


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"matrix_lr": 0.01}, {"batch_size": 2, "tokens": 6400}],
    ids=lambda change: next(iter(change)),
)
def test_a_state_of_another_training_is_not_gone_on_from(
    change: dict[str, float],
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    other = replace(settings, **change)  # type: ignore[arg-type]
    with pytest.raises(ProxyError):
        train_shrunk(proxy, corpus, other, watch=stop_after(50), checkpoint=state)
    made: list[int] = []
    again = train_shrunk(
        proxy, corpus, settings, watch=steps_of(made), checkpoint=state, checkpoint_interval_s=0
    )
    assert len(made) == settings.num_steps
    assert same(again, unbroken)


def test_a_state_of_another_proxy_is_not_gone_on_from(
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    other = replace(proxy, hidden_act="gelu")
    with pytest.raises(ProxyError):
        train_shrunk(other, corpus, settings, watch=stop_after(50), checkpoint=state)
    assert same(train_shrunk(proxy, corpus, settings, checkpoint=state), unbroken)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_state_is_not_gone_on_from(
    damage: str,
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = tmp_path / "state"
    with pytest.raises(ProxyError):
        train_shrunk(proxy, corpus, settings, watch=stop_after(50), checkpoint=state)
    content = bytearray(state.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    state.write_bytes(
        {
            "truncated": bytes(content[:-1000]),
            "flipped": bytes(content),
            "empty": b"",
            "foreign": b"\x80\x04\x95 a pickle",
        }[damage]
    )
    assert same(train_shrunk(proxy, corpus, settings, checkpoint=state), unbroken)
    assert "starts anew" in caplog.text


def test_a_longer_training_goes_on_from_the_trunk_of_a_shorter_one(
    proxy: Candidate, corpus: Corpus, settings: ProxySettings, tmp_path: Path
) -> None:
    """100 steps cool down over the last 30, 150 over the last 45, 200 over the last 60. A step at
    the full rate is the last in common, so trunks lie at 71, 106 and 141."""
    state = tmp_path / "state"
    train_shrunk(proxy, corpus, settings, checkpoint=state, keep_trunk=True)
    for factor, common in ((1.5, 71), (2.0, 106)):
        longer = replace(settings, tokens=int(settings.tokens * factor))
        made: list[int] = []
        extended = train_shrunk(
            proxy, corpus, longer, watch=steps_of(made), checkpoint=state, keep_trunk=True
        )
        assert len(made) == longer.num_steps - common
        assert same(extended, train_shrunk(proxy, corpus, longer))
        assert not state.exists()
        assert trunk_path(state).exists()


def test_a_state_from_the_cooldown_serves_no_other_length(
    proxy: Candidate, corpus: Corpus, settings: ProxySettings, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with pytest.raises(ProxyError):
        train_shrunk(proxy, corpus, settings, watch=stop_after(85), checkpoint=state)
    trunk_path(state).unlink()
    longer = replace(settings, tokens=settings.tokens * 2)
    made: list[int] = []
    extended = train_shrunk(proxy, corpus, longer, watch=steps_of(made), checkpoint=state)
    assert len(made) == longer.num_steps
    assert same(extended, train_shrunk(proxy, corpus, longer))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 100, 2734])
def test_the_steps_in_common_are_those_of_the_same_learning_rate(
    share: float, num_steps: int
) -> None:
    settings = ProxySettings(tokens=num_steps * 256, cooldown_share=share, warmup_steps=3)
    endless = replace(settings, tokens=10**9)
    factors = [learning_rate_factor(step, settings) for step in range(num_steps)]
    without_end = [learning_rate_factor(step, endless) for step in range(num_steps)]
    common = steps_before_cooldown(num_steps, settings)
    assert factors[:common] == without_end[:common]
    assert common == num_steps or loop._down(common, num_steps, settings) < 1


def test_a_training_that_diverges_leaves_no_state(
    corpus: Corpus,
    settings: ProxySettings,
    full_size: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def learning_rate(step: int, settings: ProxySettings) -> float:
        return 1.0 if step < 70 else float("nan")

    monkeypatch.setattr(loop, "learning_rate_factor", learning_rate)
    with pytest.raises(ProxyError, match="not finite by step 81 of 100"):
        train_proxy(
            full_size,
            corpus,
            replace(settings, cooldown_share=0.5),
            reference_parameters=REFERENCE,
            checkpoint=tmp_path / "state",
            checkpoint_interval_s=0.0,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_state_and_not_the_training(
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phonesearch.proxy.checkpoint.write_bytes", full)
    state = tmp_path / "state"
    assert same(train_shrunk(proxy, corpus, settings, checkpoint=state), unbroken)
    assert "No space left on device" in caplog.text


def test_states_are_written_no_more_often_than_asked(
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(loop, "write_snapshot", lambda path, snapshot: written.append(path))
    started_s = time.monotonic()
    train_shrunk(proxy, corpus, settings, checkpoint=tmp_path / "state", checkpoint_interval_s=0.2)
    states = [path for path in written if path == tmp_path / "state"]
    assert 0 < len(states) <= (time.monotonic() - started_s) / 0.2


def test_rungs_are_points_of_the_curve_before_the_cooldown(
    unbroken: TrainedProxy, proxy: Candidate, corpus: Corpus, settings: ProxySettings
) -> None:
    asked: list[tuple[int, float]] = []

    def never(tokens: int, loss_nats: float) -> bool:
        asked.append((tokens, loss_nats))
        return False

    found = train_shrunk(proxy, corpus, settings, watch=Watch(is_hopeless=never))
    assert same(found, unbroken)
    assert len(asked) == len(rung_steps(settings.num_steps)) >= 5
    assert dict(asked).items() <= dict(unbroken.loss.curve).items()
    a_step = settings.batch_size * settings.context_length
    assert asked[-1][0] <= a_step * (steps_before_cooldown(settings.num_steps, settings) + 1)


def test_a_training_that_was_given_up_can_be_gone_on_with(
    unbroken: TrainedProxy,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    tmp_path: Path,
) -> None:
    path = tmp_path / "training"
    half = settings.tokens // 2
    with pytest.raises(ProxyDroppedError, match="given up after"):
        train_shrunk(
            proxy,
            corpus,
            settings,
            watch=Watch(is_hopeless=lambda tokens, loss_nats: tokens >= half),
            checkpoint=path,
        )
    steps: list[int] = []
    found = train_shrunk(proxy, corpus, settings, watch=steps_of(steps), checkpoint=path)
    assert same(found, unbroken)
    assert len(steps) <= 0.6 * settings.num_steps
