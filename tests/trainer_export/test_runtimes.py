"""Fifty candidates, written for the runtimes: what the files hold is what was counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest
import torch
from gguf import GGUFReader
from graph_parameters import deployment_parameters
from tried import tried

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import TrainerExportError
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import TARGETS, export_to
from phonesearch.trainer_export.request import ExportRequest

GGUF_FIELDS = ("`ffn_type`", "`hidden_act`", "`qk_norm`", "`sliding_window`")


def onnx_parameters(folder: Path) -> int:
    """Of the graph."""
    return deployment_parameters(onnx.load(folder / "model.onnx", load_external_data=False))


def gguf_parameters(folder: Path) -> int:
    """Elements of all tensors."""
    return sum(int(tensor.n_elements) for tensor in GGUFReader(folder / "model.gguf").tensors)


def counted_or_refused(
    target: str, drawn: Sequence[Candidate], folder: Path, parameters: Callable[[Path], int]
) -> dict[Candidate, str]:
    """What was refused, and why; the parameters of all others are as counted."""
    refused = {}
    for candidate in drawn:
        try:
            written = export_to(target, candidate, folder / "model")
        except TrainerExportError as error:
            refused[candidate] = str(error)
            assert list(folder.iterdir()) == []
        else:
            assert parameters(written) == total_parameters(candidate)
            shutil.rmtree(written)  # 50 of them would be 8 GB
    return refused


def remember(target: str, tool: str, refused: int, of: int) -> None:
    """For the page."""
    tried(
        target,
        tool=tool,
        version=version(tool),
        what=f"read {of} random candidates of the default space at 300M, random weights",
        result=f"{of - refused} with exactly the counted parameters, {refused} refused by field "
        "before anything was written",
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_onnx_holds_the_counted_parameters_of_every_candidate(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    assert counted_or_refused("onnx", drawn, tmp_path, onnx_parameters) == {}
    remember("onnx", "onnx", 0, len(drawn))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gguf_holds_the_counted_parameters_or_names_the_field(
    drawn: tuple[Candidate, ...], tmp_path: Path
) -> None:
    refused = counted_or_refused("gguf", drawn, tmp_path, gguf_parameters)
    assert 0 < len(refused) < len(drawn)
    for candidate, message in refused.items():
        assert any(field in message for field in GGUF_FIELDS), (candidate, message)
    remember("gguf", "gguf", len(refused), len(drawn))


@pytest.mark.executorch
def test_executorch_has_the_counted_parameters_of_every_candidate(
    drawn: tuple[Candidate, ...],
) -> None:
    """What is exported is our own decoder, so that is what is counted."""
    for candidate in drawn:
        TARGETS["executorch"].check(
            ExportRequest(candidate=candidate, weights=None, seed=0, tokenizer=None, progress=None)
        )
        with torch.device("meta"):
            parameters = Decoder(candidate, seed=0).parameters()
        assert sum(p.numel() for p in parameters) == total_parameters(candidate)
    tried(
        "executorch",
        tool="executorch",
        version=version("executorch"),
        what=f"{len(drawn)} random candidates of the default space at 300M",
        result="none is refused; the module that is exported has exactly the counted parameters",
    )
