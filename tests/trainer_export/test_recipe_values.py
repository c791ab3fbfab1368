"""What configs train with is what TRAINING.md beside them says, read back from what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trainer_python import run_in_trainer
from transformers import TrainingArguments, get_scheduler

from phonesearch.candidate.config import Candidate
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.recipe_values import config_recipe


def recipe_beside(folder: Path) -> dict[str, Any]:
    """Values by our names from `training_recipe.json`, whose values TRAINING.md has."""
    content = json.loads((folder / "training_recipe.json").read_text(encoding="utf-8"))
    beta1, beta2 = content["adam_betas"]
    chinchilla: dict[str, Any] = content["recipes"]["Chinchilla"]
    return {
        **content,
        **chinchilla,
        "adam_beta1": beta1,
        "adam_beta2": beta2,
        "final_lr": pytest.approx(chinchilla["peak_lr"] * content["final_lr_ratio"]),
    }


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def read_litgpt(folder: Path) -> dict[str, Any]:
    config = read_yaml(folder / "pretrain.yaml")
    adam, train = config["optimizer"]["init_args"], config["train"]
    assert config["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert train["global_batch_size"] % train["micro_batch_size"] == 0
    return {
        "peak_lr": adam["lr"],
        "adam_beta1": adam["betas"][0],
        "adam_beta2": adam["betas"][1],
        "adam_eps": adam["eps"],
        "weight_decay": adam["weight_decay"],
        "batch_sequences": train["global_batch_size"],
        "context_length": train["max_seq_length"],
        "tokens": train["max_tokens"],
        "warmup_steps": train["lr_warmup_steps"],
        "final_lr": train["min_lr"],
        "gradient_clip_norm": train["max_norm"],
    }


def read_megatron(folder: Path) -> dict[str, Any]:
    lines = (folder / "train.args").read_text(encoding="utf-8").splitlines()
    words = dict(line.removeprefix("--").split() for line in lines)
    assert words["lr-decay-style"] == "cosine"
    assert int(words["global-batch-size"]) % int(words["micro-batch-size"]) == 0
    return {
        "context_length": int(words["seq-length"]),
        "batch_sequences": int(words["global-batch-size"]),
        "num_steps": int(words["train-iters"]),
        "warmup_steps": int(words["lr-warmup-iters"]),
        "peak_lr": float(words["lr"]),
        "final_lr": float(words["min-lr"]),
        "adam_beta1": float(words["adam-beta1"]),
        "adam_beta2": float(words["adam-beta2"]),
        "adam_eps": float(words["adam-eps"]),
        "weight_decay": float(words["weight-decay"]),
        "gradient_clip_norm": float(words["clip-grad"]),
    }


def read_axolotl(folder: Path) -> dict[str, Any]:
    config = read_yaml(folder / "axolotl.yaml")
    assert (config["optimizer"], config["lr_scheduler"]) == ("adamw_torch", "cosine")
    return {
        "context_length": config["sequence_len"],
        "batch_sequences": config["micro_batch_size"] * config["gradient_accumulation_steps"],
        "num_steps": config["max_steps"],
        "warmup_steps": config["warmup_steps"],
        "peak_lr": config["learning_rate"],
        "final_lr_ratio": config["cosine_min_lr_ratio"],
        "adam_beta1": config["adam_beta1"],
        "adam_beta2": config["adam_beta2"],
        "adam_eps": config["adam_epsilon"],
        "weight_decay": config["weight_decay"],
        "gradient_clip_norm": config["max_grad_norm"],
    }


def read_llama_factory(folder: Path) -> dict[str, Any]:
    """With the arguments of transformers, which LLaMA-Factory extends, and its schedule."""
    config = read_yaml(folder / "train.yaml")
    known = TrainingArguments.__dataclass_fields__
    ours = ("bf16", "do_train")  # the one for a GPU; the other only for command lines
    arguments = {name: config[name] for name in config if name in known and name not in ours}
    training = TrainingArguments(**arguments, use_cpu=True)
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    schedule = get_scheduler(
        training.lr_scheduler_type,
        adam,
        num_warmup_steps=training.get_warmup_steps(training.max_steps),
        num_training_steps=training.max_steps,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs,
    )
    factor = schedule.lr_lambdas[0]
    assert training.optim == "adamw_torch"
    return {
        "context_length": config["cutoff_len"],
        "batch_sequences": training.per_device_train_batch_size
        * training.gradient_accumulation_steps,
        "num_steps": training.max_steps,
        "warmup_steps": training.warmup_steps,
        "peak_lr": training.learning_rate * factor(training.warmup_steps),
        "final_lr": training.learning_rate * factor(training.max_steps),
        "adam_beta1": training.adam_beta1,
        "adam_beta2": training.adam_beta2,
        "adam_eps": training.adam_epsilon,
        "weight_decay": training.weight_decay,
        "gradient_clip_norm": training.max_grad_norm,
    }


def read_nanotron(folder: Path) -> dict[str, Any]:
    config = read_yaml(folder / "nanotron.yaml")
    tokens, optimizer = config["tokens"], config["optimizer"]
    adam, schedule = optimizer["optimizer_factory"], optimizer["learning_rate_scheduler"]
    assert (adam["name"], schedule["lr_decay_style"]) == ("adamW", "cosine")
    return {
        "context_length": tokens["sequence_length"],
        "batch_sequences": tokens["micro_batch_size"] * tokens["batch_accumulation_per_replica"],
        "num_steps": tokens["train_steps"],
        "warmup_steps": schedule["lr_warmup_steps"],
        "peak_lr": schedule["learning_rate"],
        "final_lr": schedule["min_decay_lr"],
        "adam_beta1": adam["adam_beta1"],
        "adam_beta2": adam["adam_beta2"],
        "adam_eps": adam["adam_eps"],
        "weight_decay": optimizer["weight_decay"],
        "gradient_clip_norm": optimizer["clip_grad"],
    }


READERS = {
    "nanotron": read_nanotron,
    "litgpt": read_litgpt,
    "megatron": read_megatron,
    "axolotl": read_axolotl,
    "llama-factory": read_llama_factory,
}


@pytest.mark.parametrize("target", READERS)
def test_a_config_trains_by_the_recipe_beside_it(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, max_position_embeddings=64)
    folder = export_to(target, candidate, tmp_path / "model")
    found = READERS[target](folder)
    expected = recipe_beside(folder)
    assert found == {name: expected[name] for name in found}
    assert len(found) == 11


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchtitan_trains_by_the_recipe_beside_it(tiny: Candidate, tmp_path: Path) -> None:
    folder = export_to("torchtitan", tiny, tmp_path / "model")
    found = json.loads(
        run_in_trainer("torchtitan", "torchtitan_model.py", "recipe", folder).splitlines()[0]
    )
    expected = recipe_beside(folder)
    assert found.pop("optimizer") == "AdamW"
    assert found["batch_sequences"] % found.pop("micro_batch_sequences") == 0
    assert found == {name: expected[name] for name in found}
    assert len(found) == 10


@pytest.mark.parametrize("target", [*READERS, "torchtitan"])
def test_the_readme_says_where_the_values_are_from(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    folder = export_to(target, tiny, tmp_path / "model")
    text = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert "are those of the first column of `TRAINING.md`" in text
    assert "its second column has those for a training of PhoneLM's length" in text
    assert "the one for the blocks' matrices apart is not set" in text


def test_micro_batches_make_exactly_the_batch(tiny: Candidate) -> None:
    """103 sequences, a prime, go one by one; the largest divisor up to 8 is taken otherwise."""
    recipe = config_recipe(tiny)
    for batch, micro in ((103, 1), (64, 8), (12, 6), (1, 1), (35, 7)):
        one = replace(recipe, batch_sequences=batch)
        assert (one.micro_batch_sequences, one.accumulation_steps) == (micro, batch // micro)
