"""`run --tokenizer` and what `export` does with it; and the whole front at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from phonesearch.candidate.count import total_parameters
from phonesearch.candidate.huggingface import read_candidate
from phonesearch.cli import app

IDS = 200
ROWS = 256  # 200 padded to a whole number of 64


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: IDS - 2]
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer(models.BPE(vocab=vocabulary, merges=[])).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "own-words"
    options = ["--space", "tiny", "--budget", "300k", "--proxy", "prior", "--trials", "12"]
    done = CliRunner().invoke(
        app, ["run", *options, "--tokenizer", str(tokenizer), "--out", str(folder)]
    )
    assert done.exit_code == 0, done.stderr
    assert f"Vocabulary of {ROWS}: the tokenizer's {IDS} ids, padded" in done.stderr
    return folder


def export(run: Path, *options: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["export", str(run), *options])
    return done.exit_code, done.stdout, done.stderr


def test_vocabulary_count_and_exports_follow_the_tokenizer(run: Path, tmp_path: Path) -> None:
    code, _, told = export(run, "--recommended", "--to", "hf", "--out", str(tmp_path / "model"))
    assert code == 0, told
    candidate = read_candidate(tmp_path / "model")
    assert candidate.vocab_size == ROWS
    assert abs(total_parameters(candidate) / 300_000 - 1) <= 0.01
    assert (tmp_path / "model" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"] == 1


def test_a_run_goes_on_without_the_folder_of_its_tokenizer(run: Path, tokenizer: Path) -> None:
    aside = tokenizer.rename(tokenizer.with_name("aside"))
    try:
        done = CliRunner().invoke(app, ["run", "--resume", str(run), "--trials", "14"])
    finally:
        aside.rename(tokenizer)
    assert done.exit_code == 0, done.stderr
    assert (run / "tokenizer" / "tokenizer.json").is_file()


def test_the_whole_front_is_exported_each_in_a_folder_of_its_own(run: Path, tmp_path: Path) -> None:
    code, told, _ = export(run, "--all", "--to", "hf", "--out", str(tmp_path / "models"))
    members = json.loads((run / "front.json").read_text())["members"]
    folders = sorted((tmp_path / "models").iterdir())
    assert code == 0
    assert len(folders) == len(members) == told.count(" is in ")
    code, _, told = export(run, "--all", "--to", "hf", "--out", str(tmp_path / "models"))
    assert code == 1
    assert told.count("not an empty folder") == len(members)
    assert f"{len(members)} of {len(members)} were not written" in told


def test_another_tokenizer_must_fit(run: Path, tmp_path: Path) -> None:
    vocabulary = {f"<{number}>": number for number in range(300)}
    Tokenizer(models.BPE(vocab=vocabulary, merges=[])).save(str(tmp_path / "tokenizer.json"))
    code, _, told = export(run, "--knee", "--to", "hf", "--tokenizer", str(tmp_path))
    assert code == 1
    assert "`vocab_size` 256 is too small for the tokenizer" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proxy", "prior", "--tokenizer", "nowhere"], "There is no tokenizer at nowhere"),
        (["--tokenizer", "x", "--resume", "y"], "--tokenizer cannot be given with --resume"),
    ],
)
def test_what_is_typed_is_refused_in_one_message(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["run", *options])
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
