"""Brings a checkpoint's tensors to the names and shapes of `Decoder`, and checks that they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder

_FUSED = re.compile(r"(.*)\.(qkv_proj|gate_up_proj)\.(weight|bias)")
_SHOWN = 4


def weights_for(candidate: Candidate, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a Hugging Face checkpoint as `Decoder(candidate).state_dict()` has them.

    Phi-3's fused `qkv_proj` and `gate_up_proj` are split into views; a head that repeats a
    tied table and stored rotary tables are left out. Nothing is copied or converted.

    Args:
        candidate: Architecture that the tensors must fit.
        state: Tensors by Hugging Face name, Llama-like or Phi-3.

    Raises:
        ExportError: If a tensor is missing, left over or of another shape; names them.
    """
    query = candidate.num_attention_heads * candidate.head_dim
    key_value = candidate.num_key_value_heads * candidate.head_dim
    parts = {
        "qkv_proj": {"q_proj": query, "k_proj": key_value, "v_proj": key_value},
        "gate_up_proj": dict.fromkeys(("gate_proj", "up_proj"), candidate.intermediate_size),
    }
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        fused = _FUSED.fullmatch(name)
        if name.endswith(".rotary_emb.inv_freq"):
            continue
        if name == "lm_head.weight" and candidate.tie_word_embeddings:
            continue
        if fused is None:
            found[name] = tensor
            continue
        sizes = parts[fused[2]]
        if tensor.shape[0] != sum(sizes.values()):
            raise ExportError(
                f"`{name}` must have {sum(sizes.values())} rows for this candidate, got "
                f"{tensor.shape[0]}. Is this the checkpoint of another config?"
            )
        pieces = torch.split(tensor, list(sizes.values()))
        found |= {f"{fused[1]}.{part}.{fused[3]}": p for part, p in zip(sizes, pieces, strict=True)}
    expected = {n: tuple(p.shape) for n, p in Decoder(candidate, device="meta").named_parameters()}
    problems = [f"`{name}` is missing" for name in expected.keys() - found.keys()]
    problems += [f"`{name}` has no place" for name in found.keys() - expected.keys()]
    problems += [
        f"`{name}` must be {expected[name]}, got {tuple(found[name].shape)}"
        for name in expected.keys() & found.keys()
        if tuple(found[name].shape) != expected[name]
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ExportError(
            f"The weights do not fit the candidate: {shown}{more}. Give the checkpoint that "
            "was trained from this candidate's own config."
        )
    return {name: found[name] for name in expected}
