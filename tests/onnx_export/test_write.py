from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import weight_bytes
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.contents import levels_deviation, symmetric_levels
from phonesearch.onnx_export.graph import stored_tensors
from phonesearch.onnx_export.settings import GraphSettings, WeightBits
from phonesearch.onnx_export.write import PAGE_ALIGNMENT, SMALL_ALIGNMENT, OnnxModel, export

PORTABLE = GraphSettings(form="portable", weight_bits=32)


def places(model: OnnxModel) -> dict[str, tuple[int, int]]:
    """Offset and length of every initializer in the data file."""
    graph = onnx.load(model.path, load_external_data=False).graph
    found = {}
    for item in graph.initializer:
        entries = {entry.key: entry.value for entry in item.external_data}
        if entries:
            assert entries["location"] == model.data_path.name
            found[item.name] = int(entries["offset"]), int(entries["length"])
    return found


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the system refuse writes past `num_bytes`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("bits", [4, 8])
def test_the_data_file_holds_the_counted_bytes_and_rotary_tables_and_padding(
    variant: Candidate, bits: WeightBits, tmp_path: Path
) -> None:
    model = export(variant, tmp_path, GraphSettings(weight_bits=bits))
    rotary = 2 * variant.max_position_embeddings * variant.head_dim // 2 * 4
    counted = weight_bytes(variant, weight_bits=bits) + rotary
    found = places(model)
    assert sum(length for _, length in set(found.values())) == counted
    assert model.data_path.stat().st_size - counted < PAGE_ALIGNMENT * len(found)


def test_padding_is_a_vanishing_part_of_a_larger_model(tmp_path: Path) -> None:
    candidate = Candidate(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
    )
    model = export(candidate, tmp_path, GraphSettings())
    rotary = 2 * 2048 * 32 * 4
    counted = weight_bytes(candidate, weight_bits=4) + rotary
    assert counted <= model.data_path.stat().st_size < 1.01 * counted


def test_a_tied_table_is_stored_once_for_look_up_and_head(tiny: Candidate, tmp_path: Path) -> None:
    tied = export(tiny, tmp_path / "tied", GraphSettings())
    found = places(tied)
    rows, packed = (f"model.embed_tokens.weight.{kind}" for kind in ("packed_rows", "packed"))
    assert found[rows] == found[packed]
    untied = export(replace(tiny, tie_word_embeddings=False), tmp_path / "apart", GraphSettings())
    # 256 rows of 64 / 32 blocks of 16 bytes and a scale of 4.
    table = 256 * 2 * (16 + 4)
    assert table <= untied.data_path.stat().st_size - tied.data_path.stat().st_size < table + 4096


def test_large_tensors_start_on_a_page_and_none_overlap(tmp_path: Path, tiny: Candidate) -> None:
    # Sizes of no round number; the head comes after tensors of all sizes.
    candidate = replace(tiny, vocab_size=4099, hidden_size=69, tie_word_embeddings=False)
    spans = sorted(set(places(export(candidate, tmp_path, GraphSettings())).values()))
    assert any(length >= 65536 for _, length in spans)
    end = 0
    for offset, length in spans:
        assert offset % (PAGE_ALIGNMENT if length >= 65536 else SMALL_ALIGNMENT) == 0
        assert offset >= end
        end = offset + length


def test_the_result_describes_the_files(tiny: Candidate, tmp_path: Path) -> None:
    model = export(tiny, tmp_path / "new" / "folder", GraphSettings())
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert model.num_bytes == model.path.stat().st_size + model.data_path.stat().st_size
    assert model.opset == 21
    assert sorted(item.name for item in model.path.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]


@pytest.mark.parametrize("settings", [GraphSettings(), GraphSettings(weight_bits=8), PORTABLE])
def test_random_weights_give_finite_logits_of_ordinary_size(
    settings: GraphSettings, tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, num_hidden_layers=12, vocab_size=2000, attention_bias=True)
    model = export(candidate, tmp_path, settings)
    input_ids = np.arange(20, dtype=np.int64)[None] * 91 % 2000
    logits = run_in_chunks(model, input_ids, [16, 1, 1, 1, 1])
    assert np.isfinite(logits).all()
    assert 0.1 < float(logits.std()) < 10


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_a_deep_random_model_does_not_forget_what_it_read(
    weight_bits: int, tiny: Candidate, tmp_path: Path
) -> None:
    """Levels with a mean other than zero end in one direction, whatever the token, so that
    queries and keys are alike and attention takes other times than in a trained model."""
    candidate = replace(
        tiny, num_hidden_layers=32, hidden_size=256, intermediate_size=512, head_dim=64
    )
    model = export(candidate, tmp_path, GraphSettings(weight_bits=weight_bits))
    one, other = (
        run_in_chunks(model, np.array([[token]]), [1])[0, -1].astype(np.float64)
        for token in (3, 200)
    )
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.4


@pytest.mark.parametrize("bits", [4, 8])
def test_random_levels_are_symmetric_about_zero(bits: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8)
    packed = symmetric_levels(drawn, bits)
    levels = np.concatenate([(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)])
    centred = levels.astype(np.float64) - 2 ** (bits - 1)
    assert centred.min() == -centred.max() == 1 - 2 ** (bits - 1)
    assert centred.std() == pytest.approx(levels_deviation(bits), rel=2e-3)
    assert abs(centred.mean()) < 4 * levels_deviation(bits) / len(centred) ** 0.5


def test_the_seed_decides_the_random_weights(tiny: Candidate, tmp_path: Path) -> None:
    first, same, other = (
        export(tiny, tmp_path / str(number), GraphSettings(), seed=seed).data_path.read_bytes()
        for number, seed in enumerate((4, 4, 5))
    )
    assert first == same
    assert first != other


