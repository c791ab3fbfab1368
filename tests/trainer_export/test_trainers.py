"""Every trainer, in an environment without phonesearch, against our own model and our counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainer_python import differing, export_each, give_weights, run_in_trainer
from tried import trainer_version, tried

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.base import export_to

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
LLAMA3_AT_8192 = replace(LLAMA3, factor=4.0, original_max_position_embeddings=8192)
EVERYWHERE: dict[str, dict[str, Any]] = {
    "grouped": {},
    "untied, multi-head": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "plain gelu": {"ffn_type": "plain", "hidden_act": "gelu"},
    "qk norm": {"qk_norm": True, "rms_norm_eps": 1e-4},
    "biases": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "biases before attention": {"attention_bias": True, "num_key_value_heads": 1},
    "heads that do not divide the width, odd vocabulary": {
        "num_attention_heads": 6,
        "vocab_size": 251,
        "rope_theta": 500.0,
    },
}
ALSO: dict[str, dict[str, dict[str, Any]]] = {
    "litgpt": {
        "gelu": {"hidden_act": "gelu"},
        "window": {"sliding_window": 5},
        "rope": {"rope_scaling": LLAMA3},
    },
    "torchtitan": {
        "gelu": {"hidden_act": "gelu"},
        "relu": {"hidden_act": "relu", "attention_out_bias": True},
        "relu2": {"hidden_act": "relu2", "mlp_bias": True},
        "plain relu2": {"ffn_type": "plain", "hidden_act": "relu2", "mlp_bias": True},
        "plain silu": {"ffn_type": "plain"},
    },
    # Its own mask of a window is made for CUDA alone, so it is not among these.
    "megatron": {
        "plain relu2": {"ffn_type": "plain", "hidden_act": "relu2"},
        "rope": {"rope_scaling": LLAMA3_AT_8192, "head_dim": 64, "rope_theta": 1e6},
    },
}
TOOLS = {"litgpt": "litgpt", "torchtitan": "torchtitan", "megatron": "megatron-core"}
"""Distribution that reads what is exported to each."""
ONE_SWITCH = {
    "out bias": ({"attention_out_bias": True}, "`attention_out_bias` True"),
    "no qkv bias": ({"mlp_bias": True, "attention_out_bias": True}, "`attention_bias` False"),
    "theta": ({"rope_theta": 10000.5}, r"`rope_theta` 10000\.5"),
    "at once": ({"hidden_act": "relu", "rope_theta": 1.5}, "`hidden_act` relu.*`rope_theta` 1.5"),
}
REFUSED: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "litgpt": {
        "relu": ({"hidden_act": "relu"}, r"`hidden_act` relu \(it has silu and gelu where"),
        "plain silu": ({"ffn_type": "plain"}, "`hidden_act` silu"),
        **ONE_SWITCH,
    },
    "torchtitan": {
        "window": ({"sliding_window": 5}, "`sliding_window` 5"),
        "rope": ({"rope_scaling": LLAMA3}, "`rope_scaling` RopeScaling"),
    },
    "megatron": {
        "gelu": ({"hidden_act": "gelu"}, r"`hidden_act` gelu \(it has silu where"),
        "plain relu": ({"ffn_type": "plain", "hidden_act": "relu"}, "`hidden_act` relu "),
        "rope": ({"rope_scaling": LLAMA3}, "`rope_scaling` RopeScaling.*position_embeddings` 8192"),
        **ONE_SWITCH,
    },
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ALSO)
def test_the_trainer_computes_the_same_logits(target: str, tiny: Candidate, tmp_path: Path) -> None:
    expected = {}
    for name, change in {**EVERYWHERE, **ALSO[target]}.items():
        candidate = replace(tiny, **change)
        folder = export_to(target, candidate, tmp_path / name)
        expected[folder] = give_weights(candidate, folder)
    run_in_trainer(target, f"{target}_model.py", "logits", *expected)
    assert differing(expected) == []
    tried(
        target,
        tool=TOOLS[target],
        version=trainer_version(target, TOOLS[target]),
        what=f"computed the logits of {len(expected)} kinds of models on a CPU",
        result="within 2e-5 of ours",
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ALSO)
def test_of_fifty_candidates_the_counted_parameters_are_built_or_the_field_is_named(
    target: str, drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    written, refused = export_each(target, drawn, tmp_path)
    assert len(written) >= 10
    for candidate, message in refused.items():
        assert f"`hidden_act` {candidate.hidden_act}" in message
    printed = run_in_trainer(target, f"{target}_model.py", "count", *written)
    assert json.loads(printed.splitlines()[0]) == list(written.values())
    tried(
        target,
        tool=TOOLS[target],
        version=trainer_version(target, TOOLS[target]),
        what=f"built {len(drawn)} random candidates of the default space at 300M",
        result=f"{len(written)} with exactly the counted parameters, {len(refused)} refused by "
        "field before anything was written",
    )


@pytest.mark.parametrize(
    ("target", "case"), [(target, case) for target, cases in REFUSED.items() for case in cases]
)
def test_what_a_trainer_has_no_switch_for_is_refused_by_name(
    target: str, case: str, tiny: Candidate, tmp_path: Path
) -> None:
    change, message = REFUSED[target][case]
    with pytest.raises(TrainerExportError, match=message):
        export_to(target, replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
