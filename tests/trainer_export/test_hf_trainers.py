"""The folders for trainers that build their models with transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from trainer_python import export_each
from transformers import AutoConfig, AutoModelForCausalLM
from tried import tried

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.huggingface import read_candidate
from phonesearch.trainer_export.base import export_to

CONFIGS = {"axolotl": "axolotl.yaml", "llama-factory": "train.yaml"}
FRESH = {"axolotl": "reinit_weights", "llama-factory": "train_from_scratch"}
LENGTH = {"axolotl": "sequence_len", "llama-factory": "cutoff_len"}


@pytest.mark.slow
def test_of_fifty_candidates_transformers_builds_the_counted_parameters(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    written, refused = export_each("axolotl", drawn, tmp_path)
    assert refused == {}
    for folder, count in written.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        assert sum(p.numel() for p in model.parameters()) == count
    for target, version in (("hf", None), ("axolotl", "0.19.0"), ("llama-factory", "0.9.5")):
        tried(
            target,
            tool="transformers, from_config",
            version=transformers.__version__,
            what=f"built {len(drawn)} random candidates of the default space at 300M",
            result=f"{len(written)} with exactly the counted parameters"
            + ("" if version is None else f"; {target} {version} itself was not installed here"),
        )


@pytest.mark.parametrize("target", CONFIGS)
def test_the_model_is_the_one_of_the_folder_for_transformers(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    folder = export_to(target, tiny, tmp_path / "model")
    assert read_candidate(folder) == tiny
    alone = export_to("hf", tiny, tmp_path / "hf")
    assert (folder / "config.json").read_bytes() == (alone / "config.json").read_bytes()


@pytest.mark.parametrize("target", CONFIGS)
def test_a_training_starts_from_fresh_weights_at_the_candidate_s_length(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    folder = export_to(target, tiny, tmp_path / "model")
    config = yaml.safe_load((folder / CONFIGS[target]).read_text(encoding="utf-8"))
    assert config[FRESH[target]] is True
    assert config[LENGTH[target]] == tiny.max_position_embeddings
    assert f" train {CONFIGS[target]}\n" in (folder / "README.md").read_text(encoding="utf-8")


def test_llama_factory_is_told_of_the_text(tiny: Candidate, tmp_path: Path) -> None:
    folder = export_to("llama-factory", tiny, tmp_path / "model")
    config = yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8"))
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert info[config["dataset"]]["file_name"] == "train.txt"


@pytest.mark.parametrize("target", CONFIGS)
def test_a_tokenizer_is_asked_for_where_none_is_given(
    target: str, tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    without = export_to(target, tiny, tmp_path / "a")
    given = export_to(target, tiny, tmp_path / "b", tokenizer=tokenizer_folder)
    assert "needs a tokenizer" in (without / "README.md").read_text(encoding="utf-8")
    assert "needs a tokenizer" not in (given / "README.md").read_text(encoding="utf-8")
