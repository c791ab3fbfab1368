"""`phonesearch device calibrate`: what it refuses. The work behind it is tested in `timing`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.candidate.count import total_parameters
from phonesearch.cli import app, phone_device
from phonesearch.device.profile import read_profile
from phonesearch.timing.exchange import WorkerResult
from phonesearch.timing.probes import DecoderProbe, Probe


@pytest.mark.parametrize(
    ("machine", "out", "said"),
    [
        ("moon", "mine.yaml", "can be calibrated, got 'moon'"),
        ("adb:", "mine.yaml", "'adb:' does not name phones"),
        ("host", "mine.txt", "end in .yaml"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_anything_runs(
    tmp_path: Path, machine: str, out: str, said: str
) -> None:
    found = CliRunner().invoke(app, ["device", "calibrate", machine, "--out", str(tmp_path / out)])

    assert found.exit_code != 0
    assert said in found.output
    assert not list(tmp_path.iterdir())


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "mine.yaml")

    found = CliRunner().invoke(app, ["device", "calibrate", "host", "--out", out, "--threads=9999"])

    assert found.exit_code == 1
    assert "`--threads` must be at most" in found.output
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_message_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "mine.yaml")

    found = CliRunner().invoke(app, ["device", "calibrate", "host", "--out", out])

    assert found.exit_code == 1
    assert "cannot be written" in found.output
    assert "Give another `--out`" in found.output


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["host", "--cpus", "4-7"], "`--cpus` is for phones"),
        (["host", "--largest", "many"], "--largest: "),
        (["host", "--largest", "1k"], "No decoder has 1,000 parameters"),
        (["adb", "--cpus", "x"], "such as 4-7"),
        (["adb"], "No ONNX Runtime for phones is set up"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["device", "calibrate", *typed, "--out", str(tmp_path / "mine.yaml")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 1
    assert said in found.output


class MadeUpPhone:
    """Stands in for `PhoneBackend`: each run takes as long as its tokens are many."""

    fingerprint = "Phonemaker Fake Phone 5, cores 6,7"
    num_threads = 2

    def __enter__(self) -> MadeUpPhone:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def last_cache_bytes(self) -> int:
        return 1 << 20

    def sample_probe(
        self, probe: Probe, *, num_threads: int, warmup_rounds: int, rounds: int
    ) -> WorkerResult:
        assert num_threads == 2
        size = total_parameters(probe.candidate) if isinstance(probe, DecoderProbe) else 1e5
        return WorkerResult(
            samples_s=[
                [1e-10 * size * one.new_tokens + 1e-5] * one.steps for one in probe.stretches
            ],
            peak_memory_bytes=None,
            onnxruntime_version="1.29.0",
            outputs_finite=True,
        )


def test_a_phone_is_calibrated_by_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def backend(
        machine: str, *, cpus: str | None, threads: int | None, say: Callable[[str], None]
    ) -> MadeUpPhone:
        asked.append((machine, cpus, threads))
        say("Waiting for the phone")
        return MadeUpPhone()

    monkeypatch.setattr(phone_device, "phone_backend", backend)
    out = tmp_path / "pocket.yaml"
    found = CliRunner().invoke(
        app,
        [
            *("device", "calibrate", "adb:S 1", "--out", str(out), "--cpus", "6,7"),
            *("--candidates", "3", "--rounds", "1", "--largest", "300k"),
        ],
    )
    assert found.exit_code == 0, found.output
    assert asked == [("adb:S 1", "6,7", None)]
    assert "Waiting for the phone" in found.stderr
    text = out.read_text()
    assert "Made by `phonesearch device calibrate adb`." in text
    assert "S 1" not in text
    profile = read_profile(str(out))
    assert profile.default_engine == "onnxruntime-cpu-int4-2t"
    assert profile.soc == MadeUpPhone.fingerprint
