"""A run on a dataset of the Hugging Face hub, as somebody types it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fakehub import FakeHub
from hubtexts import NAME, parquet

OPTIONS = ["--space", "tiny", "--budget", "300k", "--proxy", "each", "--jobs", "1"]
OPTIONS += ["--proxy-parameters", "20k", "--proxy-tokens", "8k"]


@pytest.mark.slow
def test_a_run_streams_its_dataset_once_and_resumes_without_the_hub(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefghijklmnop ", k=800)) for _ in range(400)]
    hub = FakeHub()
    hub.start()
    commit = hub.add(NAME, {"train.parquet": parquet([*texts])})
    variables = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def phonesearch(*typed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "phonesearch.cli", "run", *typed],
            env=variables,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    told = phonesearch(*OPTIONS, "--trials", "1", "--data", f"hf:{NAME}", "--out", first)
    assert f"Streaming hf:{NAME}" in told
    assert f"revision {commit})" in told
    stored = yaml.safe_load((tmp_path / "first" / "settings.yaml").read_text(encoding="utf-8"))
    assert stored["proxy"]["data"] == [f"hf:{NAME}"]

    hub.stop()
    told = phonesearch("--resume", first, "--trials", "2")
    assert "Streaming" not in told
    assert f"revision {commit})" in told
    told = phonesearch(
        *(*OPTIONS, "--trials", "1", "--data", f"hf:{NAME}", "--out", second),
        *("--device", "snapdragon888"),
    )
    assert "Streaming" not in told
    assert f"revision {commit})" in told
