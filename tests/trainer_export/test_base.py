"""What every target promises: refuse first, write whole or not at all, overwrite nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError, TrainerExportError
from phonesearch.trainer_export.base import TARGETS, export_to
from phonesearch.trainer_export.gguf import GGUF_TARGETS

WRITES_WEIGHTS = ("hf", "onnx", *GGUF_TARGETS)
NOT_EXPRESSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "hf": ({"attention_out_bias": True}, "transformers cannot express.*`attention_out_bias` True"),
    "onnx": ({"head_dim": 24}, "`head_dim` is a multiple of 16, got 24"),
    "litgpt": ({"hidden_act": "relu2"}, "litgpt cannot express.*`hidden_act` relu2 "),
    "torchtitan": ({"sliding_window": 5}, "torchtitan cannot express.*`sliding_window` 5 "),
    "megatron": ({"hidden_act": "gelu"}, "Megatron-LM cannot express.*`hidden_act` gelu "),
    "nanotron": ({"ffn_type": "plain"}, "nanotron cannot express.*`ffn_type` plain "),
    "axolotl": ({"attention_out_bias": True}, "transformers cannot.*`attention_out_bias` True"),
    "llama-factory": ({"mlp_bias": True, "qk_norm": True}, "transformers cannot.*`mlp_bias` True"),
    **dict.fromkeys(GGUF_TARGETS, ({"hidden_act": "gelu"}, "`hidden_act` gelu.*tanh")),
}


# An export for ExecuTorch takes half a minute of one core: `test_executorch.py` makes a few.
@pytest.fixture(params=[name for name in TARGETS if name != "executorch"])
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=WRITES_WEIGHTS)
def weights_target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_the_whole_folder_appears_and_nothing_beside_it(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    written = export_to(target, tiny, tmp_path / "runs" / "model")
    assert written == tmp_path / "runs" / "model"
    assert (written / "README.md").read_text(encoding="utf-8").startswith("# Candidate ")
    assert [path.name for path in written.parent.iterdir()] == ["model"]
    assert written.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_taken(target: str, tiny: Candidate, tmp_path: Path) -> None:
    assert (export_to(target, tiny, tmp_path / "a") / "README.md").is_file()
    (tmp_path / "b").mkdir()
    assert (export_to(target, tiny, tmp_path / "b") / "README.md").is_file()


def test_a_folder_with_files_is_left_as_it_was(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(TrainerExportError, match="is not an empty folder"):
        export_to(target, tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_refused(target: str, tiny: Candidate, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine", encoding="utf-8")
    with pytest.raises(TrainerExportError, match="is not an empty folder"):
        export_to(target, tiny, tmp_path / "model")


def test_what_a_target_cannot_express_is_refused_before_anything_is_written(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    change, message = NOT_EXPRESSIBLE[target]
    with pytest.raises(TrainerExportError, match=message):
        export_to(target, replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_candidate_are_refused_before_anything_is_written(
    target: str, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    deeper = replace(tiny, num_hidden_layers=3)
    with pytest.raises(ExportError, match=r"`model\.layers\.2\..* is missing"):
        export_to(target, deeper, tmp_path / "model", weights=lively_weights)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_nothing(
    weights_target: str, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    def interrupt(written: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_to(
            weights_target, tiny, tmp_path / "model", weights=lively_weights, progress=interrupt
        )
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_all_bytes(
    weights_target: str, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    seen: list[tuple[int, int]] = []
    export_to(
        weights_target,
        tiny,
        tmp_path / "model",
        weights=lively_weights,
        progress=lambda written, total: seen.append((written, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_disk_that_cannot_be_written_is_one_message(
    target: str, tiny: Candidate, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(TrainerExportError, match=r"model failed: (Not a directory|File exists)"):
        export_to(target, tiny, blocked / "model")


def test_an_unknown_target_names_those_there_are(tiny: Candidate, tmp_path: Path) -> None:
    with pytest.raises(TrainerExportError, match="no export target 'tflite'; there are hf, onnx, "):
        export_to("tflite", tiny, tmp_path / "model")


def test_a_tokenizer_with_too_many_ids_is_refused(
    target: str, tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    small = replace(tiny, vocab_size=199)
    with pytest.raises(TrainerExportError, match=r"`vocab_size` 199 is too small.*up to 199"):
        export_to(target, small, tmp_path / "model", tokenizer=tokenizer_folder)
    assert not (tmp_path / "model").exists()


def test_a_tokenizer_that_just_fits_is_copied(
    target: str, tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    fitting = replace(tiny, vocab_size=200)
    folder = export_to(target, fitting, tmp_path / "model", tokenizer=tokenizer_folder)
    for file in tokenizer_folder.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_a_relative_folder_lands_in_the_working_directory(
    target: str, tiny: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_to(target, tiny, Path("model"))
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208


def test_weights_in_half_precision_are_taken(
    weights_target: str, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    half = {name: tensor.to(torch.bfloat16) for name, tensor in lively_weights.items()}
    assert (export_to(weights_target, tiny, tmp_path / "m", weights=half) / "README.md").is_file()


@pytest.mark.parametrize(
    "target", [name for name in TARGETS if name not in (*WRITES_WEIGHTS, "executorch")]
)
def test_a_target_that_starts_from_fresh_weights_refuses_others(
    target: str, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    with pytest.raises(TrainerExportError, match="writes no weights"):
        export_to(target, tiny, tmp_path / "model", weights=lively_weights)
    assert list(tmp_path.iterdir()) == []
