"""The runner that ships, run under qemu with ONNX Runtime for ARM: what it computes, says, refuses.

Times mean nothing here, so none is looked at.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from arm_runner import ArmRunner
from onnx import TensorProto, helper

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.recipe import Parts, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.runner_values import activation, cache, tokens
from phonesearch.timing.exchange import Stretch
from phonesearch.timing.probe_graphs import operator_graph

pytestmark = pytest.mark.adb
PLAIN_KERNELS = ("--config", "mlas.disable_kleidiai", "1")
PREFILL = Stretch(new_tokens=16, past_tokens=0)
DECODE = Stretch(new_tokens=1, past_tokens=16, steps=4, repeats=2, settling_steps=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    candidate = Candidate(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
    return export(candidate, tmp_path_factory.mktemp("model"), GraphSettings()).path


def dumped(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.fromfile(path, dtype=np.float32)


def spread(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(np.sqrt((values**2).mean()))


@pytest.mark.parametrize(
    "stretches",
    [(PREFILL,), (PREFILL, DECODE), (DECODE,)],
    ids=["prefill", "prefill-then-decode", "decode-on-random-cache"],
)
def test_logits_are_those_of_the_host(
    arm_runner: ArmRunner, model: Path, stretches: tuple[Stretch, ...], tmp_path: Path
) -> None:
    ran = arm_runner.time(
        model, stretches, "--dump", tmp_path / "logits", *PLAIN_KERNELS, capacity=40
    )
    assert ran.exit_code == 0, ran.text
    expected = expected_output(model, stretches, capacity=40)
    assert spread(expected) > 0.1
    assert np.abs(dumped(tmp_path / "logits") - expected).max() < 1e-4


def test_the_kernels_of_kleidiai_stay_within_their_rounding(
    arm_runner: ArmRunner, model: Path, tmp_path: Path
) -> None:
    """They round activations a row at a time, the host a block at a time: not equal, but near."""
    ran = arm_runner.time(model, (PREFILL, DECODE), "--dump", tmp_path / "logits")
    assert ran.exit_code == 0, ran.text
    expected = expected_output(model, (PREFILL, DECODE), capacity=20)
    distance = spread(dumped(tmp_path / "logits") - expected) / spread(expected)
    assert 1e-5 < distance < 0.1


def test_it_does_what_the_host_worker_does(arm_runner: ArmRunner, model: Path) -> None:
    ran = arm_runner.time(
        model, (PREFILL, DECODE), "--cpus", "4,7", warmup_rounds=2, rounds=3, capacity=32
    )
    start, *middle, end = ran.lines
    assert [line["event"] for line in middle] == 2 * ["warmup"] + 6 * ["samples"]
    assert [(line["round"], line["stretch"]) for line in middle[2:]] == [
        (round_number, stretch) for round_number in range(3) for stretch in range(2)
    ]
    assert len(ran.samples(0)) == 3
    assert len(ran.samples(1)) == 3 * 2 * 4
    assert min(ran.samples(0) + ran.samples(1)) > 0
    warmup = 2 * (1 + 4)
    assert end["runs"] == warmup + 3 * (1 + 3 + 2 * 4)
    assert end["ok"] is True
    assert end["finite"] is True
    assert start["threads"] == 2
    assert start["cpus_asked"] == "4,7"
    assert start["cpus_granted"] == [4, 7]
    assert start["kv_bytes"] == 2 * 2 * (2 * 32 * 16 * 4)
    assert start["hwcap"] >> 20 & 1, "asimddp"
    assert 0 < start["rss_kb"] <= start["peak_kb"] <= end["peak_kb"]
    assert {line["cpu"] for line in middle[2:]} <= {4, 7}


def test_clocks_are_told_core_by_core_and_missing_ones_are_null(
    arm_runner: ArmRunner, model: Path
) -> None:
    arm_runner.state.update(khz=[1000 + core for core in range(8)], offline_cpus=[2])
    ran = arm_runner.time(model, (PREFILL,))
    assert ran.lines[1]["khz"] == [1000, 1001, None, 1003, 1004, 1005, 1006, 1007]


def fed_graph() -> onnx.ModelProto:
    """Gives out what was fed: tokens, activations and cache, one after the other."""
    cast = {"to": int(TensorProto.FLOAT)}
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["a"], **cast),
        helper.make_node("Cast", ["position_ids"], ["b"], **cast),
        helper.make_node("Cast", ["attention_mask"], ["c"], **cast),
        helper.make_node("Cast", ["seqlens_k"], ["d"], **cast),
        helper.make_node("Cast", ["total_sequence_length"], ["e"], **cast),
        helper.make_node("Cast", ["past_key_values.1.key"], ["g"], **cast),
    ]
    parts = ["a", "b", "c", "d", "e", "x", "past_key_values.0.key", "g"]
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    nodes += [helper.make_node("Reshape", [part, "flat"], [f"{part}.flat"]) for part in parts]
    nodes.append(helper.make_node("Concat", [f"{part}.flat" for part in parts], ["z"], axis=0))
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("input_ids", TensorProto.INT64, [1, "n"]),
            ("position_ids", TensorProto.INT64, [1, "n"]),
            ("attention_mask", TensorProto.INT64, [1, "t"]),
            ("seqlens_k", TensorProto.INT32, [1]),
            ("total_sequence_length", TensorProto.INT32, []),
            ("x", TensorProto.FLOAT, [1, "n", 24]),
            ("past_key_values.0.key", TensorProto.FLOAT, [1, 3, "c", 8]),
            ("past_key_values.1.key", TensorProto.FLOAT16, [1, 2, "c", 4]),
        )
    ]
    # The first output's last dimension is the vocabulary.
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, [32000])
    graph = helper.make_graph(nodes, "fed", inputs, [output], [flat])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_what_is_fed_is_what_numpy_makes_bit_for_bit(arm_runner: ArmRunner, tmp_path: Path) -> None:
    onnx.save(fed_graph(), tmp_path / "fed.onnx")
    stretch = Stretch(new_tokens=5, past_tokens=9)
    ran = arm_runner.time(
        tmp_path / "fed.onnx", (stretch,), "--dump", tmp_path / "fed", capacity=30
    )
    assert ran.exit_code == 0, ran.text
    expected = [
        tokens(30, vocab_size=32000)[9:14],
        np.arange(9, 14),
        np.ones(14),
        [13],
        [14],
        activation(0, capacity=30, width=24)[9:14],
        cache(0, (1, 3, 30, 8)),
        cache(1, (1, 2, 30, 4), dtype=np.float16),
    ]
    flat = np.concatenate([np.asarray(part, dtype=np.float32).ravel() for part in expected])
    assert dumped(tmp_path / "fed").tobytes() == flat.tobytes()
    twin = expected_output(tmp_path / "fed.onnx", (stretch,), capacity=30)
    assert twin.tobytes() == flat.tobytes()


def test_drawn_floats_are_near_a_standard_normal() -> None:
    values = cache(3, (1, 8, 256, 64))
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.01
    assert np.unique(tokens(4000, vocab_size=7)).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("kind", "sizes"), [("matmul", (64, 96)), ("attention", (4, 2, 16)), ("norm", (64,))]
)
def test_probe_graphs_run_too(
    arm_runner: ArmRunner, kind: str, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    graph = operator_graph(kind, sizes, 2, longest=64)  # type: ignore[arg-type]
    onnx.save(graph, tmp_path / "probe.onnx")
    stretches = (Stretch(new_tokens=1, past_tokens=20, steps=3),)
    ran = arm_runner.time(
        tmp_path / "probe.onnx", stretches, "--dump", tmp_path / "y", *PLAIN_KERNELS
    )
    assert ran.exit_code == 0, ran.text
    expected = expected_output(tmp_path / "probe.onnx", stretches, capacity=23)
    assert np.abs(dumped(tmp_path / "y") - expected).max() < 1e-4


def test_outputs_that_are_not_finite_are_told(arm_runner: ArmRunner, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["zero"]),
        helper.make_node("Div", ["x", "zero"], ["y"]),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n", 8])
    graph = helper.make_graph(nodes, "infinite", [value], [output])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "infinite.onnx",
    )
    ran = arm_runner.time(tmp_path / "infinite.onnx", (PREFILL,))
    assert ran.exit_code == 0, ran.text
    assert ran.last["ok"] is True
    assert ran.last["finite"] is False


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        (("--lib", "/nowhere/lib.so"), "library", "cannot open shared object"),
        (("--lib", "/system/lib64/libm.so.6"), "library", "not ONNX Runtime"),
        (("--model", "/nowhere/model.onnx"), "session", "doesn't exist"),
        (("--threads", "0"), "arguments", "--threads"),
        (("--capacity", "3"), "arguments", "too small"),
        (("--stretch", "1:2:3"), "arguments", "NEW:PAST"),
        (("--stretch", "0:2:3:1:1"), "arguments", "new tokens"),
        (("--bogus", "1"), "arguments", "unknown option"),
        (("--max-seconds",), "arguments", "without its value"),
        (("--cpus", "7,8"), "affinity", "not all of these cores"),
        (("--cpus", "99"), "affinity", "Invalid argument"),
        (("--cpus", "4;5"), "arguments", "not a list"),
        (("--dump", "/nowhere/logits"), "dump", "No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_line_and_exit_code_3(
    arm_runner: ArmRunner, model: Path, change: tuple[str, ...], stage: str, words: str
) -> None:
    ran = arm_runner.time(model, (PREFILL,), *change)
    assert ran.exit_code == 3, ran.text
    assert ran.last["event"] == "end"
    assert ran.last["ok"] is False
    assert ran.last["stage"] == stage
    assert words in ran.last["error"]


def test_a_model_that_was_cut_off_is_refused(
    arm_runner: ArmRunner, model: Path, tmp_path: Path
) -> None:
    shutil.copy(model.with_name("model.onnx.data"), tmp_path)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes()[:3000])
    ran = arm_runner.time(tmp_path / "model.onnx", (PREFILL,))
    assert (ran.exit_code, ran.last["stage"]) == (3, "session")
    shutil.copy(model, tmp_path)
    data = (tmp_path / "model.onnx.data").read_bytes()
    (tmp_path / "model.onnx.data").write_bytes(data[: len(data) // 2])
    ran = arm_runner.time(tmp_path / "model.onnx", (PREFILL,))
    assert (ran.exit_code, ran.last["stage"]) == (3, "session")
    assert '"' in ran.last["error"] or ran.last["error"]


def test_cores_that_the_system_withholds_are_an_error(arm_runner: ArmRunner, model: Path) -> None:
    arm_runner.state.update(allowed_cpus=[0, 1, 2, 3, 4])
    ran = arm_runner.time(model, (PREFILL,), "--cpus", "4,5")
    assert (ran.exit_code, ran.last["stage"]) == (3, "affinity")
    ran = arm_runner.time(model, (PREFILL,), "--cpus", "3,4")
    assert ran.exit_code == 0, ran.text


def test_a_hang_ends_with_an_alarm(arm_runner: ArmRunner, model: Path) -> None:
    arm_runner.state.update(runner_fault="hang")
    ran = arm_runner.time(model, (PREFILL,), "--max-seconds", "2")
    assert ran.exit_code == -signal.SIGALRM
    assert [line["event"] for line in ran.lines] == ["start"]


def test_a_crash_leaves_no_end_line(arm_runner: ArmRunner, model: Path) -> None:
    arm_runner.state.update(runner_fault=int(signal.SIGILL))
    ran = arm_runner.time(model, (PREFILL,))
    assert ran.exit_code == -signal.SIGILL
    assert ran.last["event"] == "start"


def test_weights_written_from_a_recipe_are_those_of_the_export(
    arm_runner: ArmRunner, tiny: Candidate, tmp_path: Path
) -> None:
    exported = export(tiny, tmp_path / "whole", GraphSettings(), seed=5)
    parts = Parts(tmp_path / "parts")
    recipe = write_recipe(tiny, tmp_path / "phone", GraphSettings(), parts=parts, seed=5)
    target = tmp_path / "phone" / "model.onnx.data"
    ran = arm_runner.run(
        *("--write-weights", recipe.recipe_path, target, "--parts", tmp_path / "parts"),
        *("--max-seconds", "50"),
    )
    assert ran.exit_code == 0, ran.text
    assert ran.last["ok"] is True
    assert ran.last["bytes"] == recipe.data_bytes
    assert sha256(target) == sha256(exported.data_path)
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.data",
        "model.recipe",
    ]
    stretches = (PREFILL, DECODE)
    ran = arm_runner.time(recipe.path, stretches, "--dump", tmp_path / "logits", *PLAIN_KERNELS)
    expected = expected_output(exported.path, stretches, capacity=20)
    assert np.abs(dumped(tmp_path / "logits") - expected).max() < 1e-4


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_recipes_go_round_a_part(arm_runner: ArmRunner, tmp_path: Path) -> None:
    floats = np.arange(100_000, dtype=np.float32) / np.float32(7)
    (tmp_path / "part").write_bytes(floats.tobytes())
    (tmp_path / "odd").write_bytes(b"abcdefg")
    third = np.float32(1 / 3).view(np.uint32)
    (tmp_path / "recipe").write_text(
        "# a remark\nzero 7\n\nfile odd\nfill bf800000 3\ncycle odd 5 17\n"
        f"scale part 99990 250000 {third:08x} 40490fdb\n"
    )
    ran = arm_runner.run(
        *("--write-weights", tmp_path / "recipe", tmp_path / "out", "--parts", tmp_path),
        *("--max-seconds", "50"),
    )
    assert ran.exit_code == 0, ran.text
    pi = np.uint32(0x40490FDB).view(np.float32)
    scaled = (np.resize(np.roll(floats, -99990), 250_000) + np.float32(1 / 3)) / pi
    expected = bytes(7) + b"abcdefg" + np.full(3, -1, np.float32).tobytes() + b"fgabcdefgabcdefga"
    assert (tmp_path / "out").read_bytes() == expected + scaled.tobytes()


@pytest.mark.parametrize(
    ("recipe", "stage", "words"),
    [
        ("zero 7", "recipe", "cut off"),
        ("", "recipe", "empty"),
        ("nonsense 7\n", "recipe", "unknown line: nonsense"),
        ("zero 7 8\n", "recipe", "too many words"),
        ("zero x\n", "recipe", "not a whole number"),
        ("fill 1.0 3\n", "recipe", "hex"),
        ("file missing\n", "parts", "No such file"),
        ("cycle part 9 1\n", "recipe", "behind the part's end"),
    ],
)
def test_a_recipe_that_cannot_be_followed_leaves_no_weights(
    arm_runner: ArmRunner, recipe: str, stage: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "part").write_bytes(bytes(8))
    (tmp_path / "recipe").write_text(recipe)
    ran = arm_runner.run(
        *("--write-weights", tmp_path / "recipe", tmp_path / "out", "--parts", tmp_path),
        *("--max-seconds", "50"),
    )
    assert (ran.exit_code, ran.last["stage"]) == (3, stage), ran.text
    assert words in ran.last["error"]
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_in_words_and_the_half_file_removed(
    arm_runner: ArmRunner, tmp_path: Path
) -> None:
    (tmp_path / "recipe").write_text("zero 4000000\n")
    arm_runner.state.update(disk_bytes=1_000_000)
    ran = arm_runner.run(
        *("--write-weights", tmp_path / "recipe", tmp_path / "out", "--max-seconds", "50")
    )
    assert (ran.exit_code, ran.last["stage"]) == (3, "weights")
    assert "No space left on device" in ran.last["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["recipe"]
