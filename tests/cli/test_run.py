"""The commands as somebody types them, on a tiny but real run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from phonesearch.candidate.count import total_parameters
from phonesearch.candidate.huggingface import read_candidate
from phonesearch.cli import app

TINY = ["--space", "tiny", "--budget", "300k", "--proxy", "each"]
TINY += ["--proxy-parameters", "20k", "--proxy-tokens", "8k"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random lines, each said six times: what copies is learned within seconds."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    for part in range(40):
        lines = ["".join(generator.choices("abcdefghijklmnop ", k=60)) + "\n" for _ in range(60)]
        (folder / f"{part}.txt").write_text("".join(line * 6 for line in lines))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Corpora of these tests stay out of the user's own cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    options = [*TINY, "--trials", "4", "--data", str(text), "--out", str(folder)]
    options += ["--proxy-tokens", "150k"]
    done = CliRunner().invoke(app, ["run", *options])
    assert done.exit_code == 0, done.output
    assert "report.html" in done.stdout
    speeds = [line for line in done.stderr.splitlines() if "tokens/s" in line]
    assert speeds
    assert all("tokens/s (predicted)" in line for line in speeds)
    assert "left" in done.stderr
    return folder


def test_a_run_leaves_everything_that_it_promises(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "settings.yaml",
        "space.yaml",
        "device.yaml",
        "environment.json",
        "study.db",
        "trials.csv",
        "front.json",
        "pareto.html",
        "pareto.png",
        "report.html",
        "candidates",
    }
    table = pd.read_csv(run / "trials.csv")
    assert len(table) == 4
    assert table["predicted_decode_tokens_per_s"].notna().all()
    assert table["measured_decode_tokens_per_s"].isna().all()
    assert table["candidate_id"].is_unique
    assert ((table["num_parameters"] / 300_000 - 1).abs() <= 0.01).all()


def test_front_candidates_are_configs_with_exactly_the_counted_parameters(run: Path) -> None:
    found = json.loads((run / "front.json").read_text())
    folders = sorted((run / "candidates").iterdir())
    assert found["members"]
    assert len(folders) == len(found["members"])
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        candidate = read_candidate(folder / "config.json")
        assert total_parameters(candidate) == record["num_parameters"]
        assert (folder / "graph.onnx").stat().st_size < 1_000_000


def test_the_report_can_be_made_again(run: Path) -> None:
    before = (run / "trials.csv").read_bytes()
    (run / "report.html").unlink()
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert (run / "report.html").is_file()
    assert (run / "trials.csv").read_bytes() == before


@pytest.mark.parametrize("target", ["hf", "onnx"])
def test_a_candidate_is_exported_in_full(run: Path, tmp_path: Path, target: str) -> None:
    options = ["--trial", "2", "--to", target, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["export", str(run), *options])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    wanted = {
        "hf": {"config.json", "README.md"},
        "onnx": {"model.onnx", "model.onnx.data", "genai_config.json", "README.md"},
    }
    assert wanted[target] <= names


def test_trained_weights_come_back_into_a_package(run: Path, tmp_path: Path) -> None:
    """A fresh checkpoint of one trial stands for a trained one; it is not that of another."""
    ours = [str(run), "--trial", "2", "--to"]
    assert (
        CliRunner().invoke(app, ["export", *ours, "hf", "--out", str(tmp_path / "a")]).exit_code
        == 0
    )
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "a"))
    model.save_pretrained(tmp_path / "trained")
    given = ["--weights", str(tmp_path / "trained"), "--out", str(tmp_path / "b")]
    done = CliRunner().invoke(app, ["export", *ours, "onnx", *given])
    assert done.exit_code == 0, done.output
    assert "those that were given" in (tmp_path / "b" / "README.md").read_text()
    given[-1] = str(tmp_path / "c")
    done = CliRunner().invoke(app, ["export", str(run), "--trial", "1", "--to", "onnx", *given])
    assert done.exit_code == 1
    assert "is not of this candidate: its config.json has `" in done.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--trial", "99", "--to", "hf"], "no finished trial 99"),
        (["--trial", "1", "--to", "onnx", "--weights", "nowhere"], "no checkpoint at nowhere"),
        (["--trial", "1", "--to", "onnx", "--tokenizer", "nowhere"], "no tokenizer at nowhere"),
        (["--to", "hf"], "exactly one of"),
        (["--trial", "1", "--knee", "--to", "hf"], "exactly one of"),
        (["--trial", "1", "--to", "tflite"], "must be one of"),
    ],
)
def test_an_export_that_cannot_be_is_one_message(run: Path, typed: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["export", str(run), *typed])
    assert done.exit_code == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--device", "snapdragon8gen4"], "Did you mean 'snapdragon8gen3'"),
        (["--space", "decoders"], "Did you mean 'decoder'"),
        (["--budget", "1.5X"], "--budget"),
        (["--budget", "1k"], "nearest reachable budget"),
        (["--count", "some"], "must be one of total, non-embedding"),
        (["--speed", "fast"], "must be one of decode, prefill, turn"),
        (["--sampler", "best"], "must be one of gain"),
        (["--max-ttft", "soon"], "--max-ttft"),
        (["--max-ttft", "1ms", "--min-speed", "100000"], "meets the constraints"),
        (["--max-memory", "1kB"], "--max-memory is"),
        (["--engine", "mnn"], "it has"),
        (["--data", "missing.txt"], "missing.txt"),
        (["--proxy-parameters", "1"], "proxy.parameters"),
        (["--resume", "nowhere"], "not the folder of a run"),
        (["--resume", "nowhere", "--seed", "3"], "--seed cannot be given with --resume"),
    ],
)
def test_a_run_that_cannot_start_is_one_message_and_leaves_nothing(
    tmp_path: Path, text: Path, typed: list[str], message: str
) -> None:
    options = [*TINY, "--data", str(text), "--out", str(tmp_path / "run")]
    if "--resume" in typed:
        options = []
    done = CliRunner().invoke(app, ["run", *options, *typed])
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_is_left_alone(run: Path, text: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = CliRunner().invoke(app, ["run", *TINY, "--data", str(text), "--out", str(run)])
    assert done.exit_code == 1
    assert "holds another run" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_going_on_works(tmp_path: Path, text: Path) -> None:
    folder = tmp_path / "run"
    options = [*TINY, "--trials", "4", "--jobs", "1", "--data", str(text), "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "phonesearch.cli", "run", *options],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that started the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "trial 0:" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"phonesearch run --resume {folder}" in rest
    assert "Traceback" not in rest
    time.sleep(0.1)
    done = CliRunner().invoke(app, ["run", "--resume", str(folder)])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(folder / "trials.csv")) == 4
