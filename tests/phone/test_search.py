"""`time` and `run` on the fake phone, as typed: real adb, the runner that ships, qemu.

Times mean nothing here, so only what is done with them is looked at.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from backend_rig import ANYTHING_GOES, TINY, left
from fakephone_rig import FakePhone
from needs import need
from typer.testing import CliRunner, Result

from phonesearch.candidate.huggingface import to_config
from phonesearch.cli import app, console
from phonesearch.phone import backend
from phonesearch.phone.runtime import RuntimeLibrary

pytestmark = pytest.mark.adb
Phonesearch = Callable[..., Result]


@pytest.fixture(scope="session")
def adb_program() -> str:
    """Which client it is, is tested elsewhere."""
    need("adb")
    return shutil.which("adb") or ""


@pytest.fixture
def phonesearch(
    fake_phone: FakePhone,
    library: RuntimeLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Phonesearch:
    """The command line, with the ARM library set up and steadiness not asked of an emulator."""
    monkeypatch.setattr(console, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr("phonesearch.study.meter.installed", lambda _: library)
    monkeypatch.setattr(backend, "PROTOCOL", replace(ANYTHING_GOES, max_seconds=120))

    def run(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Something to train proxies on."""
    path = tmp_path / "text.txt"
    path.write_text(
        "".join(
            f"def f{n}(x, y={n % 7}):\n    return x * {n} + y - {n % 13}\n" for n in range(9000)
        )
    )
    return path


SEARCH = (
    *("--space", "tiny", "--budget", "300k", "--trials", "6", "--prompt", "8", "--generate", "4"),
    *("--proxy-tokens", "20k", "--proxy-parameters", "20k"),
)


def test_time_measures_one_model(
    fake_phone: FakePhone, phonesearch: Phonesearch, tmp_path: Path
) -> None:
    config = tmp_path / "it's a $(touch canary) config.json"
    config.write_text(json.dumps(to_config(TINY)))

    found = phonesearch("time", config, "--device", f"adb:{fake_phone.serial}", "--json",
                        "--prompt", "8", "--generate", "4")  # fmt: skip

    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["source"] == "measured"
    assert told["device"].startswith("Phonemaker Fake Phone 5")
    assert told["conditions"]["logits_distance"] < 1e-4
    assert told["decode_tokens_per_s"] > 0
    assert left(fake_phone) == {"runner", "lib", "parts"}


def test_a_search_predicts_all_and_measures_what_may_be_on_the_front(
    fake_phone: FakePhone, phonesearch: Phonesearch, tmp_path: Path, text: Path
) -> None:
    out = tmp_path / "run"
    found = phonesearch(
        *("run", "--device", "adb", "--profile", "snapdragon8gen3", *SEARCH),
        *("--data", text, "--out", out),
    )
    assert found.exit_code == 0, found.output
    # Trainings of a second rank nothing. As if they had been longer:
    with closing(sqlite3.connect(out / "study.db")) as database, database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = replace(value_json, ?, ?)",
            (r"passed_transition\": false", r"passed_transition\": true"),
        )

    again = phonesearch("run", "--resume", out)

    assert again.exit_code == 0, again.output
    front = json.loads((out / "front.json").read_text())
    lines = (out / "measurements.jsonl").read_text().splitlines()
    measured = {json.loads(line)["number"] for line in lines}
    assert front["members"]
    assert {member["number"] for member in front["members"]} <= measured
    assert {member["source"] for member in front["members"]} == {"measured"}
    assert all(json.loads(line)["measurement"]["conditions"]["cores"] for line in lines)
    assert left(fake_phone) == {"runner", "lib", "parts"}


def test_a_search_that_loses_the_phone_keeps_what_it_has_and_goes_on(
    fake_phone: FakePhone, phonesearch: Phonesearch, tmp_path: Path, text: Path
) -> None:
    out = tmp_path / "run"
    start = ("run", "--device", "adb", "--measure", "all", *SEARCH, "--data", text, "--out", out)
    real = backend.PhoneBackend.time
    calls = []

    def time_and_cool(self: backend.PhoneBackend, *arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            fake_phone.update(settings={"global/low_power": "1"})
        return real(self, *arguments, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.PhoneBackend, "time", time_and_cool)
        stopped = phonesearch(*start)
    assert stopped.exit_code == 1
    assert "cannot be measured now" in stopped.output
    assert f"phonesearch run --resume {out}" in stopped.output.replace("\n", "")
    kept = (out / "measurements.jsonl").read_text().splitlines()
    assert len(kept) >= 1

    fake_phone.update(settings={"global/low_power": "0"})
    resumed = phonesearch("run", "--resume", out)

    assert resumed.exit_code == 0, resumed.output
    lines = (out / "measurements.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept
    assert sorted(json.loads(line)["number"] for line in lines) == list(range(6))
    assert "predicted_decode_tokens_per_s" in (out / "trials.csv").read_text().splitlines()[0]
