"""What llama.cpp calls things: its architectures, metadata keys and tensors.

Source: `src/models/{llama,qwen3,arcee}.cpp`, `build_ffn` and `build_qkv` in
`src/llama-graph.cpp`, `llama_model_rope_type` and `create_tensor_qkv` in `src/llama-model.cpp`
of llama.cpp 0.5.0-dev (in the source package of llama-cpp-python 0.3.36); the names of keys and
tensors as in `gguf/constants.py` of gguf 0.19.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from phonesearch.candidate.config import Activation, Candidate, FfnType
from phonesearch.errors import TrainerExportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A graph of llama.cpp with pre-norm RMSNorm blocks and rotary grouped-query attention.

    All take a bias on the query, key and value projections, a head that is the embedding table
    where there is no other, and any `head_dim`.
    """

    name: str
    ffn_type: FfnType
    hidden_act: Activation
    qk_norm: bool
    pairs_neighbours: bool
    """Whether rotation pairs dimension 2i with 2i + 1, and not i with i + H/2 as we do: rows of
    the query and key projections are then to be put in that order."""
    lacks: tuple[str, ...] = ()
    """Fields that its graph does not look at."""


ARCHITECTURES: Final = (
    Architecture(
        name="llama", ffn_type="gated", hidden_act="silu", qk_norm=False, pairs_neighbours=True
    ),
    Architecture(
        name="qwen3",
        ffn_type="gated",
        hidden_act="silu",
        qk_norm=True,
        pairs_neighbours=False,
        lacks=("attention_out_bias", "mlp_bias", "rope_scaling"),
    ),
    Architecture(
        name="arcee",
        ffn_type="plain",
        hidden_act="relu2",
        qk_norm=False,
        pairs_neighbours=True,
        lacks=("attention_out_bias", "mlp_bias"),
    ),
)
"""The only ones of llama.cpp's with exactly a candidate's function.

What it has beside them changes more than one field: `nemotron` and `jais2` are plain relu2 with
LayerNorm, `smallthinker` is gated relu with experts, `phi3` switches its sliding window off,
`granite-swa` has one with attention sinks, and every gelu of `build_ffn` is the tanh form."""

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "vocab_size": ("vocab_size",),
    "hidden_size": ("embedding_length",),
    "intermediate_size": ("feed_forward_length",),
    "num_hidden_layers": ("block_count",),
    "num_attention_heads": ("attention.head_count",),
    "num_key_value_heads": ("attention.head_count_kv",),
    "head_dim": ("attention.key_length", "attention.value_length", "rope.dimension_count"),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon",),
    "rope_theta": ("rope.freq_base",),
    "max_position_embeddings": ("context_length",),
}
"""Our field to their keys, each after the name of the architecture and a dot."""

TENSORS: Final[Mapping[str, str]] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
"""Our module to theirs, outside the layers."""

LAYER_TENSORS: Final[Mapping[str, str]] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Our module to theirs, inside `model.layers.N` and `blk.N`."""

ROPE_FACTORS: Final = "rope_freqs.weight"
"""What each rotary frequency is divided by; llama.cpp knows `rope_scaling` by nothing else."""


def architecture_for(candidate: Candidate) -> Architecture:
    """The architecture that is this candidate.

    Raises:
        TrainerExportError: If there is none; names the fields.
    """
    feed_forward = (candidate.ffn_type, candidate.hidden_act)
    fitting = [a for a in ARCHITECTURES if (a.ffn_type, a.hidden_act) == feed_forward]
    if not fitting:
        known = " and ".join(sorted({f"{a.ffn_type} {a.hidden_act}" for a in ARCHITECTURES}))
        why = "; its gelu is the tanh form, ours is exact" if "gelu" in feed_forward else ""
        raise _refusal(
            f"`ffn_type` {candidate.ffn_type} with `hidden_act` {candidate.hidden_act} "
            f"(it has {known}{why})"
        )
    if candidate.sliding_window is not None:
        raise _refusal(f"`sliding_window` {candidate.sliding_window} in all layers")
    found = next((a for a in fitting if a.qk_norm == candidate.qk_norm), None)
    if found is None:
        raise _refusal(f"`qk_norm` {candidate.qk_norm} with `ffn_type` {candidate.ffn_type}")
    lacking = [f"`{field}`" for field in found.lacks if getattr(candidate, field)]
    if lacking:
        raise _refusal(f"{', '.join(lacking)} beside the rest (`{found.name}` ignores it)")
    return found


def _refusal(what: str) -> TrainerExportError:
    return TrainerExportError(
        f"llama.cpp has no architecture with {what}. Change that, or export to `onnx`."
    )


def metadata(candidate: Candidate, architecture: Architecture) -> dict[str, Any]:
    """Value of every key that a field of the candidate stands behind."""
    return {
        f"{architecture.name}.{key}": getattr(candidate, field)
        for field, keys in KEYS.items()
        for key in keys
    }


def tensor_name(name: str) -> str:
    """What llama.cpp calls the parameter that `Decoder` calls `name`."""
    module, _, kind = name.rpartition(".")
    if module in TENSORS:
        return f"{TENSORS[module]}.{kind}"
    layer, _, inner = module.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{LAYER_TENSORS[inner]}.{kind}"
