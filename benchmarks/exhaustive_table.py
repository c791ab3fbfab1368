"""A whole small space, measured and trained: the truth that searches are replayed on.

    python benchmarks/exhaustive_table.py measure
    python benchmarks/exhaustive_table.py train [--jobs 2] [--hours 2] [--seed 1]

The space is `docs/search/space.yaml` at 50M parameters: 198 architectures. `measure` times each on
this machine as `--device host` does (ONNX Runtime, int4 weights, all threads) and writes
`docs/search/speeds.csv`; nothing else should run meanwhile (20 minutes on two shared cores of an
AMD EPYC). `train` trains the proxy of each (0.2M non-embedding parameters, 600,000 tokens, batches
of four windows: a tiny scale, short of what a run trains with) and writes `docs/search/losses.csv`,
with the curve of each on the batches that all have in common (30 s a training and core). Both may
be stopped, and called again for what is missing; both files are committed.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from phonesearch import files
from phonesearch.candidate.config import candidate_id
from phonesearch.space.grid import BudgetedSpace, at_budget
from phonesearch.space.schema import SearchSpace

FOLDER = Path(__file__).parents[1] / "docs" / "search"
BUDGET = 50_000_000
RECIPE = {"parameters": 200_000, "tokens": 600_000, "batch_size": 4, "validation_windows": 512}
_TURN = {"prompt_tokens": 64, "generate_tokens": 64}
_CACHE = Path.home() / ".cache" / "phonesearch"


def space() -> BudgetedSpace:
    return at_budget(files.read(FOLDER / "space.yaml", SearchSpace), BUDGET)


def measure() -> None:
    from phonesearch.study.meter import HostMeter
    from phonesearch.study.stopwatch import Turn

    path, solved = FOLDER / "speeds.csv", space()
    known = {row["candidate_id"] for row in _rows(path)}
    with tempfile.TemporaryDirectory() as folder:
        meter = HostMeter(folder=Path(folder))
        for point in range(len(solved)):
            candidate = solved.candidate(point)
            name = candidate_id(candidate)
            if name in known:
                continue
            speed = meter.measure(candidate, Turn(**_TURN)).speed
            decode, low, high = speed.tokens_per_s("decode")
            row: dict[str, object] = {
                "candidate_id": name,
                **solved.values(point),
                "hidden_size": candidate.hidden_size,
                "intermediate_size": candidate.intermediate_size,
                "num_attention_heads": candidate.num_attention_heads,
                "num_key_value_heads": candidate.num_key_value_heads,
                "measured_decode_tokens_per_s": round(decode, 3),
                "measured_decode_low_tokens_per_s": round(low, 3),
                "measured_decode_high_tokens_per_s": round(high, 3),
            }
            _append(path, row)
            print(f"{point + 1} of {len(solved)}: {name} {decode:.1f} tokens/s", flush=True)


def _train_one(point: int, seed: int) -> dict[str, object]:
    import torch

    from phonesearch.proxy.corpus import load_corpus
    from phonesearch.proxy.settings import ProxySettings
    from phonesearch.proxy.shrink import shrink
    from phonesearch.proxy.train import train_shrunk

    torch.set_num_threads(1)
    settings = ProxySettings(**RECIPE, seed=seed)
    candidate = space().candidate(point)
    corpus = load_corpus(settings, cache_dir=_CACHE, progress=lambda line: None)
    proxy = shrink(candidate, settings, reference_parameters=BUDGET)
    loss = train_shrunk(proxy, corpus, settings).loss
    return {
        "candidate_id": candidate_id(candidate),
        "seed": seed,
        "proxy": f"{proxy.num_hidden_layers} x {proxy.hidden_size}",
        "bits_per_byte": round(loss.bits_per_byte, 6),
        "copy_gap_nats": round(loss.copy_gap_nats, 4),
        "seconds": round(loss.seconds, 1),
        "curve": json.dumps([[tokens, round(nats, 5)] for tokens, nats in loss.curve]),
    }


def train(jobs: int, hours: float, seed: int) -> None:
    path, solved = FOLDER / "losses.csv", space()
    known = {(row["candidate_id"], int(row["seed"])) for row in _rows(path)}
    due = [
        point
        for point in range(len(solved))
        if (candidate_id(solved.candidate(point)), seed) not in known
    ]
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    ends_s = time.monotonic() + 3600 * hours
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        waiting, running = list(due), {}
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < ends_s:
                point = waiting.pop(0)
                running[pool.submit(_train_one, point, seed)] = point
            if not running:
                break
            done = next(as_completed(running))
            del running[done]
            _append(path, done.result())
            print(f"{len(waiting) + len(running)} left: {done.result()['proxy']}", flush=True)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: dict[str, object]) -> None:
    is_new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure")
    training = commands.add_parser("train")
    training.add_argument("--jobs", type=int, default=2)
    training.add_argument("--hours", type=float, default=2.0)
    training.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.command == "measure":
        measure()
    else:
        train(chosen.jobs, chosen.hours, chosen.seed)
