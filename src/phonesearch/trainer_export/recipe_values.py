"""The recipe that a trainer's config is written with, and its values in that trainer's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phonesearch.candidate.config import Candidate
from phonesearch.trainer_export.training_recipe import (
    ADAM_BETAS,
    ADAM_EPS,
    FINAL_LR_RATIO,
    GRADIENT_CLIP_NORM,
    WEIGHT_DECAY,
    TrainingRecipe,
    training_recipes,
)
from phonesearch.units import format_count


def config_recipe(candidate: Candidate) -> TrainingRecipe:
    """The recipe that configs are written with: the one at the Chinchilla point.

    A config has one length of training; this is the one that most can pay for.
    """
    return training_recipes(candidate)[0]


def recipe_values(candidate: Candidate) -> dict[str, Any]:
    """All that the recipe says of `candidate`, by our names.

    The learning rate of matrices apart is not here: every config has one rate for all.
    """
    recipe = config_recipe(candidate)
    return {
        "tokens": recipe.tokens,
        "context_length": recipe.context_length,
        "batch_sequences": recipe.batch_sequences,
        "micro_batch_sequences": recipe.micro_batch_sequences,
        "accumulation_steps": recipe.accumulation_steps,
        "num_steps": recipe.num_steps,
        "warmup_steps": recipe.warmup_steps,
        "decay_steps": recipe.num_steps - recipe.warmup_steps,
        "peak_lr": recipe.peak_lr,
        "final_lr": recipe.peak_lr * FINAL_LR_RATIO,
        "final_lr_ratio": FINAL_LR_RATIO,
        "adam_betas": list(ADAM_BETAS),
        "adam_beta1": ADAM_BETAS[0],
        "adam_beta2": ADAM_BETAS[1],
        "adam_eps": ADAM_EPS,
        "weight_decay": WEIGHT_DECAY,
        "gradient_clip_norm": GRADIENT_CLIP_NORM,
    }


def in_their_words(
    candidate: Candidate, table: Mapping[str, str], *, fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of a config: what is `fixed`, and the values of the recipe.

    Args:
        candidate: Architecture.
        table: Our name of a value, see `recipe_values`, and the trainer's; dots in it are levels.
        fixed: What does not come from the recipe; dots in its keys are levels too.
    """
    values = recipe_values(candidate)
    content: dict[str, Any] = {}
    for theirs, value in (*fixed.items(), *((table[ours], values[ours]) for ours in table)):
        *levels, name = theirs.split(".")
        place = content
        for level in levels:
            place = place.setdefault(level, {})
        place[name] = value
    return content


def recipe_sentences(candidate: Candidate, *, where: str, besides: str = "") -> str:
    """What a README says of the values in its config.

    Args:
        candidate: Architecture.
        where: File or function that has them.
        besides: What else is to be said, on what becomes of a text of another length, say.
    """
    recipe = config_recipe(candidate)
    micro, times = recipe.micro_batch_sequences, recipe.accumulation_steps
    return (
        f"Learning rate, warm-up, batch, length, AdamW and clipping in {where} are those of the "
        f"first\ncolumn of `TRAINING.md`, for {format_count(recipe.tokens)} tokens; its second "
        "column has those for a training of\nPhoneLM's length. All parameters have one learning "
        "rate: the one for the blocks' matrices apart is\nnot set. The batch is "
        f"{recipe.batch_sequences} sequences on one GPU, {micro} at a time, {times} times; where "
        "memory or GPUs are\nothers, change these two, and keep the product."
        f"{' ' + besides if besides else ''}\n"
    )
