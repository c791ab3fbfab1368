"""The coefficients of the quality model, and what is believed of each before any training here.

All are in log loss (natural log of nats a token, so 0.01 is one percent of loss) for each unit of
their feature; `quality/features.py` has the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Origin = Literal["law", "prior"]
"""`law`: fitted to the published suites. `prior`: from a paper's table, or an assumption."""

ASPECT_CURVATURE_SD: Final = 0.3
"""Least relative standard deviation of k. Assumption, as of the next three: the two suites, both of
gated networks and of 50M to 2B, agree better than two samples tell of architectures beyond them."""
ASPECT_OPTIMUM_SD: Final = 0.25
"""Least standard deviation of m0; of m1 and m2 the two below."""
ASPECT_PER_LOG_PARAMETERS_SD: Final = 0.12
ASPECT_PER_LOG_HORIZON_SD: Final = 0.05
ASPECT_BEYOND_SD: Final = 0.25
"""Standard deviation of mu for each natural log unit of size or horizon outside the suites.
Assumption: one unit outside is as uncertain as the whole optimum inside."""
LEAST_SIZE_SD: Final = 0.005
"""Of the size coefficient, where the two suites happen to agree. Assumption."""

FFN_CURVATURE: Final = 0.0065
"""k_ff, for each squared unit of log(d_ff / d). Source: parabola through the curve of Kaplan et
al., arXiv 2001.08361, figure 5 left (50M, plain FFN), read off the figure."""
FFN_OPTIMUM_RATIO: Final = 2.5
"""Best d_ff / d of a plain network. Source: Kaplan's 1.5 and the 4 (gated 2.67) in common use."""

RESIDUAL_SD: Final = 0.005
"""Of the log loss of one architecture about the model, independent of all others. Source: what
the law fitted on one suite leaves unexplained in the other, `evidence.morph_law_on_gemstones` in
data/shape_law.json: 0.0050."""

TRANSFER_SCALE: Final = 4.0
"""Times `Term.transfer_sd` that an effect in a small model, trained long, may be from that in the
planned one. Source: `python benchmarks/proxy_study.py score`, whose 27 long trainings of 0.3M
parameters are likeliest (restricted likelihood) with effects that far from the priors, which are of
larger models; a test holds it to what the command gives. Anything from 2 to 7 is almost as likely
(log likelihood within 1.5)."""
LENGTH_SCALE: Final = 1.5
"""Times `Term.transfer_sd` that an effect in a short training may be from that in one of four times
the tokens. Source: as the one above, by the differences of short and long trainings; from 0 to 4
is almost as likely. Trainings of half that length (`--table docs/proxy/study-700k.csv`) were off by
5.5 and 6.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One coefficient that is not of the law."""

    mean: float
    sd: float
    transfer_sd: float
    """How well it carries over, against other terms: of the difference between the effect in one
    training and in another. How much that is between a short and a long one, and between a small
    and a large model, `LENGTH_SCALE` and `TRANSFER_SCALE` say."""
    source: str


PRIOR_TERMS: Final[dict[str, Term]] = {
    "ffn_curvature": Term(
        mean=FFN_CURVATURE,
        sd=0.4 * FFN_CURVATURE,
        transfer_sd=0.2 * FFN_CURVATURE,
        source="k_ff, see FFN_CURVATURE; 40 % as it stands on one size. Transfer: assumption",
    ),
    "ffn_optimum": Term(
        mean=0.0,
        sd=0.5,
        transfer_sd=0.25,
        source="log best ratio less log 2.5, which lies between Kaplan's and common practice, "
        "each half a log unit off. Transfer: assumption",
    ),
    "gated": Term(
        mean=-0.025,
        sd=0.012,
        transfer_sd=0.006,
        source="Shazeer, arXiv 2002.05202, table 1: GEGLU and SwiGLU against GELU and ReLU at "
        "equal parameters, T5-base, log ratio -0.025 to -0.028; nanochat's log has SwiGLU behind "
        "ReLU^2, hence the width. Transfer: the gaps to GELU there moved by 0.006 (root mean "
        "square) over 8 times the steps",
    ),
    "gated_gelu": Term(
        mean=0.0,
        sd=0.004,
        transfer_sd=0.003,
        source="gated gelu against gated silu; same table: -0.002, twice its noise",
    ),
    "gated_relu": Term(
        mean=0.006,
        sd=0.004,
        transfer_sd=0.003,
        source="gated relu against gated silu; same table: +0.005, so -0.019 against plain",
    ),
    "gated_relu2": Term(
        mean=0.0,
        sd=0.01,
        transfer_sd=0.005,
        source="gated relu2 against gated silu; assumption, nothing published was found",
    ),
    "plain_relu": Term(
        mean=0.0,
        sd=0.004,
        transfer_sd=0.003,
        source="plain relu against plain gelu; same table: -0.001 at the end",
    ),
    "plain_silu": Term(
        mean=0.0,
        sd=0.004,
        transfer_sd=0.003,
        source="plain silu against plain gelu; same table: +0.002 at the end",
    ),
    "plain_relu2": Term(
        mean=-0.015,
        sd=0.015,
        transfer_sd=0.006,
        source="plain relu2 against plain gelu; nanochat's log has it ahead of SwiGLU, "
        "others behind: the sources conflict",
    ),
    "kv_halvings": Term(
        mean=0.001,
        sd=0.003,
        transfer_sd=0.0015,
        source="each halving of key/value heads; Bian et al., arXiv 2510.18245, find no "
        "consistent relation to loss",
    ),
    "tied": Term(
        mean=0.0,
        sd=0.005,
        transfer_sd=0.0025,
        source="tied against untied; the parameters that it frees are charged through size",
    ),
    "attention_width": Term(
        mean=0.0,
        sd=0.01,
        transfer_sd=0.005,
        source="each log unit of heads times head width over width; assumption",
    ),
    "head_width": Term(
        mean=0.0,
        sd=0.003,
        transfer_sd=0.003,
        source="each doubling of the head width from 64; Kaplan et al., figure 5 right: 16 to "
        "300, four doublings, at most 1.9 %, less where wide",
    ),
    "qk_norm": Term(mean=0.0, sd=0.01, transfer_sd=0.005, source="assumption: anything else"),
    "biases": Term(mean=0.0, sd=0.01, transfer_sd=0.005, source="assumption: anything else"),
    "window": Term(mean=0.0, sd=0.01, transfer_sd=0.01, source="assumption: anything else"),
    "short_size": Term(
        mean=-0.076,
        sd=0.04,
        transfer_sd=0.0,
        source="d log loss / d log N of short trainings, which say nothing of the planned size; "
        "exponent of Kaplan et al., eq. 1.1, and half of it as sd",
    ),
}
"""Coefficients that no suite tells, by name."""
LAW_TERMS: Final = (
    "size",
    "aspect_curvature",
    "aspect_optimum",
    "aspect_per_log_parameters",
    "aspect_per_log_horizon",
    "aspect_beyond",
)
TERM_NAMES: Final = (*LAW_TERMS, *PRIOR_TERMS)
"""All coefficients in the order of rows and covariances."""


def origin(name: str) -> Origin:
    """Where what is believed of a coefficient is from."""
    return "law" if name in LAW_TERMS else "prior"
