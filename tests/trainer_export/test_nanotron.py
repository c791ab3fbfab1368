"""The config for nanotron, held against its shapes: there is no package of it to load it with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from trainer_python import export_each
from tried import tried

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.base import export_to

SECTIONS = {
    "general": {"project", "run", "seed"},
    "parallelism": {"dp", "pp", "tp"},
    "model": {"dtype", "init_method", "make_vocab_size_divisible_by", "model_config"},
    "tokenizer": {"tokenizer_name_or_path"},
    "checkpoints": {"checkpoints_path", "checkpoint_interval"},
    "tokens": {
        "sequence_length",
        "train_steps",
        "micro_batch_size",
        "batch_accumulation_per_replica",
    },
    "optimizer": {
        "optimizer_factory",
        "zero_stage",
        "weight_decay",
        "clip_grad",
        "accumulate_grad_in_fp32",
        "learning_rate_scheduler",
    },
}
"""Names of dataclasses that nanotron's strict parser fills; they have all that it requires.

Source: `src/nanotron/config/config.py` of huggingface/nanotron at 00708b80c88e.
"""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"head_dim": 32}, "`head_dim` 32 .there it is `hidden_size` over"),
    "plain": ({"ffn_type": "plain"}, "`ffn_type` plain"),
    "qkv bias": ({"attention_bias": True}, "`attention_bias` True"),
    "out bias": ({"attention_out_bias": True}, "`attention_out_bias` True"),
    "mlp bias": ({"mlp_bias": True}, "`mlp_bias` True"),
    "qk norm": ({"qk_norm": True}, "`qk_norm` True"),
    "theta": ({"rope_theta": 500.0}, r"`rope_theta` 500\.0 .10000"),
    "window": ({"sliding_window": 5}, "`sliding_window` 5"),
    "rope": (
        {
            "rope_scaling": RopeScaling(
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            )
        },
        "`rope_scaling` RopeScaling",
    ),
    "at once": ({"qk_norm": True, "ffn_type": "plain"}, "`ffn_type` plain.*`qk_norm` True"),
}


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "nanotron.yaml").read_text(encoding="utf-8"))
    return content


def built(model: dict[str, Any]) -> int:
    """Parameters by the shapes that nanotron gives to its modules.

    Source: `src/nanotron/models/llama.py` of huggingface/nanotron at 03b83fc82541: queries, keys
    and values are one matrix, gate and up another, and the head is a matrix of its own that is
    tied after it was built.
    """
    width, heads = model["hidden_size"], model["num_attention_heads"]
    assert width % heads == 0
    head = width // heads
    qkv = width * (heads * head + 2 * model["num_key_value_heads"] * head)
    mlp = width * 2 * model["intermediate_size"] + model["intermediate_size"] * width
    layer = qkv + heads * head * width + mlp + 2 * width
    tables = 1 if model["tie_word_embeddings"] else 2
    return int(model["num_hidden_layers"] * layer + width + tables * model["vocab_size"] * width)


@pytest.mark.slow
def test_of_fifty_candidates_the_counted_parameters_are_written_or_the_field_is_named(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    written, refused = export_each("nanotron", drawn, tmp_path)
    assert len(written) >= 3
    for candidate, message in refused.items():
        plain = candidate.ffn_type == "plain"
        uneven = candidate.head_dim * candidate.num_attention_heads != candidate.hidden_size
        assert ("`ffn_type` plain" in message) is plain
        assert (f"`head_dim` {candidate.head_dim}" in message) is uneven
        assert plain or uneven
    for folder, count in written.items():
        assert built(read(folder)["model"]["model_config"]) == count
    tried(
        "nanotron",
        tool="its shapes, counted by hand",
        version="of 03b83fc82541",
        what=f"wrote {len(drawn)} random candidates of the default space at 300M",
        result=f"{len(written)} with exactly the counted parameters, {len(refused)} refused by "
        "field before anything was written",
    )


@pytest.mark.parametrize("case", REFUSED)
def test_what_its_llama_has_no_field_for_is_refused_by_name(
    case: str, tiny: Candidate, tmp_path: Path
) -> None:
    change, message = REFUSED[case]
    with pytest.raises(TrainerExportError, match=f"nanotron cannot express.*{message}"):
        export_to("nanotron", replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_config_has_what_the_parser_asks_for_and_no_more(
    tiny: Candidate, tmp_path: Path
) -> None:
    config = read(export_to("nanotron", tiny, tmp_path / "model"))
    stages = config.pop("data_stages")
    assert {section: set(config[section]) for section in config} == SECTIONS
    assert [stage["start_training_step"] for stage in stages] == [1]
    assert config["tokens"]["sequence_length"] == tiny.max_position_embeddings
    scheduler = config["optimizer"]["learning_rate_scheduler"]
    steps = scheduler["lr_warmup_steps"] + scheduler["lr_decay_steps"]
    assert steps == config["tokens"]["train_steps"]


def test_a_tokenizer_is_asked_for_where_none_is_given(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    without = export_to("nanotron", tiny, tmp_path / "a")
    given = export_to("nanotron", tiny, tmp_path / "b", tokenizer=tokenizer_folder)
    assert read(without)["tokenizer"] == {"tokenizer_name_or_path": "TOKENIZER"}
    assert read(given)["tokenizer"] == {"tokenizer_name_or_path": "."}
    assert (given / "tokenizer.json").is_file()
    assert "Replace `TOKENIZER`" in (without / "README.md").read_text(encoding="utf-8")
    assert "TOKENIZER" not in (given / "README.md").read_text(encoding="utf-8")
