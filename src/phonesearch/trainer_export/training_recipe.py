"""A sensible start for the final pre-training of a candidate: every value with its source.

No search has been made for these; they are what published training runs and laws say for a model of
this size and a text of this length. Whoever trains should try half and twice the learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import (
    matmul_parameters,
    non_embedding_parameters,
    total_parameters,
)
from phonesearch.errors import TrainerExportError
from phonesearch.quality.law import log_best_aspect
from phonesearch.quality.shipped import shipped_law

CHINCHILLA_TOKENS_PER_PARAMETER: Final = 20.0
"""Source: Hoffmann et al., arXiv 2203.15556, table 3 (approach 1): 20 tokens a parameter."""
PHONELM_TOKENS_PER_PARAMETER: Final = 1.5e12 / 1_618_593_280
"""Source: PhoneLM, arXiv 2411.05046, and the README of UbiquitousLearning/PhoneLM: 1.5T tokens in
the stable stage for PhoneLM-1.5B, which has 1,618,593,280 parameters."""
PHONELM_PEAK_LR: Final = 4e-4
PHONELM_HIDDEN_SIZE: Final = 2560
"""Peak learning rate and width of PhoneLM-1.5B. Source: `config_phonelm_1.5b.yaml` of
UbiquitousLearning/PhoneLM."""
H100_PEAK_FLOP_PER_S: Final = 989.4e12
"""Dense bfloat16 with tensor cores. Source: NVIDIA H100 SXM data sheet, 1,979 TFLOP/s with
sparsity, half of that without."""
ASSUMED_UTILISATION: Final = 0.40
"""Model FLOP over the peak. Assumption: trainers of models of this size report 0.35 to 0.5 on
one node; a plain one reaches less."""
ADAM_BETAS: Final = (0.9, 0.95)
ADAM_EPS: Final = 1e-8
WEIGHT_DECAY: Final = 0.1
"""Source of these three: `config_phonelm_1.5b.yaml` of UbiquitousLearning/PhoneLM."""
GRADIENT_CLIP_NORM: Final = 1.0
"""Source: Touvron et al., Llama 2, arXiv 2307.09288, section 2.2."""
FINAL_LR_RATIO: Final = 0.1
"""Cosine down to this share. Source: as the weight decay."""
_BATCH_MULTIPLE: Final = 8
_LEAST_WARMUP_STEPS: Final = 500
"""Source: as the weight decay."""
_WARMUP_SHARE: Final = 0.01
"""Of all steps, where that is more. Assumption."""
_MOST_MICRO_BATCH: Final = 8
"""Sequences that go through a GPU at once in a config, at most. Assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """Hyperparameters of one training run with AdamW."""

    name: str
    tokens: int
    context_length: int
    """Tokens a sequence."""
    batch_sequences: int
    """Sequences a step, over all devices."""
    peak_lr: float
    """Of all parameters, where the trainer has one learning rate."""
    matrix_lr: float
    """Of the matrices of the blocks, where the trainer has groups: in inverse proportion to the
    width."""
    lr_source: str
    matrix_lr_source: str
    warmup_steps: int
    flop: float
    """Of the whole training, forward and backward."""
    h100_hours: float
    """GPU hours at `ASSUMED_UTILISATION` of one H100's peak; divided by the GPUs it is wall time
    where scaling is perfect."""

    @property
    def batch_tokens(self) -> int:
        """Tokens a step."""
        return self.batch_sequences * self.context_length

    @property
    def num_steps(self) -> int:
        """Optimiser steps."""
        return max(1, self.tokens // self.batch_tokens)

    @property
    def micro_batch_sequences(self) -> int:
        """Sequences that go through one GPU at once: a divisor of the batch, so that none is
        rounded; 1 where it has no other."""
        return max(n for n in range(1, _MOST_MICRO_BATCH + 1) if self.batch_sequences % n == 0)

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches a step on one GPU."""
        return self.batch_sequences // self.micro_batch_sequences


def training_recipes(candidate: Candidate) -> tuple[TrainingRecipe, ...]:
    """The recipe at the Chinchilla point and that at PhoneLM's tokens a parameter."""
    size = total_parameters(candidate)
    return (
        chinchilla_recipe(candidate, tokens=round(CHINCHILLA_TOKENS_PER_PARAMETER * size)),
        phonelm_recipe(candidate, tokens=round(PHONELM_TOKENS_PER_PARAMETER * size)),
    )


def chinchilla_recipe(candidate: Candidate, *, tokens: int) -> TrainingRecipe:
    """With the learning rate of the Step Law, 1.79 N^-0.713 D^0.307.

    N parameters without embeddings, D tokens. It is said to hold across shapes; for matrices the
    rate is scaled besides by the best width of the aspect-ratio law over the candidate's. Joining
    the two is an assumption of ours. The runs in its figure 1 are of at most 100B tokens,
    so it is not used for PhoneLM's trillion.

    Args:
        candidate: Architecture.
        tokens: Of the training.

    Raises:
        TrainerExportError: If there is not one token.

    Source:
        Law: Li et al., Step Law, arXiv 2503.04715. Width: Yang et al., muP, arXiv 2203.03466,
        table 3: under Adam the rate of hidden matrices goes with one over the width.
    """
    peak = 1.79 * non_embedding_parameters(candidate) ** -0.713 * max(tokens, 1) ** 0.307
    return _recipe(
        candidate,
        name="Chinchilla",
        tokens=tokens,
        peak_lr=peak,
        matrix_lr=peak * _best_width(candidate, tokens=tokens) / candidate.hidden_size,
        lr_source="Step Law, arXiv 2503.04715",
        matrix_lr_source="muP, arXiv 2203.03466, from the best width at this size: our assumption",
    )


def phonelm_recipe(candidate: Candidate, *, tokens: int) -> TrainingRecipe:
    """With the learning rate of PhoneLM-1.5B, for matrices scaled from its width to this one.

    Args:
        candidate: Architecture.
        tokens: Of the training.

    Raises:
        TrainerExportError: If there is not one token.

    Source:
        `PHONELM_PEAK_LR`, and for the width Yang et al., muP, arXiv 2203.03466, table 3.
    """
    return _recipe(
        candidate,
        name="PhoneLM",
        tokens=tokens,
        peak_lr=PHONELM_PEAK_LR,
        matrix_lr=PHONELM_PEAK_LR * PHONELM_HIDDEN_SIZE / candidate.hidden_size,
        lr_source="PhoneLM-1.5B's configuration",
        matrix_lr_source=f"muP, arXiv 2203.03466, from PhoneLM-1.5B's width of "
        f"{PHONELM_HIDDEN_SIZE}",
    )


def _recipe(
    candidate: Candidate,
    *,
    name: str,
    tokens: int,
    peak_lr: float,
    matrix_lr: float,
    lr_source: str,
    matrix_lr_source: str,
) -> TrainingRecipe:
    """The rest: batch 0.58 D^0.571 tokens, by the Step Law, and what follows."""
    if tokens < 1:
        raise TrainerExportError(f"A training needs at least 1 token, got {tokens:,}.")
    context = candidate.max_position_embeddings
    batch = _batch_sequences(0.58 * tokens**0.571 / context)
    flop = training_flop(candidate, tokens=tokens)
    return TrainingRecipe(
        name=name,
        tokens=tokens,
        context_length=context,
        batch_sequences=batch,
        peak_lr=peak_lr,
        matrix_lr=matrix_lr,
        lr_source=lr_source,
        matrix_lr_source=matrix_lr_source,
        warmup_steps=_warmup_steps(max(1, tokens // (batch * context))),
        flop=flop,
        h100_hours=flop / (H100_PEAK_FLOP_PER_S * ASSUMED_UTILISATION) / 3600,
    )


def _batch_sequences(wanted: float) -> int:
    """Nearest whole number, from 8 on of 8s: a prime would fit neither GPUs nor micro-batches."""
    if wanted < _BATCH_MULTIPLE:
        return max(1, round(wanted))
    return _BATCH_MULTIPLE * round(wanted / _BATCH_MULTIPLE)


def _warmup_steps(steps: int) -> int:
    """The larger of the two, and never more than a tenth of the training."""
    wanted = max(_LEAST_WARMUP_STEPS, round(_WARMUP_SHARE * steps))
    return min(wanted, max(1, steps // 10))


def training_flop(candidate: Candidate, *, tokens: int) -> float:
    """Floating-point operations of a training, backward pass included, nothing recomputed.

    6 for each weight that a token is multiplied with (the head too, not the table it is looked up
    in), and 12 L H Q T for the products of attention, with L layers, H heads of width Q and T
    tokens in context, causality not taken off.

    Source: Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.
    """
    attention = (
        12
        * candidate.num_hidden_layers
        * candidate.num_attention_heads
        * candidate.head_dim
        * candidate.max_position_embeddings
    )
    return float(tokens) * (6 * matmul_parameters(candidate) + attention)


def _best_width(candidate: Candidate, *, tokens: int) -> float:
    """Width of an architecture of as many parameters with the best depth for it."""
    size = non_embedding_parameters(candidate)
    law = shipped_law().joint.aspect
    best = log_best_aspect(law, parameters=size, tokens=max(tokens, 1))
    log_aspect = math.log(candidate.hidden_size / candidate.num_hidden_layers)
    # Parameters go as layers times width squared, so as width cubed over width/layers.
    return candidate.hidden_size * math.exp((best - log_aspect) / 3)
