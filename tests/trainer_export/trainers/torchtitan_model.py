"""Run by the trainers' own Python: builds what an exported folder says with torchtitan.

    python torchtitan_model.py count FOLDER...     parameters of each, as JSON
    python torchtitan_model.py logits FOLDER...    FOLDER/given.pt's ids and weights to logits.pt
    python torchtitan_model.py start FOLDER        loss of the fresh model that its config makes
    python torchtitan_model.py recipe FOLDER       what its config trains with, as JSON

Training takes a GPU: its loop falls back to CUDA (`torchtitan.tools.utils.get_device_info`), and
FlexAttention, its attention of language models, has no backward pass on a CPU.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F  # noqa: N812
from torchtitan.config import ConfigManager


def load(folder: Path) -> ModuleType:
    """The module in a folder, under the name that the README's command gives it."""
    sys.modules.pop("candidate", None)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    module = importlib.import_module("candidate")
    sys.path.remove(str(folder))
    assert module.__file__ == str(folder / "candidate.py")
    return module


def build(folder: Path, device: str) -> torch.nn.Module:
    with torch.device(device):
        return load(folder).model_spec().model.build()


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(ids.shape[1]).expand(ids.shape)
    return model(ids, positions, model.get_attention_masks(positions))


def compare(folder: Path) -> None:
    given = torch.load(folder / "given.pt")
    spec = load(folder).model_spec()
    model = spec.model.build()
    weights = spec.state_dict_adapter(spec.model, None).from_hf(dict(given["weights"]))
    model.load_state_dict(weights)
    back = spec.state_dict_adapter(spec.model, None).to_hf(model.state_dict())
    assert set(back) == set(given["weights"])
    with torch.no_grad():
        torch.save(logits(model, given["ids"]), folder / "logits.pt")


def recipe(folder: Path) -> dict[str, object]:
    """By our names; the learning rates are those that torchtitan's own schedule comes to."""
    sys.path.insert(0, str(folder))
    config = ConfigManager().parse_args(["--module", "candidate", "--config", "train"])
    training, (group,) = config.training, config.optimizer.param_groups
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **group.optimizer_kwargs)
    schedule = config.lr_scheduler.build(optimizers=[adam], training_steps=training.steps)
    factor = schedule.schedulers[0].lr_lambdas[0]
    return {
        "optimizer": group.optimizer_name,
        "context_length": training.seq_len,
        "batch_sequences": training.global_batch_size,
        "micro_batch_sequences": training.local_batch_size,
        "num_steps": training.steps,
        "warmup_steps": config.lr_scheduler.warmup_steps,
        "peak_lr": adam.defaults["lr"] * max(map(factor, range(training.steps))),
        "final_lr": adam.defaults["lr"] * factor(training.steps),
        "adam_betas": adam.defaults["betas"],
        "adam_eps": adam.defaults["eps"],
        "weight_decay": adam.defaults["weight_decay"],
        "gradient_clip_norm": training.max_norm,
    }


def start(folder: Path) -> float:
    sys.path.insert(0, str(folder))
    config = ConfigManager().parse_args(
        ["--module", "candidate", "--config", "train", "--training.steps", "20"]
    )
    assert config.training.steps == 20
    torch.manual_seed(0)
    model = config.model_spec.model.build()
    model.init_states(buffer_device=torch.device("cpu"))
    ids = torch.randint(config.model_spec.model.vocab_size, (2, 64))
    with torch.no_grad():
        found = logits(model, ids)
    return F.cross_entropy(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()


if __name__ == "__main__":
    assert "phonesearch" not in sys.modules
    torch.set_num_threads(1)
    folders = [Path(folder) for folder in sys.argv[2:]]
    if sys.argv[1] == "count":
        models = [build(folder, "meta") for folder in folders]
        print(json.dumps([sum(p.numel() for p in model.parameters()) for model in models]))
    elif sys.argv[1] == "logits":
        for folder in folders:
            compare(folder)
    elif sys.argv[1] == "recipe":
        print(json.dumps(recipe(folders[0])))
    else:
        print(json.dumps(start(folders[0])))
