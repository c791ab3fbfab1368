"""`time` and `run` on the fake phone, as typed: real adb, the runner that ships, qemu.

Times mean nothing here, so only what is done with them is looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakephone_rig import AdbServer, FakePhone
from in_use import models, runtime_library
from needs import need
from typer.testing import CliRunner, Result

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.huggingface import to_config
from phonesearch.cli import app, console
from phonesearch.phone import backend
from phonesearch.phone.backend import PhoneSettings
from phonesearch.phone.judge import Limits
from phonesearch.phone.protocol import Reference
from phonesearch.timing.exchange import Stretch

pytestmark = pytest.mark.adb
Phonesearch = Callable[..., Result]


@pytest.fixture(scope="session")
def adb_program() -> str:
    """Which client it is, is tested elsewhere."""
    need("adb")
    return shutil.which("adb") or ""


ANY = 1e9


@pytest.fixture
def phonesearch(
    fake_phone: FakePhone,
    arm_library: Path,
    tiny: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Phonesearch:
    """The command line, with the ARM library set up and steadiness not asked of an emulator."""
    monkeypatch.setattr(console, "cache_dir", lambda: tmp_path / "cache")
    library = runtime_library(arm_library)
    monkeypatch.setattr("phonesearch.phone.runtime.installed", lambda _: library)

    def settings(*, cpus: tuple[int, ...] | None, num_threads: int | None) -> PhoneSettings:
        steps = Stretch(new_tokens=1, past_tokens=4, steps=2)
        return PhoneSettings(
            cpus=cpus,
            num_threads=num_threads,
            reference=Reference(
                candidate=tiny,
                stretches=(Stretch(new_tokens=4, past_tokens=0), steps),
                rounds=1,
                warmup_rounds=0,
            ),
            limits=Limits(drift=ANY, spread=ANY, reference=ANY, cool_poll_s=0.1, cool_patience_s=2),
        )

    monkeypatch.setattr(backend, "PhoneSettings", settings)

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
    *("--proxy", "each", "--proxy-tokens", "20k", "--proxy-parameters", "20k"),
)


def test_time_measures_one_model(
    fake_phone: FakePhone, phonesearch: Phonesearch, tiny: Candidate, tmp_path: Path
) -> None:
    config = tmp_path / "it's a $(touch canary) config.json"
    config.write_text(json.dumps(to_config(tiny)))

    found = phonesearch("time", config, "--device", f"adb:{fake_phone.serial}", "--json",
                        "--prompt", "8", "--generate", "4")  # fmt: skip

    assert found.exit_code == 0, found.output
    assert "Pushing ONNX Runtime" in found.stderr
    told = json.loads(found.stdout)
    assert told["source"] == "measured"
    assert told["device"].startswith("Phonemaker Fake Phone 5")
    assert told["conditions"]["logits"]["largest"] < 1e-4
    assert told["decode_tokens_per_s"] > 0
    assert models(fake_phone) == []


def test_a_search_predicts_all_and_measures_what_may_be_on_the_front(
    fake_phone: FakePhone, phonesearch: Phonesearch, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    found = phonesearch(
        *("run", "--device", "adb", "--profile", "snapdragon8gen3", *SEARCH, "--proxy", "prior"),
        *("--out", out),
    )

    assert found.exit_code == 0, found.output
    front = json.loads((out / "front.json").read_text())
    lines = (out / "measurements.jsonl").read_text().splitlines()
    measured = {json.loads(line)["number"] for line in lines}
    assert front["members"]
    assert "were measured after the search" in (out / "report.html").read_text()
    assert {member["number"] for member in front["members"]} <= measured
    assert {member["source"] for member in front["members"]} == {"measured"}
    assert all(json.loads(line)["measurement"]["conditions"]["cpus_granted"] for line in lines)
    assert models(fake_phone) == []


def test_a_search_measures_on_two_phones_of_a_model_at_once(
    fake_phone: FakePhone,
    make_phone: Callable[..., FakePhone],
    adb: AdbServer,
    phonesearch: Phonesearch,
    tmp_path: Path,
    text: Path,
) -> None:
    second = make_phone()
    adb.connect(second)
    out = tmp_path / "run"

    found = phonesearch(
        *("run", "--device", f"adb:{fake_phone.serial},adb:{second.serial}", "--measure", "all"),
        *(*SEARCH, "--jobs", "2", "--threads", "2", "--data", text, "--out", out),
    )

    assert found.exit_code == 0, found.output
    lines = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(6))
    phones = {line["measurement"]["conditions"]["pool"]["phone"] for line in lines}
    assert phones == {1, 2}
    assert {line["measurement"]["num_threads"] for line in lines} == {2}
    assert len({line["measurement"]["device"] for line in lines}) == 1
    written = "".join(path.read_text() for path in (out / "report.html", out / "front.json"))
    assert fake_phone.serial not in written
    assert second.serial not in written
    assert models(fake_phone) == models(second) == []


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
