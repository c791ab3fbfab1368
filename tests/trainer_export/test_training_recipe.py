"""Where every value of the training recipe comes from, by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import non_embedding_parameters, total_parameters
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.training_notes import write_training_notes
from phonesearch.trainer_export.training_recipe import (
    chinchilla_recipe,
    phonelm_recipe,
    training_flop,
    training_recipes,
)

PHONELM = Candidate(
    vocab_size=49152,
    hidden_size=2560,
    intermediate_size=6816,
    num_hidden_layers=19,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=160,
    hidden_act="relu",
)


def test_rates_and_batches_are_those_of_the_law() -> None:
    """N = 1,492,764,160: N^-0.713 = e^(-0.713 x 21.1240) = 2.8768e-7; D = 1e11: D^0.307 = 2,382.6,
    so 1.79 x 2.8768e-7 x 2,382.6 = 1.2269e-3. D^0.571 = 1,909,900; x 0.58 = 1,107,700 tokens,
    540.9 sequences of 2,048, to the next 8."""
    assert non_embedding_parameters(PHONELM) == 1_492_764_160
    found = chinchilla_recipe(PHONELM, tokens=10**11)
    assert found.peak_lr == pytest.approx(1.2269e-3, rel=1e-4)
    assert found.batch_sequences == 544
    assert found.num_steps == 10**11 // (544 * 2048)
    assert found.warmup_steps == round(0.01 * found.num_steps)


def test_operations_are_those_of_palms_appendix() -> None:
    """19 layers x 2560 x (4 x 2560 + 3 x 6816) = 1,492,664,320 weights and a head of 125,829,120,
    times 6; attention 12 x 19 x 16 x 160 x 2048 = 1,195,376,640; together 10,906,337,280."""
    assert training_flop(PHONELM, tokens=1) == 10_906_337_280
    found = chinchilla_recipe(PHONELM, tokens=10**9)
    assert found.h100_hours == pytest.approx(10_906_337_280 * 1e9 / (989.4e12 * 0.4) / 3600)


def test_matrices_of_a_wider_model_want_a_lower_rate() -> None:
    deep = dataclasses.replace(PHONELM, num_hidden_layers=76, hidden_size=1280)
    wide, narrow = (chinchilla_recipe(one, tokens=10**11) for one in (PHONELM, deep))
    assert wide.matrix_lr / wide.peak_lr < narrow.matrix_lr / narrow.peak_lr
    assert phonelm_recipe(PHONELM, tokens=10**11).matrix_lr == 4e-4  # its own rate at its width
    assert phonelm_recipe(deep, tokens=10**11).matrix_lr == pytest.approx(8e-4)


def test_both_lengths_are_written_with_their_sources(tmp_path: Path) -> None:
    write_training_notes(PHONELM, tmp_path)
    content = json.loads((tmp_path / "training_recipe.json").read_text())
    chinchilla, phonelm = content["recipes"]["Chinchilla"], content["recipes"]["PhoneLM"]
    assert chinchilla["tokens"] == 20 * total_parameters(PHONELM)
    assert phonelm["tokens"] == pytest.approx(1.5e12, rel=1e-6)
    text = (tmp_path / "TRAINING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12
    assert all(row.rstrip(" |").split("|")[-1].strip() for row in rows)
    for source in ("2503.04715", "2203.15556", "2411.05046", "2204.02311", "assuming 40%"):
        assert source in text
    assert f"{training_recipes(PHONELM)[1].h100_hours:,.0f}" in text


def test_a_batch_is_one_that_gpus_and_micro_batches_divide(tiny: Candidate) -> None:
    for tokens in (10**4, 10**6, 10**8, 10**9):
        found = chinchilla_recipe(tiny, tokens=tokens)
        assert found.batch_sequences >= 1
        if found.batch_sequences >= 8:
            assert (found.batch_sequences % 8, found.micro_batch_sequences) == (0, 8)
    assert chinchilla_recipe(tiny, tokens=1).batch_sequences == 1


def test_a_training_of_no_tokens_is_refused() -> None:
    with pytest.raises(TrainerExportError, match="at least 1 token, got 0"):
        chinchilla_recipe(PHONELM, tokens=0)
