"""Writes the training recipe of a candidate beside its config, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

from phonesearch import __version__
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.files import write_json, write_text
from phonesearch.trainer_export.training_recipe import (
    ADAM_BETAS,
    ADAM_EPS,
    ASSUMED_UTILISATION,
    CHINCHILLA_TOKENS_PER_PARAMETER,
    FINAL_LR_RATIO,
    GRADIENT_CLIP_NORM,
    H100_PEAK_FLOP_PER_S,
    PHONELM_TOKENS_PER_PARAMETER,
    WEIGHT_DECAY,
    TrainingRecipe,
    training_recipes,
)
from phonesearch.units import format_count

RECIPE_FILE: Final = "training_recipe.json"
NOTES_FILE: Final = "TRAINING.md"


def write_training_notes(candidate: Candidate, folder: Path) -> None:
    """`TRAINING.md` with every value and its source, `training_recipe.json` with the values."""
    recipes = training_recipes(candidate)
    write_text(folder / NOTES_FILE, training_notes(candidate, recipes))
    write_json(
        folder / RECIPE_FILE,
        {
            "schema": "phonesearch.training_recipe/1",
            "candidate_id": candidate_id(candidate),
            "phonesearch_version": __version__,
            "optimizer": "AdamW",
            "adam_betas": list(ADAM_BETAS),
            "adam_eps": ADAM_EPS,
            "weight_decay": WEIGHT_DECAY,
            "gradient_clip_norm": GRADIENT_CLIP_NORM,
            "schedule": "cosine",
            "final_lr_ratio": FINAL_LR_RATIO,
            "recipes": {
                recipe.name: asdict(recipe)
                | {"batch_tokens": recipe.batch_tokens, "num_steps": recipe.num_steps}
                for recipe in recipes
            },
        },
    )


def training_notes(candidate: Candidate, recipes: tuple[TrainingRecipe, ...]) -> str:
    """The recipes side by side, in Markdown."""
    rows = [
        ("tokens", [format_count(one.tokens) for one in recipes], _TOKENS),
        (
            "peak learning rate",
            [f"{one.peak_lr:.2e}" for one in recipes],
            "; ".join(one.lr_source for one in recipes),
        ),
        (
            "of the blocks' matrices, if apart",
            [f"{one.matrix_lr:.2e}" for one in recipes],
            "; ".join(one.matrix_lr_source for one in recipes),
        ),
        (
            "batch, sequences",
            [f"{one.batch_sequences:,} x {one.context_length:,} tokens" for one in recipes],
            _STEP_LAW,
        ),
        ("steps", [f"{one.num_steps:,}" for one in recipes], "tokens over batch"),
        ("warm-up, steps", [f"{one.warmup_steps:,}" for one in recipes], _WARMUP),
        (
            "schedule",
            [f"cosine to {FINAL_LR_RATIO:g} of the peak"] * len(recipes),
            "PhoneLM's published configuration",
        ),
        (
            "AdamW",
            [f"betas {ADAM_BETAS[0]}, {ADAM_BETAS[1]}, eps {ADAM_EPS:g}"] * len(recipes),
            "PhoneLM's published configuration",
        ),
        ("weight decay", [f"{WEIGHT_DECAY:g}"] * len(recipes), "PhoneLM's published configuration"),
        (
            "gradient norm at most",
            [f"{GRADIENT_CLIP_NORM:g}"] * len(recipes),
            "Llama 2, arXiv 2307.09288, section 2.2",
        ),
        ("FLOP", [f"{one.flop:.2e}" for one in recipes], "PaLM, arXiv 2204.02311, appendix B"),
        ("H100 hours", [f"{one.h100_hours:,.0f}" for one in recipes], _HOURS),
    ]
    head = ["", *(f"at {one.name}'s tokens" for one in recipes), "source"]
    lines = [head, ["---"] * len(head), *([name, *values, why] for name, values, why in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return _NOTES.format(name=candidate_id(candidate), version=__version__, table=table)


_TOKENS: Final = (
    f"{CHINCHILLA_TOKENS_PER_PARAMETER:g} tokens a parameter, Hoffmann et al., arXiv 2203.15556; "
    f"{PHONELM_TOKENS_PER_PARAMETER:.0f}, PhoneLM, arXiv 2411.05046"
)
_STEP_LAW: Final = (
    "0.58 D^0.571 tokens, Step Law, arXiv 2503.04715, to the next multiple of 8; beyond its range "
    "in the second"
)
_WARMUP: Final = "500 as PhoneLM, or 1 % where that is more, at most a tenth: assumption"
_HOURS: Final = (
    f"assuming {ASSUMED_UTILISATION:.0%} of {H100_PEAK_FLOP_PER_S / 1e12:.0f} TFLOP/s, "
    "the dense bfloat16 peak of NVIDIA's data sheet; by a trainer that reaches half of that, twice"
)
_NOTES: Final = """\
# How to train candidate {name}

Written by phonesearch {version}. These are starting points from published runs and laws, and
phonesearch has not trained this candidate. Try half and twice the learning rate before a long run,
and compare at the end of a cooldown. Where a source is given twice, the first is of the first
column.

{table}

`training_recipe.json` has the same values for programs.
"""
