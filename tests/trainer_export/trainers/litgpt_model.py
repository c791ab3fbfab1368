"""Run by the trainers' own Python: builds what an exported folder says with litgpt.

python litgpt_model.py count FOLDER...     parameters of each, as JSON
python litgpt_model.py logits FOLDER...    FOLDER/given.pt's ids and weights to logits.pt
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import yaml
from litgpt import GPT, Config

WEIGHTS = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.norm.weight": "transformer.ln_f.weight",
    "lm_head.weight": "lm_head.weight",
}
LAYER_WEIGHTS = {
    "input_layernorm": "norm_1",
    "post_attention_layernorm": "norm_2",
    "self_attn.o_proj": "attn.proj",
    "self_attn.q_norm": "attn.norm_q",
    "self_attn.k_norm": "attn.norm_k",
    "mlp.gate_proj": "mlp.fc_1",
    "mlp.down_proj": "mlp.proj",
}


def build(folder: Path, device: str) -> GPT:
    """As `litgpt pretrain` does."""
    pretrain = yaml.safe_load((folder / "pretrain.yaml").read_text())
    config = Config(**pretrain["model_config"])
    assert config == Config.from_file(folder / "model_config.yaml")
    with torch.device(device):
        model = GPT(config)
    if pretrain["train"]["tie_embeddings"]:
        model.transformer.wte.weight = model.lm_head.weight
    return model


def renamed(state: dict[str, torch.Tensor], gated: bool) -> dict[str, torch.Tensor]:
    """Weights by litgpt's names."""
    found = {theirs: state[ours] for ours, theirs in WEIGHTS.items() if ours in state}
    found.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    table = LAYER_WEIGHTS | {"mlp.up_proj": "mlp.fc_2" if gated else "mlp.fc"}
    for layer in range(100):
        for kind in ("weight", "bias"):
            ours = f"model.layers.{layer}."
            parts = [f"{ours}self_attn.{part}_proj.{kind}" for part in "qkv"]
            if parts[0] in state:
                fused = torch.cat([state[part] for part in parts])
                found[f"transformer.h.{layer}.attn.qkv.{kind}"] = fused
            for name, theirs in table.items():
                if f"{ours}{name}.{kind}" in state:
                    found[f"transformer.h.{layer}.{theirs}.{kind}"] = state[f"{ours}{name}.{kind}"]
    return found


if __name__ == "__main__":
    assert "phonesearch" not in sys.modules
    torch.set_num_threads(1)
    if sys.argv[1] == "count":
        models = [build(Path(folder), "meta") for folder in sys.argv[2:]]
        print(json.dumps([sum(p.numel() for p in model.parameters()) for model in models]))
    else:
        for folder in map(Path, sys.argv[2:]):
            given = torch.load(folder / "given.pt")
            model = build(folder, "cpu")
            gated = "model.layers.0.mlp.gate_proj.weight" in given["weights"]
            model.load_state_dict(renamed(given["weights"], gated))
            with torch.no_grad():
                torch.save(model(given["ids"]), folder / "logits.pt")
