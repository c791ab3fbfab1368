"""Run by the trainers' own Python: builds what an exported folder says with Megatron Core.

    python megatron_model.py count FOLDER...     parameters of each, as JSON
    python megatron_model.py logits FOLDER...    FOLDER/given.pt's ids and weights to logits.pt

Megatron-LM, which has the argument parser, is no package, so its translation of arguments
to a `TransformerConfig` is repeated here, in a parser that knows no other argument.
Source: `core_transformer_config_from_args` and `model_provider`, NVIDIA/Megatron-LM 000c4ac24f61.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from megatron.core import parallel_state
from megatron.core.activations import squared_relu
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.tensor_parallel import get_cuda_rng_tracker
from megatron.core.transformer import TransformerConfig

VALUES = {
    "--num-layers": int,
    "--hidden-size": int,
    "--ffn-hidden-size": int,
    "--num-attention-heads": int,
    "--num-query-groups": int,
    "--kv-channels": int,
    "--norm-epsilon": float,
    "--max-position-embeddings": int,
    "--normalization": str,
    "--position-embedding-type": str,
    "--rotary-percent": float,
    "--rotary-base": int,
    "--hidden-dropout": float,
    "--attention-dropout": float,
    "--make-vocab-size-divisible-by": int,
    "--window-size": lambda text: tuple(int(part) for part in text.split(",")),
    "--rope-scaling-factor": float,
}
SWITCHES = (
    "--group-query-attention",
    "--swiglu",
    "--squared-relu",
    "--no-bias-gelu-fusion",
    "--untie-embeddings-and-output-weights",
    "--disable-bias-linear",
    "--add-qkv-bias",
    "--qk-layernorm",
    "--use-rope-scaling",
)
CONFIG_FIELDS = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "kv_channels",
    "normalization",
    "hidden_dropout",
    "attention_dropout",
    "window_size",
    "add_qkv_bias",
    "qk_layernorm",
)


def parse(folder: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name, kind in VALUES.items():
        parser.add_argument(name, type=kind)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    return parser.parse_args((folder / "model.args").read_text().split())


def build(folder: Path) -> GPTModel:
    args = parse(folder)
    assert args.group_query_attention
    kwargs = {field: getattr(args, field) for field in CONFIG_FIELDS}
    if args.swiglu:
        kwargs |= {"activation_func": F.silu, "gated_linear_unit": True}
    if args.squared_relu:
        kwargs["activation_func"] = squared_relu
    config = TransformerConfig(
        layernorm_epsilon=args.norm_epsilon,
        add_bias_linear=not args.disable_bias_linear,
        bias_activation_fusion=not args.no_bias_gelu_fusion and not args.swiglu,
        use_cpu_initialization=True,
        perform_initialization=False,
        **kwargs,
    )
    spec = get_gpt_layer_local_spec(
        qk_layernorm=args.qk_layernorm, normalization=args.normalization
    )
    return GPTModel(
        config,
        spec,
        vocab_size=args.make_vocab_size_divisible_by,  # what any smaller one is padded to
        max_sequence_length=args.max_position_embeddings,
        parallel_output=True,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type,
        rotary_percent=args.rotary_percent,
        rotary_base=args.rotary_base,
        rope_scaling=args.use_rope_scaling,
        rope_scaling_factor=args.rope_scaling_factor or 8.0,
    )


def renamed(state: dict[str, torch.Tensor], model: GPTModel) -> dict[str, torch.Tensor]:
    """Weights by Megatron's names: queries lie with their group's key and value."""
    found = {
        "embedding.word_embeddings.weight": state["model.embed_tokens.weight"],
        "decoder.final_layernorm.weight": state["model.norm.weight"],
    }
    if "lm_head.weight" in state:
        found["output_layer.weight"] = state["lm_head.weight"]
    groups, width = model.config.num_query_groups, model.config.kv_channels
    for layer in range(model.config.num_layers):
        ours, theirs = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        for kind in ("weight", "bias"):
            tail = f".{kind}"
            if f"{ours}self_attn.q_proj{tail}" in state:
                parts = [state[f"{ours}self_attn.{part}_proj{tail}"] for part in "qkv"]
                shape = (groups, -1, width, *parts[0].shape[1:])
                fused = torch.cat([part.reshape(shape) for part in parts], dim=1)
                found[f"{theirs}self_attention.linear_qkv{tail}"] = fused.flatten(0, 2)
            up = [f"{ours}mlp.gate_proj{tail}", f"{ours}mlp.up_proj{tail}"]
            up = [name for name in up if name in state]
            if up:
                found[f"{theirs}mlp.linear_fc1{tail}"] = torch.cat([state[name] for name in up])
            for name, other in (
                ("input_layernorm", "input_layernorm"),
                ("post_attention_layernorm", "pre_mlp_layernorm"),
                ("self_attn.q_norm", "self_attention.q_layernorm"),
                ("self_attn.k_norm", "self_attention.k_layernorm"),
                ("self_attn.o_proj", "self_attention.linear_proj"),
                ("mlp.down_proj", "mlp.linear_fc2"),
            ):
                if f"{ours}{name}{tail}" in state:
                    found[f"{theirs}{other}{tail}"] = state[f"{ours}{name}{tail}"]
    return found


def compare(folder: Path) -> None:
    given = torch.load(folder / "given.pt")
    model = build(folder).eval()
    model.load_state_dict(renamed(given["weights"], model), strict=False)
    names = {name for name, _ in model.named_parameters()}
    assert names == set(renamed(given["weights"], model)), names
    ids = given["ids"]
    length = ids.shape[1]
    mask = torch.ones(length, length).triu(1).bool()[None, None]
    with torch.no_grad():
        found = model(ids, torch.arange(length).expand(ids.shape), mask)
    torch.save(found, folder / "logits.pt")


if __name__ == "__main__":
    assert "phonesearch" not in sys.modules
    torch.set_num_threads(1)
    # Where its rotations are put, and whose random numbers a dropout of zero does not draw.
    torch.cuda.current_device = lambda: torch.device("cpu")
    get_cuda_rng_tracker().fork = lambda *_: contextlib.nullcontext()
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    folders = [Path(folder) for folder in sys.argv[2:]]
    if sys.argv[1] == "count":
        counts = []
        for folder in folders:
            counts.append(sum(p.numel() for p in build(folder).parameters()))
        print(json.dumps(counts))
    else:
        for folder in folders:
            compare(folder)
