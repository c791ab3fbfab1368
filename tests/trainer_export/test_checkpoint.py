"""What a trainer leaves, back into a package for phones."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError, TrainerExportError, UnsupportedConfigError
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.checkpoint import read_checkpoint


@pytest.fixture
def trained(tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]) -> Path:
    """A folder as `save_pretrained` of transformers leaves it."""
    exported = export_to("hf", tiny, tmp_path / "exported", weights=lively_weights)
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def _same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and torch.equal(found[name], expected[name])
        for name in expected
    )


def test_tensors_are_read_bit_for_bit(
    trained: Path, tiny: Candidate, lively_weights: dict[str, Tensor]
) -> None:
    assert _same(read_checkpoint(trained, tiny), lively_weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_stay_what_they_are(
    dtype: torch.dtype, trained: Path, tiny: Candidate, lively_weights: dict[str, Tensor]
) -> None:
    converted = {name: weight.to(dtype) for name, weight in lively_weights.items()}
    save_file(converted, trained / "model.safetensors")
    assert _same(read_checkpoint(trained, tiny), converted)


def test_a_checkpoint_in_parts_is_one(
    trained: Path, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained)
    model.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    assert _same(read_checkpoint(tmp_path / "parts", tiny), lively_weights)


def test_a_part_that_is_missing_is_named(trained: Path, tiny: Candidate) -> None:
    (trained / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (trained / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(
        TrainerExportError, match=r"names model-00001-of-00002\.safetensors, which is"
    ):
        read_checkpoint(trained, tiny)


def test_a_pickled_checkpoint_is_read(
    trained: Path, tiny: Candidate, lively_weights: dict[str, Tensor]
) -> None:
    (trained / "model.safetensors").unlink()
    torch.save(lively_weights, trained / "pytorch_model.bin")
    assert _same(read_checkpoint(trained, tiny), lively_weights)


def test_a_pickle_that_would_run_something_is_refused(trained: Path, tiny: Candidate) -> None:
    (trained / "model.safetensors").unlink()
    torch.save({"a": Path("x")}, trained / "pytorch_model.bin")
    with pytest.raises(TrainerExportError, match="torch finds no plain tensors"):
        read_checkpoint(trained, tiny)


def test_fields_in_which_the_config_differs_are_named(trained: Path, tiny: Candidate) -> None:
    other = replace(tiny, hidden_size=96, rope_theta=5e5)
    message = "`hidden_size` 64, not 96; `rope_theta` 10000.0, not 500000.0"
    with pytest.raises(TrainerExportError, match=message):
        read_checkpoint(trained, other)


def test_a_quantised_model_is_refused(trained: Path, tiny: Candidate) -> None:
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq"}
    (trained / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedConfigError, match="`quantization_config`"):
        read_checkpoint(trained, tiny)


def test_integers_are_no_weights(trained: Path, tiny: Candidate) -> None:
    save_file({"a": torch.arange(3)}, trained / "model.safetensors")
    with pytest.raises(TrainerExportError, match="`a` is of type I64, but"):
        read_checkpoint(trained, tiny)


def test_a_folder_without_weights_is_refused(trained: Path, tiny: Candidate) -> None:
    (trained / "model.safetensors").unlink()
    with pytest.raises(TrainerExportError, match=r"no weights in .*model\.safetensors or"):
        read_checkpoint(trained, tiny)


def test_a_folder_without_a_config_is_refused(tmp_path: Path, tiny: Candidate) -> None:
    with pytest.raises(TrainerExportError, match=r"no checkpoint at .*config\.json"):
        read_checkpoint(tmp_path, tiny)


def _header(file: Path, change: dict[str, Any]) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["model.norm.weight"] |= change
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_damaged_files_are_refused(trained: Path, tiny: Candidate) -> None:
    file = trained / "model.safetensors"
    shutil.copyfile(file, trained / "whole")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(TrainerExportError, match=r"damaged: it ends at .* before its last tensor"):
        read_checkpoint(trained, tiny)
    for content in (b"", b"\xff" * 100, (5).to_bytes(8, "little") + b"[1,2]"):
        file.write_bytes(content)
        with pytest.raises(TrainerExportError, match="its header is not that of a safetensors"):
            read_checkpoint(trained, tiny)
    shutil.copyfile(trained / "whole", file)
    _header(file, {"shape": [63]})
    with pytest.raises(TrainerExportError, match=r"`model\.norm\.weight` has 256 bytes for .*63"):
        read_checkpoint(trained, tiny)


def test_reading_changes_no_file(trained: Path, tiny: Candidate) -> None:
    before = (trained / "model.safetensors").read_bytes()
    read_checkpoint(trained, tiny)["model.norm.weight"].zero_()
    assert (trained / "model.safetensors").read_bytes() == before


def test_tensors_that_do_not_fit_are_named_by_the_export(
    trained: Path, tiny: Candidate, tmp_path: Path
) -> None:
    state = load_file(trained / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, trained / "model.safetensors")
    weights = read_checkpoint(trained, tiny)
    with pytest.raises(ExportError, match=r"`model\.norm\.weight` is missing"):
        export_to("onnx", tiny, tmp_path / "model", weights=weights)


@pytest.mark.parametrize("target", ["onnx", "gguf-f32"])
def test_a_package_of_the_checkpoint_is_that_of_its_weights(
    target: str, trained: Path, tiny: Candidate, tmp_path: Path, lively_weights: dict[str, Tensor]
) -> None:
    read = export_to(target, tiny, tmp_path / "read", weights=read_checkpoint(trained, tiny))
    given = export_to(target, tiny, tmp_path / "given", weights=lively_weights)
    file = "model.onnx.data" if target == "onnx" else "model.gguf"
    assert (read / file).read_bytes() == (given / file).read_bytes()
    assert Decoder(tiny).state_dict().keys() == lively_weights.keys()
