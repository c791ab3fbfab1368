"""`phonesearch device fit`, from a table to a profile that predicts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonesearch.cli import app
from phonesearch.device.profile import read_profile
from phonesearch.errors import PhoneSearchError

COLUMNS = (
    "id",
    "soc_id",
    "processor",
    "engine",
    "model_id",
    "weight_bits",
    "prefill_tok_s",
    "decode_tok_s",
)
ROWS = (
    ("smollm2-135m", "520", "101.0"),
    ("qwen2.5-0.5b", "180", "61.5"),
    ("llama-3.2-1b", "75", "27.2"),
    ("qwen2.5-1.5b", "", "20.1"),
    ("llama-3.2-3b", "26", "10.4"),
)


def table_in(folder: Path, *, decode: str | None = None) -> Path:
    path = folder / "speeds.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number, (model, prefill, rate) in enumerate(ROWS, start=1):
            writer.writerow(
                [number, "myphone", "CPU", "mine-4bit", model, 4, prefill, decode or rate]
            )
        writer.writerow([99, "otherphone", "CPU", "mine-4bit", "qwen3-4b", 4, "", 5])
    return path


def fit(table: Path, *more: str):
    command = ["device", "fit", "--from", str(table), "--device", "myphone"]
    return CliRunner().invoke(app, [*command, "--engine", "mine-4bit", *more])


def test_a_table_becomes_a_profile_that_says_how_wrong_it_is(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    found = fit(table_in(tmp_path), "--out", str(out))

    assert found.exit_code == 0, found.output
    engine = read_profile(str(out)).engines["mine-4bit"]
    assert engine.decode.num_models == 5
    assert engine.decode.median_error is not None
    assert f"median error {engine.decode.median_error:.1%}" in found.output
    assert "Kendall tau" in found.output
    assert "1  of another device" in found.output
    assert 5e9 < engine.fitted.memory_bandwidth_bytes_per_s.value < 100e9


def test_without_out_it_is_named_after_the_device_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert fit(table).exit_code == 0
    first = (tmp_path / "myphone.yaml").read_bytes()

    again = fit(table)

    assert isinstance(again.exception, PhoneSearchError | SystemExit)
    assert again.exit_code != 0
    assert (tmp_path / "myphone.yaml").read_bytes() == first


def test_a_bad_table_names_its_line_and_column_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    found = fit(table_in(tmp_path, decode="fast"), "--out", str(out))

    assert found.exit_code != 0
    said = f"{found.output}{found.exception}"
    assert "decode_tok_s" in said
    assert "line 2" in said
    assert not out.exists()
