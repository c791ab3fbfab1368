"""What every trainer promises of the candidates themselves: all of it written, or refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from trainer_python import export_each

from phonesearch.candidate.config import Candidate, RopeScaling, candidate_id
from phonesearch.trainer_export import recipe_values
from phonesearch.trainer_export.base import TARGETS, export_to
from phonesearch.trainer_export.recipe_values import config_recipe

OTHER: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "ffn_type": "plain",
    "hidden_act": "gelu",
    "tie_word_embeddings": False,
    "attention_bias": True,
    "attention_out_bias": True,
    "mlp_bias": True,
    "qk_norm": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "rope_scaling": RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
    ),
    "max_position_embeddings": 512,
    "sliding_window": 5,
}
FOR_PEOPLE = ("README.md", "TRAINING.md", "training_recipe.json")
TRAINERS = [target for target in TARGETS if target not in ("hf", "onnx", "executorch")]


def _written(folder: Path, candidate: Candidate) -> bytes:
    """What a trainer or runtime reads, without the candidate's id, which every field is in."""
    files = sorted(path for path in folder.iterdir() if path.name not in FOR_PEOPLE)
    content = b"".join(path.read_bytes() for path in files)
    return content.replace(candidate_id(candidate).encode(), b"")


@pytest.fixture(autouse=True)
def _same_recipe(tiny: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe differs with every parameter; here a difference is to come from the field."""
    recipe = config_recipe(tiny)
    monkeypatch.setattr(recipe_values, "config_recipe", lambda _: recipe)


def test_every_field_of_a_candidate_has_another_value_here() -> None:
    assert set(OTHER) == {field.name for field in fields(Candidate)}


@pytest.mark.parametrize("target", TRAINERS)
@pytest.mark.parametrize("field", OTHER)
def test_no_field_is_dropped_in_silence(
    target: str, field: str, tiny: Candidate, tmp_path: Path
) -> None:
    before = _written(export_to(target, tiny, tmp_path / "before"), tiny)
    changed = replace(tiny, **{field: OTHER[field]})
    written, refused = export_each(target, [changed], tmp_path)
    for message in refused.values():
        assert f"`{field}`" in message
    for folder in written:
        assert _written(folder, changed) != before
