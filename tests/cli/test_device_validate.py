from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app
from phonesearch.device.data import model_shapes, published_speeds
from phonesearch.device.profile import read_profile

NAME = "snapdragon8gen3"
SCORE = {
    "rows",
    "models",
    "median_error",
    "p90_error",
    "within_10",
    "within_20",
    "kendall_tau",
    "interval_coverage",
}
COLUMNS = (
    "id",
    "device",
    "soc_id",
    "processor",
    "engine",
    "model_id",
    "model",
    "quant",
    "weight_bits",
    "prompt_len",
    "gen_len",
    "prefill_tok_s",
    "decode_tok_s",
    "confidence",
    "source",
    "date",
)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The carried rows of two profiles as a table, an unseen model, and rows to skip."""
    names = model_shapes()
    rows: list[dict[str, Any]] = [
        {
            "id": speed.id,
            "device": speed.device,
            "soc_id": speed.soc_id,
            "processor": "CPU",
            "engine": speed.engine,
            "model_id": speed.model_id,
            "model": names[speed.model_id].name,
            "weight_bits": speed.engine.split("-")[-1].removesuffix("bit"),
            "prompt_len": speed.prompt_tokens,
            "gen_len": speed.generate_tokens,
            "prefill_tok_s": speed.prefill_tokens_per_s,
            "decode_tok_s": speed.decode_tokens_per_s,
            "confidence": speed.confidence,
            "source": speed.source,
        }
        for speed in published_speeds()
        if speed.soc_id in (NAME, "tensor_g2")
        and not speed.left_out_because
        and speed.model_id in names
    ]
    unseen = {
        "id": 5001,
        "soc_id": NAME,
        "processor": "CPU",
        "engine": "ExecuTorch XNNPACK",
        "model_id": "smollm2-1.7b",
        "model": "SmolLM2 1.7B",
        "weight_bits": 4,
        "prompt_len": 128,
        "gen_len": 128,
        "prefill_tok_s": 170,
        "decode_tok_s": 25,
        "confidence": "A",
        "source": "a table",
    }
    gpu = unseen | {"id": 5002, "processor": "GPU"}
    unknown = unseen | {"id": 5003, "model_id": "mystery-3b"}
    return write(tmp_path / "speeds.csv", [*rows, unseen, gpu, unknown])


def run(*typed: str) -> str:
    done = CliRunner().invoke(app, ["device", "validate", *typed])
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(*typed: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run(*typed, "--json"))
    return content


def test_the_json_has_one_object_a_group_and_one_for_all(table: Path) -> None:
    content = run_json(NAME, "--against", str(table))

    profile = read_profile(NAME)
    assert content["profile_sha256"] == profile.sha256
    assert [group["engine"] for group in content["groups"]] == list(profile.engines)
    for group in [*content["groups"], content["all"]]:
        for phase in ("decode", "prefill"):
            assert group[phase].keys() >= SCORE
    first = content["groups"][0]
    assert (first["processor"], first["weight_bits"]) == ("CPU", 4)
    for phase in ("decode", "prefill"):
        assert content["all"][phase]["rows"] == sum(
            group[phase]["rows"] for group in content["groups"]
        )
        cases = [case for case in content["cases"] if case["phase"] == phase]
        assert len(cases) == content["all"][phase]["rows"]


def test_seen_and_unseen_rows_are_scored_apart(table: Path) -> None:
    content = run_json(NAME, "--against", str(table))

    profile = read_profile(NAME)
    for group in content["groups"]:
        parts = group["decode"]["by_exposure"]
        engine = profile.engines[group["engine"]]
        assert parts["fitted figure"]["rows"] == len(engine.decode.rows)
        assert sum(part["rows"] for part in parts.values()) == group["decode"]["rows"]
    unseen = content["groups"][0]["decode"]["by_exposure"]["unseen"]
    assert (unseen["rows"], unseen["models"]) == (1, 1)
    (case,) = (
        case for case in content["cases"] if case["row"] == 5001 and case["phase"] == "decode"
    )
    assert case["seen_by_fit"] == "unseen"
    assert unseen["median_error"] == pytest.approx(abs(case["error"]))
    assert case["error"] == pytest.approx(case["predicted_tokens_per_s"] / 25 - 1)
    assert unseen["kendall_tau"] is None


def test_skipped_rows_are_counted_with_their_reason(table: Path) -> None:
    content = run_json(NAME, "--against", str(table))

    skipped = {(one["what"], one["because"]): one["count"] for one in content["skipped"]}
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert content["rows_in_table"] == len(rows)
    others = sum(row["soc_id"] != NAME for row in rows)
    assert skipped["row", "of another device"] == others
    assert any("mystery-3b" in because for _, because in skipped)
    assert any("GPU" in because for _, because in skipped)
    compared = {case["row"] for case in content["cases"]}
    left_out = sum(count for (what, _), count in skipped.items() if what == "row")
    assert len(compared) + left_out == len(rows)


def test_the_text_marks_what_the_fit_has_seen(table: Path) -> None:
    said = run(NAME, "--against", str(table))

    lines = said.splitlines()
    assert any(line.strip().startswith("decode, in the fit, no test") for line in lines)
    assert any(line.strip().startswith("decode, not seen by the fit") for line in lines)
    (unseen,) = (line for line in lines if " 5001  decode" in line)
    assert unseen.startswith("    ")
    row = read_profile(NAME).engines["executorch-xnnpack-4bit"].decode.rows[0]
    (fitted,) = (line for line in lines if f" {row}  decode" in line)
    assert fitted.startswith("  f ")
    assert "f: this figure is in the fit" in said
    assert "skipped" in said
    assert "of another device" in said


def test_one_engine_and_ones_own_models_can_be_named(table: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs.csv"
    configs.write_text(
        "model_id,n_layers,hidden,intermediate,n_heads,n_kv_heads,vocab\n"
        "mystery-3b,28,3072,8192,24,8,128256\n",
        encoding="utf-8",
    )
    engine = "executorch-xnnpack-4bit"
    content = run_json(NAME, "--against", str(table), "--configs", str(configs), "--engine", engine)
    assert {case["row"] for case in content["cases"]} == {5003}
    assert [group["engine"] for group in content["groups"]] == [engine]


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_the_plot_is_written_where_it_is_asked_for(
    table: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "plots" / f"check.{suffix}"
    assert str(path) in run(NAME, "--against", str(table), "--plot", str(path))
    start = b"\x89PNG" if suffix == "png" else b"<!doctype html>"
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["pixel", "--against", "{table}"], "device list"),
        (["host", "--against", "{table}"], "measured, not predicted"),
        ([NAME, "--against", "{table}", "--engine", "onnx"], "has no engine 'onnx'"),
        ([NAME, "--against", "{table}", "--plot", "check.pdf"], "must end in .png or .html"),
        ([NAME, "--against", "none.csv"], "cannot be read"),
        ([NAME, "--against", "{bad}"], "line 2, column `decode_tok_s`: must be a number"),
        ([NAME, "--against", "{table}", "--configs", "{bad}"], "column `n_layers`: is needed"),
        (["a15", "--against", "{table}"], "No row of the table can be compared"),
    ],
)
def test_what_is_wrong_is_one_message(
    table: Path, tmp_path: Path, typed: list[str], message: str
) -> None:
    row = {"id": 1, "soc_id": "a", "processor": "CPU", "engine": "e", "model_id": "m"}
    bad = write(tmp_path / "bad.csv", [row | {"decode_tok_s": "fast"}])
    words = [word.format(table=table, bad=bad) for word in typed]
    done = CliRunner().invoke(app, ["device", "validate", *words])
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_help_loads_neither_the_fit_nor_a_drawing_library() -> None:
    code = (
        "import sys; import phonesearch.cli; "
        "print([name for name in ('scipy', 'onnx', 'matplotlib', 'plotly') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
