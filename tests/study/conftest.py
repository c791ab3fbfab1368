"""A real but small run: tiny space, tiny proxies, a text of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from phonesearch.catalog import resolve
from phonesearch.proxy.settings import ProxySettings
from phonesearch.study.folder import RunFolder, create
from phonesearch.study.settings import RunSettings

LINES = [
    f"def f{n}(x, y={n % 7}):\n    total = x * {n} + y\n    return total - {n % 13}\n\n"
    for n in range(6000)
]


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough text to train and score a tiny proxy, in several files."""
    folder = tmp_path_factory.mktemp("text")
    for part in range(40):
        lines = LINES[part * 150 : (part + 1) * 150]
        (folder / f"{part}.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all runs, so that the text is tokenised once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def settings(text_folder: Path) -> RunSettings:
    """Four candidates of 300k parameters, trained on two thousand tokens each."""
    return RunSettings(
        device="snapdragon8gen3",
        engine=None,
        space="tiny",
        budget=300_000,
        trials=4,
        jobs=2,
        scored_by="each",
        proxy=ProxySettings(
            parameters=20_000,
            tokens=2_048,
            context_length=32,
            vocab_size=300,
            validation_windows=16,
            warmup_steps=2,
            data=(str(text_folder),),
        ),
    )


@pytest.fixture(scope="session")
def new_run() -> Callable[[Path, RunSettings], RunFolder]:
    """Makes the folder of a run that has not begun."""

    def start(path: Path, settings: RunSettings) -> RunFolder:
        return create(
            path,
            settings,
            space_file=resolve(settings.space, "search_spaces"),
            device_file=resolve(settings.device, "device_profiles"),
        )

    return start
