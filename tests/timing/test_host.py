"""Real measurements of a tiny real export, and what happens when they cannot be had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TimingError
from phonesearch.onnx_export.graph import write_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.timing.base import TimingBackend, TimingSettings
from phonesearch.timing.exchange import Stretch, WorkerRequest
from phonesearch.timing.host import HostBackend, fingerprint, num_physical_cores, quota_cores
from phonesearch.timing.host_worker import Turn, measure

SMALL = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
)
QUICK = TimingSettings(
    prompt_tokens=32,
    generate_tokens=16,
    num_threads=1,
    warmup_runs=1,
    repetitions=3,
    decode_steps=4,
)


def workers_of(parent: int) -> list[int]:
    """Ids of the measuring processes that `parent` has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            its_parent = int(status.read_text(encoding="ascii").rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if its_parent == parent and b"host_worker" in command:
            found.append(int(status.parent.name))
    return found


def is_running(process: int) -> bool:
    """Whether it exists and is more than an entry that nobody has collected."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(SMALL, tmp_path_factory.mktemp("model"), GraphSettings()).path


def test_onnx_runtime_leaves_no_telemetry_behind(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    HostBackend().time(model_path, QUICK)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


@pytest.fixture(scope="module")
def measurement(model_path: Path):
    backend: TimingBackend = HostBackend()
    return backend.time(model_path, QUICK)


def test_every_repetition_leaves_its_samples(measurement) -> None:
    assert len(measurement.prefill_samples_s) == QUICK.repetitions
    assert len(measurement.decode_samples_s) == QUICK.repetitions * QUICK.decode_steps


def test_times_are_those_of_a_tiny_model(measurement) -> None:
    samples = measurement.prefill_samples_s + measurement.decode_samples_s

    assert all(1e-6 < sample < 5 for sample in samples)


def test_it_says_what_measured_it(measurement) -> None:
    assert measurement.engine == f"onnxruntime {ort.__version__} int4"
    assert measurement.device == fingerprint()
    assert measurement.num_threads == 1
    assert (measurement.prompt_tokens, measurement.generate_tokens) == (32, 16)
    assert measurement.warmup_runs == 1


def test_peak_memory_is_that_of_the_worker_and_not_of_this_process(measurement) -> None:
    """This process holds torch and the exports; the worker neither."""
    assert measurement.peak_memory_bytes is not None
    assert 10 * 2**20 < measurement.peak_memory_bytes < 400 * 2**20


def test_a_long_prompt_takes_longer_than_a_short_one(tmp_path: Path) -> None:
    wide = replace(SMALL, hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    path = export(wide, tmp_path, GraphSettings()).path
    long = HostBackend().time(path, replace(QUICK, prompt_tokens=200, generate_tokens=8))

    assert min(long.prefill_samples_s) > 2 * min(long.decode_samples_s)


def test_8_bit_weights_are_named_so(tmp_path: Path) -> None:
    path = export(SMALL, tmp_path, GraphSettings(weight_bits=8)).path

    assert HostBackend().time(path, QUICK).engine.endswith(" int8")


def test_threads_are_the_physical_cores_unless_said(model_path: Path) -> None:
    measured = HostBackend().time(model_path, replace(QUICK, num_threads=None, repetitions=1))

    assert measured.num_threads == num_physical_cores()
    assert 1 <= num_physical_cores() <= (os.cpu_count() or 1)


def test_the_shared_cache_gives_the_logits_of_a_copied_one(model_path: Path) -> None:
    """A prefill of 7 and 3 steps through one buffer, against one prefill of all 10 tokens."""
    turn = Turn(str(model_path), num_threads=1, capacity=40)
    turn.run(new_tokens=7, past_tokens=0)
    for past in (7, 8, 9):
        turn.run(new_tokens=1, past_tokens=past)

    session = ort.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.zeros((1, 2, 0, 16), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    feeds["input_ids"] = turn.tokens[:, :10]
    feeds["attention_mask"] = np.ones((1, 10), np.int64)
    whole = session.run(["logits"], feeds)[0]
    np.testing.assert_allclose(turn.output, whole, rtol=1e-3, atol=1e-3)


def test_a_structure_without_weights_says_what_onnxruntime_said(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_structure(SMALL, path, GraphSettings())

    with pytest.raises(TimingError, match=r"exit code 1(.|\n)*model\.onnx\.data"):
        HostBackend().time(path, QUICK)


def test_a_killed_worker_is_an_error_that_names_the_signal(model_path: Path) -> None:
    patient = replace(QUICK, repetitions=100_000)
    stop = threading.Event()

    def kill_the_worker() -> None:
        while not stop.wait(0.05):
            for worker in workers_of(os.getpid()):
                time.sleep(0.3)
                os.kill(worker, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    try:
        with pytest.raises(TimingError, match="was killed by SIGKILL"):
            HostBackend(timeout_s=60).time(model_path, patient)
    finally:
        stop.set()
        killer.join()


def test_a_worker_ends_when_this_process_is_killed(model_path: Path) -> None:
    """A process that measures is killed with no chance to clean up."""
    program = (
        "from pathlib import Path; from phonesearch.timing.base import TimingSettings; "
        "from phonesearch.timing.host import HostBackend; "
        f"HostBackend().time(Path({str(model_path)!r}), "
        "TimingSettings(num_threads=1, prompt_tokens=32, repetitions=1_000_000))"
    )
    measuring = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 30
        while not (workers := workers_of(measuring.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.5)  # past its imports, into its loop
    finally:
        measuring.kill()
        measuring.wait()

    deadline = time.monotonic() + 15
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000\n", None), ("250000 100000\n", 2), ("50000 100000\n", 1)],
)
def test_the_quota_of_a_container_bounds_the_threads(
    tmp_path: Path, content: str, cores: int | None
) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(content)

    assert quota_cores(cpu_max) == cores
    assert quota_cores(tmp_path / "absent") is None


def test_a_worker_that_takes_too_long_is_given_up_and_gone(model_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TimingError, match="took longer than 1 s"):
        HostBackend(timeout_s=1.0).time(model_path, replace(QUICK, repetitions=1_000_000))

    assert time.monotonic() - started < 20
    assert workers_of(os.getpid()) == []


def test_a_turn_longer_than_the_rotary_tables_is_refused_before_it_runs(model_path: Path) -> None:
    with pytest.raises(TimingError, match="256 positions and the turn needs 512"):
        HostBackend().time(model_path, replace(QUICK, prompt_tokens=500))


def test_a_portable_graph_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_structure(SMALL, path, GraphSettings(form="portable", weight_bits=32))

    with pytest.raises(TimingError, match="not a deployment graph"):
        HostBackend().time(path, QUICK)


def test_a_file_that_is_no_graph_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")

    with pytest.raises(TimingError, match="cannot be read"):
        HostBackend().time(path, QUICK)


@pytest.mark.parametrize(
    "change", [{"repetitions": 0}, {"prompt_tokens": 0}, {"num_threads": 0}, {"decode_steps": 0}]
)
def test_a_setting_out_of_range_is_named(model_path: Path, change) -> None:
    with pytest.raises(TimingError, match=next(iter(change))):
        HostBackend().time(model_path, replace(QUICK, **change))


def test_logits_that_are_not_finite_make_no_measurement(tmp_path: Path) -> None:
    """The weight of the last norm is set to infinity in the file of weights."""
    path = export(SMALL, tmp_path, GraphSettings()).path
    graph = onnx.load(path, load_external_data=False).graph
    gain = next(tensor for tensor in graph.initializer if tensor.name == "model.norm.weight")
    place = {entry.key: entry.value for entry in gain.external_data}
    with (tmp_path / place["location"]).open("r+b") as stream:
        stream.seek(int(place["offset"]))
        stream.write(np.full(SMALL.hidden_size, np.inf, np.float32).tobytes())

    with pytest.raises(TimingError, match="not finite"):
        HostBackend().time(path, QUICK)


def test_settling_steps_are_run_and_leave_no_samples(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Turn.run
    seen: list[tuple[int, int]] = []

    def counted(turn: Turn, *, new_tokens: int, past_tokens: int) -> float:
        seen.append((new_tokens, past_tokens))
        return run(turn, new_tokens=new_tokens, past_tokens=past_tokens)

    monkeypatch.setattr(Turn, "run", counted)
    result = measure(
        WorkerRequest(
            model_path=str(model_path),
            num_threads=1,
            warmup_rounds=0,
            rounds=2,
            stretches=(
                Stretch(new_tokens=4, past_tokens=0),
                Stretch(new_tokens=1, past_tokens=8, steps=3, settling_steps=2),
            ),
        )
    )

    assert [len(samples) for samples in result.samples_s] == [2, 6]
    assert seen == 2 * [(4, 0), (1, 8), (1, 8), (1, 8), (1, 9), (1, 10)]
