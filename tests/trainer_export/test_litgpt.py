"""The folder for litgpt, read and trained by litgpt in an environment without phonesearch."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainer_python import differing, export_each, give_weights, python_of, run_in_trainer

from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.base import export_to

VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "untied, multi-head": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "multi-query, gelu": {"num_key_value_heads": 1, "hidden_act": "gelu"},
    "plain gelu": {"ffn_type": "plain", "hidden_act": "gelu"},
    "qk norm": {"qk_norm": True},
    "biases": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "biases before attention": {"attention_bias": True},
    "window": {"sliding_window": 5},
    "heads that do not divide the width, odd vocabulary": {
        "num_attention_heads": 6,
        "vocab_size": 251,
    },
    "rope": {
        "rope_theta": 500.0,
        "rope_scaling": RopeScaling(
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    },
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "relu": ({"hidden_act": "relu"}, r"`hidden_act` relu \(it has silu and gelu where"),
    "plain silu": ({"ffn_type": "plain"}, "`hidden_act` silu"),
    "out bias": ({"attention_out_bias": True}, "`attention_out_bias` True"),
    "no qkv bias": ({"mlp_bias": True, "attention_out_bias": True}, "`attention_bias` False"),
    "theta": ({"rope_theta": 10000.5}, r"`rope_theta` 10000\.5"),
    "all at once": ({"hidden_act": "relu2", "rope_theta": 1.5}, "`hidden_act`.*`rope_theta`"),
}


@pytest.mark.slow
def test_litgpt_computes_the_same_logits(tiny: Candidate, tmp_path: Path) -> None:
    expected = {}
    for name, change in VARIANTS.items():
        candidate = replace(tiny, **change)
        folder = export_to("litgpt", candidate, tmp_path / name)
        expected[folder] = give_weights(candidate, folder)
    run_in_trainer("litgpt", "litgpt_model.py", "logits", *expected)
    assert differing(expected) == []


@pytest.mark.slow
def test_of_fifty_candidates_litgpt_builds_the_counted_parameters_or_they_are_refused(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    written, refused = export_each("litgpt", drawn, tmp_path)
    assert len(written) >= 10
    for candidate, message in refused.items():
        assert f"`hidden_act` {candidate.hidden_act}" in message
    printed = run_in_trainer("litgpt", "litgpt_model.py", "count", *written)
    assert json.loads(printed.splitlines()[0]) == list(written.values())


@pytest.mark.parametrize("case", REFUSED)
def test_what_litgpt_has_no_switch_for_is_refused_by_name(
    case: str, tiny: Candidate, tmp_path: Path
) -> None:
    change, message = REFUSED[case]
    with pytest.raises(TrainerExportError, match=message):
        export_to("litgpt", replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_in_the_readme_trains(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """Twenty steps of two sequences; the loss falls from that of a uniform guess."""
    candidate = replace(tiny, max_position_embeddings=64)
    folder = export_to("litgpt", candidate, tmp_path / "model", tokenizer=tokenizer_folder)
    (folder / "text").mkdir()
    for name in ("a", "b"):
        (folder / "text" / f"{name}.txt").write_text("the cat sat on the mat. " * 300)
    text = (folder / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    command = re.search(r"^litgpt (pretrain .*) --train.max_tokens (\d+)$", text, re.MULTILINE)
    assert command is not None
    assert int(command[2]) == 20 * total_parameters(candidate)
    program = python_of("litgpt").with_name("litgpt")
    options = (
        f"--train.max_tokens {20 * 2 * 64} --train.global_batch_size 2 --train.micro_batch_size 2 "
        "--train.lr_warmup_steps 2 --train.min_lr 1e-3 --eval.max_iters 1 --data.num_workers 0"
    )
    printed = run_in_trainer(
        "litgpt", program, *shlex.split(command[1]), *shlex.split(options), folder=folder
    )
    assert f"Total parameters: {total_parameters(candidate):,}" in printed
    losses = [float(loss) for loss in re.findall(r"loss train: ([\d.]+)", printed)]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 1
    assert (folder / "trained" / "final" / "lit_model.pth").is_file()
