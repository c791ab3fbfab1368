"""A corpus small enough to make in a second, and settings small enough to train on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakehub import FakeHub

from phonesearch.candidate.config import Candidate
from phonesearch.proxy.corpus import Corpus, load_corpus
from phonesearch.proxy.settings import ProxySettings

REFERENCE = 1_350_000_000


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def sentences(count: int, *, seed: int) -> str:
    """Text with structure enough to learn: names that come back, and numbers."""
    draw = random.Random(seed)
    verbs = ("sees", "names", "counts", "moves", "leaves")
    lines = []
    for _ in range(count):
        name = "".join(draw.choice("bdfklmnprst") + draw.choice("aeiou") for _ in range(3))
        lines.append(f"{name} {draw.choice(verbs)} {draw.randrange(1000)}, then {name} rests.\n")
    return "".join(lines)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(120):
        (folder / f"part{number:03}.txt").write_text(sentences(25, seed=number), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def settings(text_folder: Path) -> ProxySettings:
    """A training of a second or two."""
    return ProxySettings(
        parameters=20_000,
        tokens=12_800,
        batch_size=4,
        context_length=32,
        vocab_size=320,
        warmup_steps=5,
        validation_windows=48,
        data=(str(text_folder),),
        device="cpu",
    )


@pytest.fixture(scope="session")
def corpus(settings: ProxySettings, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(settings, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def full_size() -> Candidate:
    """About 1.35B parameters without embeddings, grouped heads."""
    return Candidate(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=128,
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """An empty hub, in the place of huggingface.co.

    `HF_ENDPOINT` and the like are read when the libraries are first imported, which another test
    may have done; so what they were read into is set. Real variables are used where a process is
    started.
    """
    import datasets.config
    import huggingface_hub.constants

    running = FakeHub()
    running.start()
    of_hub, of_datasets = huggingface_hub.constants, datasets.config
    files = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(of_hub, "ENDPOINT", running.url)
    monkeypatch.setattr(of_hub, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + files)
    monkeypatch.setattr(of_hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(of_datasets, "HF_ENDPOINT", running.url)
    monkeypatch.setattr(
        of_datasets,
        "HUB_DATASETS_URL",
        running.url + "/datasets/{repo_id}/resolve/{revision}/{path}",
    )
    monkeypatch.setattr(of_datasets, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    yield running
    running.stop()
