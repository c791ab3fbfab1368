"""Weights that do not fit are refused, with the names of those that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.model.weights import weights_for


def test_weights_that_fit_pass_through_uncopied(tiny: Candidate) -> None:
    state = Decoder(tiny).state_dict()
    fitted = weights_for(tiny, state)
    assert list(fitted) == list(state)
    assert all(fitted[name].data_ptr() == state[name].data_ptr() for name in state)


def test_a_repeated_tied_head_and_rotary_tables_are_left_out(tiny: Candidate) -> None:
    state = Decoder(tiny).state_dict()
    extra = {"lm_head.weight": state["model.embed_tokens.weight"]}
    extra["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    assert weights_for(tiny, {**state, **extra}).keys() == state.keys()


def test_a_missing_a_left_over_and_a_misshapen_tensor_are_all_named(tiny: Candidate) -> None:
    state = Decoder(tiny).state_dict()
    del state["model.norm.weight"]
    state["model.layers.2.mlp.up_proj.weight"] = torch.ones(160, 64)
    state["model.layers.0.mlp.up_proj.weight"] = torch.ones(64, 64)
    with pytest.raises(ExportError) as raised:
        weights_for(tiny, state)
    message = str(raised.value)
    assert "`model.norm.weight` is missing" in message
    assert "`model.layers.2.mlp.up_proj.weight` has no place" in message
    assert "`model.layers.0.mlp.up_proj.weight` must be (160, 64), got (64, 64)" in message


def test_a_long_list_of_problems_is_cut_short(tiny: Candidate) -> None:
    with pytest.raises(ExportError, match=r"and 16 more\. Give the checkpoint"):
        weights_for(tiny, {})


def test_a_fused_projection_of_another_model_is_refused(tiny: Candidate) -> None:
    fused = {"model.layers.0.self_attn.qkv_proj.weight": torch.ones(127, 64)}
    with pytest.raises(ExportError, match="must have 128 rows for this candidate, got 127"):
        weights_for(tiny, fused)


def test_an_untied_head_is_needed(tiny: Candidate) -> None:
    with pytest.raises(ExportError, match=r"`lm_head\.weight` is missing"):
        weights_for(replace(tiny, tie_word_embeddings=False), Decoder(tiny).state_dict())
