"""A candidate as one row of features: what each coefficient of the quality model is taken times.

The aspect penalty k (log(d/L) - mu)^2, with mu linear in m0, m1 and m2, is not linear in its
coefficients. It is linearised around their prior means: with u = log(d/L) - mu there,

    penalty = k u^2 - 2 k u (dm0 + dm1 log(N/1e9) + dm2 log((D/N)/100))

where only in the second part k is fixed at its prior mean. A grid over mu would be exact, but no
longer one Gaussian, and mu is known to 0.3 where shapes lie within 2 of it: a test holds mean
and deviation against samples of the exact form. The FFN-ratio parabola is treated alike.

Left out by that is k var(mu), which is the same for all candidates of one size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.errors import QualityError
from phonesearch.quality.law import Array, AspectLaw, aspect_drivers, log_best_aspect
from phonesearch.quality.terms import FFN_CURVATURE, FFN_OPTIMUM_RATIO, TERM_NAMES

DEFAULT_HORIZON: Final = 100.0
"""Tokens a parameter of the planned training."""
_GATED_WIDTH: Final = 1.5
"""A gated network of width w has the parameters of a plain one of 1.5 w."""
_HEAD_DIM: Final = 64
_SUITE_PARAMETERS: Final = (48e6, 2.01e9)
_SUITE_HORIZON: Final = (5.0, 7300.0)
_SUITE_LOG_ASPECT: Final = (math.log(256 / 80), math.log(320))
"""What the suites span: parameters, tokens a parameter, and log(d / L)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training that all architectures compared get alike."""

    reference_parameters: float
    """Non-embedding; losses are relative to an architecture of this size."""
    tokens_per_parameter: float = DEFAULT_HORIZON
    """Of the reference. All get the same tokens, so one with fewer parameters gets more each."""
    is_short: bool = False
    """Whether it is a proxy's, which does not tell what size is worth in the planned one."""

    def __post_init__(self) -> None:
        for name in ("reference_parameters", "tokens_per_parameter"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise QualityError(f"`{name}` of a training must be above 0, got {value}.")

    @property
    def tokens(self) -> float:
        """Training tokens of each architecture."""
        return self.reference_parameters * self.tokens_per_parameter


def feature_row(candidate: Candidate, training: Training, law: AspectLaw) -> Array:
    """Features of a candidate in the order of `TERM_NAMES`, shape (terms,).

    Args:
        candidate: The architecture that is trained, so the proxy itself for a short training.
        training: How long.
        law: Where the penalty is linearised: the joint law that the prior was made from.
    """
    parameters = non_embedding_parameters(candidate)
    log_aspect = math.log(candidate.hidden_size / candidate.num_hidden_layers)
    size = math.log(parameters / training.reference_parameters)
    off = log_aspect - log_best_aspect(law, parameters=parameters, tokens=training.tokens)
    slope = -2 * law.curvature * off
    _, log_parameters, log_horizon = aspect_drivers(parameters, training.tokens)
    ratio = candidate.intermediate_size / candidate.hidden_size
    if candidate.ffn_type == "gated":
        ratio *= _GATED_WIDTH
    ffn_off = math.log(ratio / FFN_OPTIMUM_RATIO)
    query_width = candidate.num_attention_heads * candidate.head_dim
    values = {
        "short_size" if training.is_short else "size": size,
        "aspect_curvature": off**2,
        "aspect_optimum": slope,
        "aspect_per_log_parameters": slope * log_parameters,
        "aspect_per_log_horizon": slope * log_horizon,
        "aspect_beyond": slope * beyond_suites(parameters, training.tokens, log_aspect),
        "ffn_curvature": ffn_off**2,
        "ffn_optimum": -2 * FFN_CURVATURE * ffn_off,
        "gated": float(candidate.ffn_type == "gated"),
        f"{candidate.ffn_type}_{candidate.hidden_act}": 1.0,
        "kv_halvings": math.log2(candidate.num_attention_heads / candidate.num_key_value_heads),
        "tied": float(candidate.tie_word_embeddings),
        "attention_width": math.log(query_width / candidate.hidden_size),
        "head_width": math.log2(candidate.head_dim / _HEAD_DIM),
        "qk_norm": float(candidate.qk_norm),
        "biases": float(
            candidate.attention_bias or candidate.attention_out_bias or candidate.mlp_bias
        ),
        "window": float(candidate.sliding_window is not None),
    }
    return np.array([values.get(name, 0.0) for name in TERM_NAMES])


def feature_rows(candidates: Sequence[Candidate], training: Training, law: AspectLaw) -> Array:
    """Features of many candidates, shape (candidates, terms)."""
    if not candidates:
        return np.empty((0, len(TERM_NAMES)))
    return np.stack([feature_row(candidate, training, law) for candidate in candidates])


def beyond_suites(parameters: float, tokens: float, log_aspect: float) -> float:
    """How far outside the published suites a training lies, in natural log units; 0 inside.

    The sum over size, tokens a parameter, and depth-to-width ratio.
    """
    return (
        _outside(math.log(parameters), *(math.log(edge) for edge in _SUITE_PARAMETERS))
        + _outside(math.log(tokens / parameters), *(math.log(edge) for edge in _SUITE_HORIZON))
        + _outside(log_aspect, *_SUITE_LOG_ASPECT)
    )


def _outside(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)
