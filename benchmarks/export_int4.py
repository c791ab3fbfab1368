"""Time of a 1.5B int4 export with random weights, against plainly writing as many bytes.

Both write to the same folder, alternately, in pieces of 32 MiB, and both wait until the system
says that the bytes are on the disk (fsync). The last line is one JSON object.

    python benchmarks/export_int4.py [--rounds 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.units import MIB

PHONELM_1_5B = Candidate(
    vocab_size=49152,
    hidden_size=2560,
    intermediate_size=6816,
    num_hidden_layers=19,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=160,
    hidden_act="relu",
    max_position_embeddings=2048,
)
"""Source: config.json of mllmTeam/PhoneLM-1.5B."""


def export_s(folder: Path, seed: int) -> tuple[float, int]:
    """Seconds of one export into an empty folder, and the bytes it wrote."""
    start_s = time.perf_counter()
    model = export(PHONELM_1_5B, folder, GraphSettings(), seed=seed)
    return time.perf_counter() - start_s, model.num_bytes


def plain_write_s(folder: Path, num_bytes: int, buffer: memoryview) -> float:
    """Seconds to write `num_bytes` from memory to one file, and to wait for the disk."""
    start_s = time.perf_counter()
    with (folder / "plain").open("wb", buffering=0) as stream:
        left = num_bytes
        while left:
            left -= stream.write(buffer[:left])
        os.fsync(stream.fileno())
    return time.perf_counter() - start_s


def structure_s(rounds: int) -> float:
    """Median seconds to build the structure alone."""
    samples_s = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        build_structure(PHONELM_1_5B, GraphSettings())
        samples_s.append(time.perf_counter() - start_s)
    return statistics.median(samples_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: temp")
    arguments = parser.parse_args()
    buffer = memoryview(os.urandom(32 * MIB))
    exports_s, writes_s = [], []
    num_bytes = 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for number in range(arguments.rounds):
            for kind in ("export", "write") if number % 2 == 0 else ("write", "export"):
                target = folder / kind
                target.mkdir()
                if kind == "export":
                    seconds, num_bytes = export_s(target, seed=number)
                    exports_s.append(seconds)
                else:
                    writes_s.append(plain_write_s(target, num_bytes, buffer))
                shutil.rmtree(target)
            print(f"round {number}: export {exports_s[-1]:.2f} s, write {writes_s[-1]:.2f} s")
    result = {
        "benchmark": "export_int4",
        "parameters": total_parameters(PHONELM_1_5B),
        "num_bytes": num_bytes,
        "export_s": statistics.median(exports_s),
        "plain_write_s": statistics.median(writes_s),
        "ratio": statistics.median(exports_s) / statistics.median(writes_s),
        "structure_s": structure_s(20),
        "rounds": arguments.rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
    }
    print(
        f"export {result['export_s']:.2f} s, plain write {result['plain_write_s']:.2f} s, "
        f"ratio {result['ratio']:.2f} (must be below 2) for {num_bytes / 1e9:.2f} GB"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
