"""The file for llama.cpp: what is in it, and what is refused. What it computes: see
`test_gguf_runtime.py`."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
import torch
from gguf_variants import PLAIN, VARIANTS, lively
from numpy.typing import NDArray

from phonesearch import files
from phonesearch.candidate.config import Candidate, RopeScaling
from phonesearch.candidate.count import total_parameters
from phonesearch.catalog import resolve
from phonesearch.errors import ExportError, TrainerExportError
from phonesearch.model.decoder import Decoder
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.gguf import GGUF_TARGETS
from phonesearch.trainer_export.gguf_file import plan

LLAMA3 = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gated gelu": ({"hidden_act": "gelu"}, "`ffn_type` gated with `hidden_act` gelu .*tanh"),
    "gated relu": ({"hidden_act": "relu"}, "`ffn_type` gated with `hidden_act` relu .*gated silu"),
    "gated relu2": ({"hidden_act": "relu2"}, "`ffn_type` gated with `hidden_act` relu2"),
    "plain silu": ({"ffn_type": "plain"}, "`ffn_type` plain with `hidden_act` silu"),
    "window": ({"sliding_window": 5}, "`sliding_window` 5 in all layers"),
    "plain with norms": ({**PLAIN, "qk_norm": True}, "`qk_norm` True with `ffn_type` plain"),
    "plain with biases": (
        {**PLAIN, "mlp_bias": True, "attention_out_bias": True},
        "`attention_out_bias`, `mlp_bias` beside the rest .`arcee` ignores it",
    ),
    "norms with biases": ({"qk_norm": True, "mlp_bias": True}, "`mlp_bias` .*`qwen3` ignores"),
    "norms with stretched rope": ({"qk_norm": True, "rope_scaling": LLAMA3}, "`rope_scaling`"),
}


@pytest.fixture(params=VARIANTS)
def candidate(request: pytest.FixtureRequest, tiny: Candidate) -> Candidate:
    return replace(tiny, **VARIANTS[request.param])


class Stored(NamedTuple):
    kind: str
    values: NDArray[np.float32]


def tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of the file, as numbers."""
    reader = gguf.GGUFReader(folder / "model.gguf")
    return {
        t.name: Stored(t.tensor_type.name, gguf.dequantize(t.data, t.tensor_type))
        for t in reader.tensors
    }


@pytest.mark.parametrize("target", GGUF_TARGETS)
def test_the_file_holds_the_counted_parameters(
    target: str, candidate: Candidate, tmp_path: Path
) -> None:
    stored = tensors(export_to(target, candidate, tmp_path / "model"))
    factors = stored.pop("rope_freqs.weight", None)
    assert (factors is not None) == (candidate.rope_scaling is not None)
    assert sum(tensor.values.size for tensor in stored.values()) == total_parameters(candidate)
    matrices = {tensor.kind for tensor in stored.values() if tensor.values.ndim > 1}
    assert matrices == {GGUF_TARGETS[target].weight_type}
    assert {tensor.kind for tensor in stored.values() if tensor.values.ndim == 1} == {"F32"}


def drawn_candidates() -> Iterator[Candidate]:
    """Fifty of the default space, at random."""
    space = files.read(resolve("decoder", "search_spaces"), SearchSpace)
    solved = at_budget(space, 300_000_000)
    for point in np.random.default_rng(6).choice(len(solved), size=50, replace=False):
        yield solved.candidate(int(point))


def test_drawn_candidates_are_planned_with_their_parameters_or_refused_by_field(
    tiny: Candidate, tmp_path: Path
) -> None:
    planned = []
    for candidate in drawn_candidates():
        known = (candidate.ffn_type, candidate.hidden_act) in (
            ("gated", "silu"),
            ("plain", "relu2"),
        )
        if known:
            count = sum(math.prod(tensor.shape) for tensor in plan(candidate, "Q4_0"))
            assert count == total_parameters(candidate)
            planned.append(candidate)
            continue
        message = f"`ffn_type` {candidate.ffn_type} with `hidden_act` {candidate.hidden_act}"
        with pytest.raises(TrainerExportError, match=message):
            export_to("gguf", candidate, tmp_path / "model")
    assert 5 <= len(planned) <= 20, "a quarter is expected"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_architecture_has_is_refused_by_the_name_of_the_field(
    name: str, tiny: Candidate, tmp_path: Path
) -> None:
    change, message = REFUSED[name]
    with pytest.raises(TrainerExportError, match=message):
        export_to("gguf", replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": 48}, "`hidden_size` must be a multiple of 32, got 48"),
        ({"intermediate_size": 72}, "`intermediate_size` must be a multiple of 32, got 72"),
        ({"head_dim": 12}, "`num_attention_heads` x `head_dim` must be a multiple of 32, got 48"),
    ],
)
def test_rows_that_do_not_fill_blocks_are_refused_where_there_are_blocks(
    change: dict[str, int], field: str, tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, **change)
    for target in ("gguf", "gguf-q8_0"):
        with pytest.raises(TrainerExportError, match=field):
            export_to(target, candidate, tmp_path / "model")
    assert tensors(export_to("gguf-f32", candidate, tmp_path / "model"))


