"""One point of the search space: a decoder-only architecture."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from phonesearch.errors import InvalidCandidateError

FfnType = Literal["gated", "plain"]
Activation = Literal["silu", "gelu", "relu", "relu2"]

FFN_TYPES: tuple[FfnType, ...] = ("gated", "plain")
ACTIVATIONS: tuple[Activation, ...] = ("silu", "gelu", "relu", "relu2")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretching of the low rotary frequencies (`rope_type: llama3`).

    Source: `_compute_llama3_parameters` in transformers' `modeling_rope_utils.py`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A decoder-only language model, in Hugging Face `config.json` field names.

    Pre-norm blocks of RMSNorm, rotary grouped-query attention and one feed-forward network,
    a last RMSNorm and a head. Values only: no torch, no file access, nothing that depends on
    a device. Two candidates that compare equal have the same graph and the same parameters.
    """

    vocab_size: int
    """Rows of the embedding table, after padding."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward network, of one branch where it is gated."""
    num_hidden_layers: int
    num_attention_heads: int
    """Query heads per layer."""
    num_key_value_heads: int
    """Key/value heads per layer; equal to `num_attention_heads` is MHA, 1 is MQA."""
    head_dim: int
    """Width of one head; even, as rotary embeddings turn pairs."""
    ffn_type: FfnType = "gated"
    """`gated`: down(act(gate(x)) * up(x)), three matrices. `plain`: down(act(up(x))), two."""
    hidden_act: Activation = "silu"
    """Activation of the feed-forward network; `gelu` is the exact (erf) one, `relu2` is
    relu squared."""
    tie_word_embeddings: bool = True
    """Whether the head is the embedding table."""
    attention_bias: bool = False
    """Bias on the query, key and value projections."""
    attention_out_bias: bool = False
    """Bias on the output projection of attention."""
    mlp_bias: bool = False
    """Bias on the feed-forward projections."""
    qk_norm: bool = False
    """RMSNorm over the head dimension of queries and keys, before the rotation (Qwen3)."""
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: int = 2048
    sliding_window: int | None = None
    """Newest positions a query sees, itself included; None is all of them."""

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ):
            if getattr(self, field) < 1:
                raise InvalidCandidateError(
                    f"`{field}` must be at least 1, got {getattr(self, field)}."
                )
        if self.num_attention_heads % self.num_key_value_heads:
            raise InvalidCandidateError(
                "`num_attention_heads` must be a multiple of `num_key_value_heads`, "
                f"got {self.num_attention_heads} and {self.num_key_value_heads}."
            )
        if self.head_dim % 2:
            raise InvalidCandidateError(
                f"`head_dim` must be even for rotary embeddings, got {self.head_dim}."
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise InvalidCandidateError(
                f"`sliding_window` must be at least 1 or null, got {self.sliding_window}."
            )
        if not self.rms_norm_eps > 0 or not self.rope_theta > 1:
            raise InvalidCandidateError(
                "`rms_norm_eps` must be above 0 and `rope_theta` above 1, "
                f"got {self.rms_norm_eps} and {self.rope_theta}."
            )


def candidate_id(candidate: Candidate) -> str:
    """Twelve hexadecimal digits that stand for this architecture, the same on every machine."""
    canonical = json.dumps(asdict(candidate), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def as_dict(candidate: Candidate) -> dict[str, Any]:
    """The fields of a candidate, as JSON and YAML write them."""
    return asdict(candidate)


def rope_inverse_frequencies(candidate: Candidate) -> tuple[float, ...]:
    """Radians a position of each rotary pair, `head_dim / 2` of them, fastest first.

    Source: Su et al., RoFormer, arXiv 2104.09864, eq. 15; the Llama 3 stretching as in
    `RopeScaling`.
    """
    base = [
        candidate.rope_theta ** (-2 * pair / candidate.head_dim)
        for pair in range(candidate.head_dim // 2)
    ]
    scaling = candidate.rope_scaling
    if scaling is None:
        return tuple(base)
    low_wavelength = scaling.original_max_position_embeddings / scaling.low_freq_factor
    high_wavelength = scaling.original_max_position_embeddings / scaling.high_freq_factor
    stretched = []
    for frequency in base:
        wavelength = 2 * math.pi / frequency
        if wavelength < high_wavelength:
            stretched.append(frequency)
        elif wavelength > low_wavelength:
            stretched.append(frequency / scaling.factor)
        else:
            turns = scaling.original_max_position_embeddings / wavelength
            smooth = (turns - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            stretched.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return tuple(stretched)
