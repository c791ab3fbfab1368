"""What `benchmarks/phone_faults.py` disturbs: the plainest measurement that keeps the rules.

It stands in for `PhoneBackend`. The rules: one phone, told by its fingerprint and serial number;
files by their hash; only the runner's own last line is success; logits like the host's; at most
two more attempts after a lost cable, each from the start.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fakephone_library import arm_library

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneFileError, PhoneUnreachableError, TimingError
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.adb import REMOTE_FOLDER, Adb, quoted
from phonesearch.phone.clean import FIND_LEFTOVERS, parse_pids
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.runner import RUNNER
from phonesearch.timing.base import Measurement
from phonesearch.timing.exchange import Stretch

STRETCHES = (
    Stretch(new_tokens=16, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=16, steps=4, settling_steps=2),
)
ROUNDS = 40
MAX_SECONDS = 6
TINY = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
)


@contextmanager
def measurement() -> Iterator[Callable[[str], Measurement]]:
    """The callable, and the model that it times."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = export(TINY, folder, GraphSettings(), seed=2)
        expected = expected_output(
            model.path, STRETCHES, capacity=24, warmup_rounds=1, rounds=ROUNDS
        )
        files = {
            "runner": RUNNER,
            "libonnxruntime.so": arm_library(),
            "model.onnx": model.path,
            "model.onnx.data": model.data_path,
        }

        def measure(serial: str) -> Measurement:
            adb = Adb.find().choose(serial)
            identity = _identity(adb)
            for _ in range(2):
                try:
                    return _once(adb, files, expected, identity, folder)
                except PhoneUnreachableError:
                    adb = _back(serial, identity)
            return _once(adb, files, expected, identity, folder)

        yield measure


def _identity(adb: Adb) -> str:
    return adb.ask("getprop ro.build.fingerprint; getprop ro.serialno").stdout.strip()


def _back(serial: str, identity: str, patience_s: float = 3.0) -> Adb:
    end = time.monotonic() + patience_s
    while True:
        try:
            adb = Adb.find().choose(serial)
            if _identity(adb) != identity:
                raise TimingError(f"Another phone answers as {serial!r} than before.")
            return adb
        except PhoneUnreachableError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)


def _once(
    adb: Adb, files: dict[str, Path], expected: Any, identity: str, folder: Path
) -> Measurement:
    left = parse_pids(adb.ask(FIND_LEFTOVERS).stdout)
    if left:
        adb.ask(quoted("kill", "-9", *map(str, left)))
    adb.ask(f"mkdir -p {REMOTE_FOLDER} && rm -f {REMOTE_FOLDER}/logits")
    for name, local in files.items():
        _deliver(adb, local, f"{REMOTE_FOLDER}/{name}")
    asked = " ".join(
        f"--stretch {each.new_tokens}:{each.past_tokens}:{each.steps}:{each.repeats}:"
        f"{each.settling_steps}"
        for each in STRETCHES
    )
    done = adb.shell(
        f"cd {REMOTE_FOLDER} && chmod 755 runner && "
        "LD_LIBRARY_PATH=. exec ./runner --lib "
        f"./libonnxruntime.so --model model.onnx --threads 2 --cpus 4,5,6,7 --capacity 24 "
        f"--warmup-rounds 1 --rounds {ROUNDS} {asked} --max-seconds {MAX_SECONDS} --dump logits "
        "--config mlas.disable_kleidiai 1",
        timeout_s=MAX_SECONDS + 3,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    if not lines or lines[-1].get("event") != "end" or not lines[-1].get("ok"):
        adb.ask("true", doing="measuring")  # tells a lost phone from a lost runner
        said = lines[-1].get("error", "nothing") if lines else done.stderr.strip()[:200]
        raise TimingError(f"The runner ended with {done.exit_code}; it said: {said}")
    local = folder / "logits"
    adb.pull(f"{REMOTE_FOLDER}/logits", local)
    logits = np.fromfile(local, dtype=np.float32)
    if logits.shape != expected.shape or np.abs(logits - expected).max() > 1e-4:
        raise TimingError("The phone computed other logits than this computer.")
    if _identity(adb) != identity:
        raise TimingError("Another phone answers than the one that was measured at first.")
    samples: dict[int, list[float]] = {0: [], 1: []}
    for line in lines:
        if line["event"] == "samples":
            samples[line["stretch"]] += [each / 1e9 for each in line["ns"]]
    return Measurement(
        prompt_tokens=16,
        generate_tokens=4,
        prefill_samples_s=tuple(samples[0]),
        decode_samples_s=tuple(samples[1]),
        warmup_runs=1,
        num_threads=2,
        device=identity,
        engine=str(lines[0].get("version")),
        peak_memory_bytes=None,
    )


def _deliver(adb: Adb, local: Path, remote: str) -> None:
    checksum = hashlib.sha256(local.read_bytes()).hexdigest()
    if adb.sha256(remote) == checksum:
        return
    adb.push(local, remote)
    if adb.sha256(remote) != checksum:
        raise PhoneFileError(f"{local.name} did not arrive whole on the phone.")
