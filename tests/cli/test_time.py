from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.huggingface import to_config
from phonesearch.cli import app
from phonesearch.files import write_json

PHONELM_1_5B = {
    "model_type": "phonelm",
    "hidden_size": 2560,
    "intermediate_size": 6816,
    "num_hidden_layers": 19,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 49152,
    "hidden_act": "relu",
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
}


def config(folder: Path, content: dict[str, object]) -> str:
    write_json(folder / "config.json", content)
    return str(folder / "config.json")


def test_a_known_model_is_timed_with_source_and_interval(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["time", config(tmp_path, PHONELM_1_5B), "--device", "snapdragon8gen3", "--json"],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["source"] == "predicted"
    assert found["device"] == "snapdragon8gen3"
    assert found["num_parameters"] == 1_618_593_280
    for key in (
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "ttft_s",
        "tpot_s",
        "peak_memory_bytes",
        "engine",
        "profile_sha256",
    ):
        assert found[key], key
    low, high = found["interval"]["decode_tokens_per_s"]
    assert low < found["decode_tokens_per_s"] < high
    assert found["decode_tokens_per_s"] == pytest.approx(1 / found["tpot_s"])
    assert sum(found["decode_seconds_by_operator"].values()) == pytest.approx(found["tpot_s"])


def test_people_are_told_that_it_is_a_prediction(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["time", config(tmp_path, PHONELM_1_5B)])
    assert "predicted on snapdragon8gen3" in done.stdout
    assert "measured" not in done.stdout


def test_on_the_host_it_is_measured(tmp_path: Path, tiny: Candidate) -> None:
    path = config(tmp_path, to_config(tiny))
    options = ["--device", "host", "--prompt", "8", "--generate", "8", "--json"]
    done = CliRunner().invoke(app, ["time", path, *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["source"] == "measured"
    assert "onnxruntime" in found["engine"]
    assert len(found["prefill_samples_s"]) >= 3
    low, high = found["interval"]["ttft_s"]
    assert low <= found["ttft_s"] <= high


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (PHONELM_1_5B | {"model_type": "mamba"}, [], "mamba"),
        (PHONELM_1_5B | {"num_key_value_heads": 5}, [], "multiple of `num_key_value_heads`"),
        (PHONELM_1_5B, ["--device", "snapdragon8gen4"], "Did you mean 'snapdragon8gen3'"),
        (PHONELM_1_5B, ["--engine", "mnn"], "it has executorch"),
        (PHONELM_1_5B, ["--device", "host", "--engine", "mnn"], "measured with ONNX Runtime"),
    ],
)
def test_what_cannot_be_timed_is_one_message(
    tmp_path: Path, content: dict[str, object], options: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, ["time", config(tmp_path, content), *options])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert not done.stdout