def test_random_layers_do_not_repeat_each_other(tiny: Candidate, tmp_path: Path) -> None:
    model = export(tiny, tmp_path, GraphSettings())
    data = model.data_path.read_bytes()
    found = places(model)
    first, second = (
        data[offset : offset + length]
        for offset, length in (
            found[f"model.layers.{layer}.mlp.up_proj.weight.packed"] for layer in (0, 1)
        )
    )
    assert first != second


def test_progress_counts_up_to_the_whole_file(tiny: Candidate, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    model = export(tiny, tmp_path, PORTABLE, progress=lambda *now: calls.append(now))
    size = model.data_path.stat().st_size
    assert calls[-1] == (size, size)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_large_matrices_converted_in_pieces_equal_the_whole(
    tiny: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Decoder(replace(tiny, tie_word_embeddings=False)).state_dict()
    candidate = replace(tiny, tie_word_embeddings=False)
    for settings in (GraphSettings(), PORTABLE):
        whole = export(candidate, tmp_path, settings, weights=weights).data_path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("phonesearch.onnx_export.contents.PIECE_ELEMENTS", 1000)
            pieces = export(candidate, tmp_path, settings, weights=weights).data_path.read_bytes()
        assert pieces == whole


def test_weights_that_do_not_fit_are_named_before_anything_is_written(
    tiny: Candidate, tmp_path: Path
) -> None:
    weights = Decoder(tiny).state_dict()
    del weights["model.norm.weight"]
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 5)
    weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(3, 5)
    with pytest.raises(ExportError) as caught:
        export(tiny, tmp_path / "new", GraphSettings(), weights=weights)
    message = str(caught.value)
    assert "model.norm.weight is missing" in message
    assert "model.layers.0.mlp.up_proj.weight must be (160, 64), got (3, 5)" in message
    assert "model.layers.9.mlp.up_proj.weight has no place" in message
    assert not (tmp_path / "new").exists()


def test_weights_beyond_float16_are_named_and_the_earlier_export_stays(
    tiny: Candidate, tmp_path: Path
) -> None:
    settings = GraphSettings(form="portable", weight_bits=16)
    before = export(tiny, tmp_path, settings)
    weights = Decoder(tiny).state_dict()
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1e6
    with pytest.raises(ExportError, match=r"model\.norm\.weight .*finite in float16"):
        export(tiny, tmp_path, settings, weights=weights)
    assert hashlib.sha256(before.path.read_bytes()).hexdigest() == before.sha256
    assert len(list(tmp_path.iterdir())) == 2


def test_an_export_larger_than_the_disk_is_refused_before_the_first_byte(
    tiny: Candidate, tmp_path: Path
) -> None:
    # 2**31 rows of 2**20 weights at 4 bits are 2**50 bytes, with their scales 1.4 petabytes.
    candidate = replace(tiny, vocab_size=2**31, hidden_size=2**20)
    with pytest.raises(ExportError, match=r"needs [0-9,]+ bytes, but only [0-9,]+ are free"):
        export(candidate, tmp_path, GraphSettings())
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_system_refuses_leaves_the_earlier_export_whole(
    tiny: Candidate, tmp_path: Path
) -> None:
    before = export(tiny, tmp_path, GraphSettings())
    files = {item: item.read_bytes() for item in tmp_path.iterdir()}
    with largest_file(20_000), pytest.raises(ExportError, match="File too large") as caught:
        export(tiny, tmp_path, GraphSettings(), seed=1)
    assert str(tmp_path) in str(caught.value)
    assert {item: item.read_bytes() for item in tmp_path.iterdir()} == files
    assert before.path in files


def test_a_failure_after_the_weights_leaves_no_graph_of_other_weights(
    tiny: Candidate, tmp_path: Path
) -> None:
    # Many layers of almost no weights: the graph is the larger file, and the one refused.
    candidate = replace(
        tiny,
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=1,
        num_key_value_heads=1,
        num_hidden_layers=60,
        max_position_embeddings=8,
    )
    before = export(candidate, tmp_path, GraphSettings())
    weights_bytes = before.data_path.stat().st_size
    assert weights_bytes < before.path.stat().st_size
    with largest_file(weights_bytes), pytest.raises(ExportError, match="File too large"):
        export(candidate, tmp_path, GraphSettings(), seed=1)
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx.data"]


def test_an_interrupted_export_leaves_no_graph_and_no_half_file(
    tiny: Candidate, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tiny, tmp_path, GraphSettings(), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_every_region_of_a_tensor_is_as_long_as_each_initializer_that_reads_it(
    variant: Candidate,
) -> None:
    for tensor in stored_tensors(variant, GraphSettings()):
        for region in tensor.regions:
            assert len({stored.num_bytes for stored in region}) == 1


def test_an_export_leaves_the_threads_of_torch_as_they_were(
    tiny: Candidate, tmp_path: Path
) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        export(
            tiny,
            tmp_path,
            PORTABLE,
            weights=Decoder(tiny).state_dict(),
            progress=lambda *now: seen.append(torch.get_num_threads()),
        )
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_an_export_for_timing_needs_no_torch(tmp_path: Path) -> None:
    """Importing torch takes longer than writing the weights of a small model."""
    code = (
        "import sys; from pathlib import Path\n"
        "from phonesearch.candidate.config import Candidate\n"
        "from phonesearch.trainer_export.base import export_to\n"
        "tiny = Candidate(vocab_size=256, hidden_size=64, intermediate_size=160,\n"
        "    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16)\n"
        f"export_to('onnx', tiny, Path({str(tmp_path / 'out')!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
