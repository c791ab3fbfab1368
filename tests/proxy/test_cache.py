from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyError
from phonesearch.files import write_json
from phonesearch.proxy import cache, recipe, train
from phonesearch.proxy.cache import cached_training, is_cached
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import Watch
from phonesearch.proxy.recipe import content_key, decides_loss
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink

CPU = torch.device("cpu")


@pytest.fixture
def short(settings: ProxySettings) -> ProxySettings:
    return replace(settings, tokens=2560, validation_windows=32)


@pytest.fixture
def proxy(short: ProxySettings, full_size: Candidate) -> Candidate:
    return shrink(full_size, short, reference_parameters=1_350_000_000)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps of every training that is made."""
    made: list[int] = []
    whole = train.train_model

    def counted(*args: object, watch: Watch, **kwargs: object) -> object:
        seen: list[int] = []

        def progress(tokens: int, total: int) -> None:
            seen.append(tokens)
            if watch.progress is not None:
                watch.progress(tokens, total)

        course = whole(*args, watch=replace(watch, progress=progress), **kwargs)  # type: ignore[arg-type]
        made.append(len(seen))
        return course

    monkeypatch.setattr(train, "train_model", counted)
    return made


def results(folder: Path) -> list[Path]:
    return sorted((folder / "proxies").glob("*.json"))


def test_a_training_is_made_once(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
) -> None:
    first = cached_training(tmp_path, proxy, corpus, short)
    again = cached_training(tmp_path, proxy, corpus, short)
    assert trainings == [20]
    assert not first.loss.from_cache
    assert again == replace(first, loss=replace(first.loss, from_cache=True))


def test_what_does_not_decide_the_loss_is_not_asked(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
) -> None:
    """The result says the recipe of who asks, not of who trained."""
    cached_training(tmp_path, proxy, corpus, short)
    moved = replace(corpus, description="the same text elsewhere")
    other = replace(
        short, parameters=21_000, horizon_tokens_per_parameter=50.0, data=("elsewhere",)
    )
    again = cached_training(tmp_path, proxy, moved, replace(other, tokens=short.tokens + 1))
    assert trainings == [20]
    assert again.loss.recipe["parameters"] == 21_000
    assert again.loss.recipe["corpus"] == "the same text elsewhere"
    assert again.loss.tokens == short.tokens


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"tokens": 5120},
        {"batch_size": 2},
        {"context_length": 16},
        {"matrix_lr": 0.01},
        {"other_lr": 0.01},
        {"weight_decay": 0.0},
        {"warmup_steps": 6},
        {"cooldown_share": 0.2},
        {"validation_windows": 33},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_that_decides_the_loss_is_in_the_key(
    change: dict[str, float], proxy: Candidate, corpus: Corpus, short: ProxySettings
) -> None:
    other = replace(short, **change)  # type: ignore[arg-type]
    keys = {content_key(decides_loss(proxy, corpus, one, device=CPU)) for one in (short, other)}
    assert len(keys) == 2


def test_shape_text_and_versions_are_in_the_key(
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(proxy: Candidate = proxy, corpus: Corpus = corpus) -> str:
        return content_key(decides_loss(proxy, corpus, short, device=CPU))

    keys = [
        key(),
        key(proxy=replace(proxy, hidden_act="gelu")),
        key(corpus=replace(corpus, fingerprint="other")),
    ]
    monkeypatch.setattr(recipe, "RECIPE_VERSION", 99)
    keys.append(key())
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_precision_is_in_the_key_as_it_is_here(
    proxy: Candidate, corpus: Corpus, short: ProxySettings
) -> None:
    """What `auto` stands for is one of the other two."""
    keys = [
        content_key(decides_loss(proxy, corpus, replace(short, precision=one), device=CPU))
        for one in ("float32", "bfloat16", "auto")
    ]
    assert keys[0] != keys[1]
    assert keys[2] in keys[:2]


def test_every_setting_is_in_the_key_or_said_to_be_decided_otherwise() -> None:
    """A setting that is added must be put into one of the lists, or be in the recipe."""
    otherwise = {*recipe._NOT_IN_RECIPE, *recipe._DECIDED_OTHERWISE}
    in_key = set(ProxySettings.__slots__) - otherwise
    assert in_key == {
        "batch_size",
        "context_length",
        "vocab_size",
        "matrix_lr",
        "other_lr",
        "weight_decay",
        "warmup_steps",
        "cooldown_share",
        "seed",
    }


@pytest.mark.parametrize("damage", ["truncated", "digit", "empty", "binary", "no mapping"])
def test_a_damaged_result_is_trained_again_with_a_warning(
    damage: str,
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = cached_training(tmp_path, proxy, corpus, short)
    (path,) = results(tmp_path)
    text = path.read_text()
    file = json.loads(text)
    file["content"]["outcome"]["copy_gap_nats"] += 0.1
    path.write_bytes(
        {
            "truncated": text[: len(text) // 2].encode(),
            "digit": json.dumps(file).encode(),
            "empty": b"",
            "binary": b"\xff\xfe\x00",
            "no mapping": b"[1, 2]",
        }[damage]
    )
    again = cached_training(tmp_path, proxy, corpus, short)
    assert "is damaged; its proxy is trained again" in caplog.text
    assert len(trainings) == 2
    assert again.windows == first.windows
    assert cached_training(tmp_path, proxy, corpus, short).loss.from_cache


def test_what_is_kept_can_be_asked_for_without_training(
    tmp_path: Path, proxy: Candidate, corpus: Corpus, short: ProxySettings
) -> None:
    assert not is_cached(tmp_path, proxy, corpus, short)
    cached_training(tmp_path, proxy, corpus, short)
    assert is_cached(tmp_path, proxy, corpus, short)
    assert not is_cached(tmp_path, proxy, corpus, replace(short, seed=short.seed + 1))


def test_a_result_is_judged_by_the_threshold_of_today(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for threshold, passed in ((10.0, False), (-10.0, True)):
        monkeypatch.setattr(train, "copy_gap_passed_nats", lambda _, least=threshold: least)
        trained = cached_training(tmp_path, proxy, corpus, short)
        assert trained.loss.passed_transition is passed
    assert trained.loss.from_cache


def test_a_proxy_short_of_the_guard_is_gone_on_with(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 steps, common for 15; 30 steps, common for 22; 40 steps."""
    monkeypatch.setattr(train, "copy_gap_passed_nats", lambda _: 10.0)
    for tokens in (short.tokens, short.tokens * 3 // 2, short.tokens * 2):
        longest = cached_training(tmp_path, proxy, corpus, replace(short, tokens=tokens))
    assert trainings == [20, 30 - 15, 40 - 22]
    assert longest.loss.tokens == 2 * short.tokens == longest.loss.recipe["tokens"]
    assert not longest.loss.passed_transition
    assert len(results(tmp_path)) == 3
    fresh = train.train_shrunk(proxy, corpus, replace(short, tokens=2 * short.tokens))
    assert fresh.windows == longest.windows
    assert fresh.loss.curve == longest.loss.curve
    again = cached_training(tmp_path, proxy, corpus, short)
    assert again.loss.from_cache
    assert len(trainings) == 4


def test_a_proxy_past_the_guard_leaves_its_result_alone(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "copy_gap_passed_nats", lambda _: -10.0)
    trained = cached_training(tmp_path, proxy, corpus, short)
    assert trained.loss.tokens == short.tokens
    assert trainings == [20]
    kept = {path.suffix for path in (tmp_path / "proxies").iterdir()}
    assert kept <= {".json", ".lock"}


def test_a_stopped_training_is_gone_on_with_by_who_asks_next(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    trainings: list[int],
) -> None:
    long = replace(short, tokens=12_800)
    seen: list[int] = []
    watch = Watch(progress=lambda *_: seen.append(1), should_stop=lambda: len(seen) >= 50)
    with pytest.raises(ProxyError, match="told to stop after"):
        cached_training(tmp_path, proxy, corpus, long, watch=watch)
    trained = cached_training(tmp_path, proxy, corpus, long)
    assert trainings == [100 - len(seen) - 1]
    assert trained.windows == train.train_shrunk(proxy, corpus, long).windows


def test_what_failed_is_not_kept(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("phonesearch.proxy.loop.learning_rate_factor", lambda *_: float("nan"))
        with pytest.raises(ProxyError, match="diverged"):
            cached_training(tmp_path, proxy, corpus, short)
    assert results(tmp_path) == []
    assert not cached_training(tmp_path, proxy, corpus, short).loss.from_cache


def test_a_cache_that_cannot_be_written_costs_the_keeping_only(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("no folder")
    trained = cached_training(tmp_path / "file", proxy, corpus, short)
    assert trained.windows == train.train_shrunk(proxy, corpus, short).windows
    assert "cannot be kept" in caplog.text


HOLDING = """
import sys
import filelock

lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_waiting_for_another_process_ends_when_told_to_stop(
    tmp_path: Path,
    proxy: Candidate,
    corpus: Corpus,
    short: ProxySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "_LOCK_POLL_S", 0.01)
    identity = recipe.trunk_identity(proxy, corpus, short, device=CPU)
    lock = tmp_path / "proxies" / f"{identity}.lock"
    lock.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ProxyError, match="while another process trained it"):
            cached_training(tmp_path, proxy, corpus, short, watch=Watch(should_stop=lambda: True))
        process.communicate()


ASKING = """
import sys
from pathlib import Path
import torch
from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.proxy.cache import cached_training, is_cached
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.settings import ProxySettings

torch.set_num_threads(1)
folder = Path(sys.argv[1])
trained = cached_training(
    folder,
    files.read(folder / "proxy.json", Candidate),
    files.read(folder / "corpus.json", Corpus),
    files.read(folder / "settings.json", ProxySettings),
)
print(trained.loss.from_cache, trained.loss.bits_per_byte)
"""


def test_of_two_processes_that_ask_one_trains(
    tmp_path: Path, proxy: Candidate, corpus: Corpus, settings: ProxySettings
) -> None:
    write_json(tmp_path / "proxy.json", asdict(proxy))
    write_json(tmp_path / "settings.json", asdict(settings))
    write_json(tmp_path / "corpus.json", {**asdict(corpus), "folder": str(corpus.folder)})
    command = [sys.executable, "-c", ASKING, str(tmp_path)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in asking]
    assert sorted(answer[0] for answer in answers) == ["False", "True"]
    assert answers[0][1] == answers[1][1]