def test_without_the_package_the_command_that_installs_it_is_named(
    tiny: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(TrainerExportError, match=r"pip install 'phonesearch\[gguf\]'"):
        export_to("gguf", tiny, tmp_path / "model")


def test_random_weights_are_those_that_a_decoder_begins_with(
    tiny: Candidate, tmp_path: Path
) -> None:
    stored = tensors(export_to("gguf-f32", tiny, tmp_path / "model", seed=3))
    state = {name: weight.numpy() for name, weight in Decoder(tiny, seed=3).state_dict().items()}
    names = {"blk.1.ffn_down": "model.layers.1.mlp.down_proj", "token_embd": "model.embed_tokens"}
    for theirs, ours in names.items():
        np.testing.assert_array_equal(stored[f"{theirs}.weight"].values, state[f"{ours}.weight"])


def test_rows_of_queries_pair_neighbours(tiny: Candidate, tmp_path: Path) -> None:
    """Row i of a head and row i + 8 of its 16 become rows 2i and 2i + 1."""
    weights = Decoder(tiny).state_dict()
    stored = tensors(export_to("gguf-f32", tiny, tmp_path / "model", weights=weights))
    ours = weights["model.layers.0.self_attn.q_proj.weight"].numpy()
    theirs = stored["blk.0.attn_q.weight"].values
    for head, pair in ((0, 3), (3, 7)):
        np.testing.assert_array_equal(theirs[16 * head + 2 * pair], ours[16 * head + pair])
        np.testing.assert_array_equal(theirs[16 * head + 2 * pair + 1], ours[16 * head + pair + 8])


def test_the_seed_chooses_the_random_weights(tiny: Candidate, tmp_path: Path) -> None:
    def content(name: str, seed: int) -> bytes:
        return (export_to("gguf", tiny, tmp_path / name, seed=seed) / "model.gguf").read_bytes()

    assert content("a", 1) == content("b", 1) != content("c", 2)


@pytest.mark.parametrize(("target", "steps"), [("gguf", 8.0), ("gguf-q8_0", 254.0)])
def test_rounding_stays_within_a_step_of_the_block(
    target: str, steps: float, tiny: Candidate, tmp_path: Path
) -> None:
    """Q8_0: half of the largest weight of a block over 127, so one over 254. Q4_0: a whole one
    over 8, as the largest weight is at -8 steps and one as far on the other side at 7. The scale
    is a float16, which is off by one over 2048."""
    weights = lively(tiny)
    stored = tensors(export_to(target, tiny, tmp_path / "model", weights=weights))
    ours = weights["model.layers.1.mlp.up_proj.weight"].numpy().reshape(-1, 32)
    error = np.abs(stored["blk.1.ffn_up.weight"].values.reshape(-1, 32) - ours)
    largest = np.abs(ours).max(axis=1, keepdims=True)
    assert (error <= largest * (1 / steps + 1 / 2048)).all()
    assert error.max() > largest.min() / steps / 4, "nothing was rounded"


def test_weights_that_are_not_finite_are_refused(tiny: Candidate, tmp_path: Path) -> None:
    weights = Decoder(tiny).state_dict()
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("inf")
    with pytest.raises(ExportError, match=r"layers\.1\.mlp\.up_proj\.weight .*must be finite"):
        export_to("gguf", tiny, tmp_path / "model", weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_before_the_first_byte(
    tiny: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(ExportError, match="but only 1,000 are free"):
        export_to("gguf", tiny, tmp_path / "model")


def test_the_readme_says_what_the_weights_are(tiny: Candidate, tmp_path: Path) -> None:
    random = export_to("gguf", tiny, tmp_path / "random", seed=3)
    trained = export_to("gguf", tiny, tmp_path / "t", weights=Decoder(tiny).state_dict())
    warning = "**The weights are random (seed 3).**"
    assert warning in (random / "README.md").read_text(encoding="utf-8")
    assert "random" not in (trained / "README.md").read_text(encoding="utf-8")
    assert "llama-bench -m model.gguf" in (trained / "README.md").read_text(encoding="utf-8")


def test_weights_in_half_precision_are_written_as_they_are(tiny: Candidate, tmp_path: Path) -> None:
    weights = {name: weight.to(torch.bfloat16) for name, weight in lively(tiny).items()}
    stored = tensors(export_to("gguf-f32", tiny, tmp_path / "model", weights=weights))
    ours = weights["model.layers.0.mlp.down_proj.weight"].float().numpy()
    np.testing.assert_array_equal(stored["blk.0.ffn_down.weight"].values, ours)
