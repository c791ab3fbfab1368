"""Whether short trainings and the law rank small models as trainings of four times the length do.

    python benchmarks/proxy_study.py train [--jobs 2] [--hours 2] [--tokens N --table FILE]
    python benchmarks/proxy_study.py score [--table FILE]

`train` takes 20 architectures of 1.5B from the space `decoder`, scales them down as a search does
(0.3M non-embedding parameters), and trains each by the recipe and for four times as many tokens,
the truth; seven of them with a second seed. Both share the trunk up to the short one's cooldown.
Trainings are kept in the cache, so it may be stopped and called again; when the hours are over it
begins nothing more. Each result is a row of `docs/proxy/study.csv`, which is committed. Some 3
minutes an architecture on one core of an AMD EPYC with 700,000 tokens, 5 with 1,400,000.

`docs/proxy/study-700k.csv` is of the recipe of before, the reason for the one of today:
--tokens 700000 --table docs/proxy/study-700k.csv

`score` needs no training: from the table it says how well the truth is ranked by the short loss
alone, by the law and priors alone, and by the quality model that has seen the short losses, and
whether its intervals hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[1] / "docs" / "proxy" / "study.csv"
BUDGET = 1_500_000_000
LONGER = 4
_NEUTRAL_LAYERS = 24
SPECS = {
    # name: layers, ffn type, activation, ffn ratio, query heads a key/value head
    "gated silu": (24, "gated", "silu", 2.75, 4),
    "gated gelu": (24, "gated", "gelu", 2.75, 4),
    "gated relu": (24, "gated", "relu", 2.75, 4),
    "gated relu2": (24, "gated", "relu2", 2.75, 4),
    "plain gelu": (24, "plain", "gelu", 4.0, 4),
    "plain relu": (24, "plain", "relu", 4.0, 4),
    "plain relu2": (24, "plain", "relu2", 4.0, 4),
    "plain silu": (24, "plain", "silu", 4.0, 4),
    "gated silu, MHA": (24, "gated", "silu", 2.75, 1),
    "gated silu, pairs": (24, "gated", "silu", 2.75, 2),
    "plain relu2, MHA": (24, "plain", "relu2", 4.0, 1),
    "gated silu, narrow": (24, "gated", "silu", 1.25, 4),
    "gated silu, wide": (24, "gated", "silu", 5.5, 4),
    "plain gelu, narrow": (24, "plain", "gelu", 2.0, 4),
    "plain relu2, wide": (24, "plain", "relu2", 6.0, 4),
    "gated gelu, narrow, MHA": (24, "gated", "gelu", 1.5, 1),
    "deep gated silu": (44, "gated", "silu", 2.75, 4),
    "deep plain gelu": (44, "plain", "gelu", 4.0, 4),
    "shallow gated silu": (11, "gated", "silu", 2.75, 4),
    "shallow plain gelu": (11, "plain", "gelu", 4.0, 4),
}
TWO_SEEDS = (
    "gated silu",
    "plain gelu",
    "plain relu2",
    "gated silu, pairs",
    "gated silu, wide",
    "deep gated silu",
    "shallow gated silu",
)


@dataclass(frozen=True)
class Job:
    """One architecture with one seed: a short training, then on to the long one."""

    name: str
    seed: int
    candidate: dict[str, object]


def chosen() -> dict[str, dict[str, object]]:
    """The architecture of the space that is nearest to each of the specs, at full size."""
    from phonesearch import files
    from phonesearch.catalog import resolve
    from phonesearch.space.grid import at_budget
    from phonesearch.space.schema import SearchSpace

    space = at_budget(files.read(resolve("decoder", "search_spaces"), SearchSpace), BUDGET)
    names = [axis.name for axis in space.axes]
    columns = {
        axis.name: np.array(axis.values, dtype=object)[space.positions[:, place]]
        for place, axis in enumerate(space.axes)
    }
    found = {}
    for name, (layers, kind, act, ratio, group) in SPECS.items():
        off = np.abs(np.log(columns["num_hidden_layers"].astype(float) / layers))
        off += 2 * np.abs(np.log(columns["ffn_ratio"].astype(float) / ratio))
        off += 9.0 * (columns["ffn_type"] != kind) + 9.0 * (columns["hidden_act"] != act)
        off += 9.0 * np.array(
            [value != group for value in columns["query_heads_per_key_value_head"]]
        )
        off += np.abs(np.log(columns["attention_width_ratio"].astype(float)))
        off += 0.1 * np.abs(np.log(columns["head_dim"].astype(float) / 64))
        off += 1.0 * np.array([not value for value in columns["tie_word_embeddings"]])
        assert "num_hidden_layers" in names
        found[name] = asdict(space.candidate(int(np.argmin(off))))
    return found


def train(jobs: int, hours: float, tokens: int | None, table: Path) -> None:
    """All that is missing in the table, as long as there is time."""
    end = time.monotonic() + hours * 3600
    candidates = chosen()
    work = [Job(name, 0, candidates[name]) for name in SPECS]
    work += [Job(name, 1, candidates[name]) for name in TWO_SEEDS]
    done = {(row["name"], int(row["seed"])) for row in rows(table) if int(row["longer"]) == LONGER}
    due = [job for job in work if (job.name, job.seed) not in done]
    print(f"{len(due)} of {len(work)} trainings to do", flush=True)
    context = multiprocessing.get_context("spawn")
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        futures = {pool.submit(trained, job, end, tokens): job for job in due}
        for future in as_completed(futures):
            results = future.result()
            if results:
                write(results, table)
                print(f"{futures[future].name}, seed {futures[future].seed}: ", end="")
                print(", ".join(f"{row['bits_per_byte']:.4f}" for row in results), flush=True)


def trained(job: Job, end: float, tokens: int | None) -> list[dict[str, object]]:
    """Rows of the short and of the long training; none if there is no time left."""
    import platformdirs
    import torch

    from phonesearch.candidate.config import Candidate
    from phonesearch.candidate.count import non_embedding_parameters
    from phonesearch.proxy.cache import cached_training
    from phonesearch.proxy.corpus import load_corpus
    from phonesearch.proxy.settings import ProxySettings
    from phonesearch.proxy.shrink import shrink

    if time.monotonic() > end:
        return []
    torch.set_num_threads(1)
    cache = platformdirs.user_cache_path("phonesearch")
    short = ProxySettings(seed=job.seed, device="cpu")
    if tokens is not None:
        short = replace(short, tokens=tokens)
    command = "python benchmarks/proxy_study.py train"
    corpus = load_corpus(short, cache_dir=cache)
    proxy = shrink(Candidate(**job.candidate), short, reference_parameters=BUDGET)  # type: ignore[arg-type]
    found = []
    for longer in (1, LONGER):
        settings = replace(short, tokens=short.tokens * longer)
        loss = cached_training(cache, proxy, corpus, settings, keep_trunk=longer == 1).loss
        found.append(
            {
                "name": job.name,
                "seed": job.seed,
                "longer": longer,
                "tokens": loss.tokens,
                "bits_per_byte": loss.bits_per_byte,
                "standard_error": loss.standard_error,
                "is_neutral": SPECS[job.name][0] == _NEUTRAL_LAYERS,
                "copy_gap_nats": loss.copy_gap_nats,
                "seconds": round(loss.seconds, 1),
                "non_embedding_parameters": non_embedding_parameters(proxy),
                "proxy": json.dumps(loss.proxy),
                "recipe": json.dumps(loss.recipe),
                "curve": json.dumps([[seen, round(nats, 4)] for seen, nats in loss.curve]),
                "command": command if tokens is None else f"{command} --tokens {tokens}",
            }
        )
    return found


def rows(table: Path) -> list[dict[str, str]]:
    """Of the table so far."""
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write(new: list[dict[str, object]], table: Path) -> None:
    """The table with these rows added, in a fixed order."""
    every: list[dict[str, object]] = [*rows(table), *new]
    order = list(SPECS)

    def place(row: dict[str, object]) -> tuple[int, int, int]:
        return order.index(str(row["name"])), int(str(row["seed"])), int(str(row["longer"]))

    every.sort(key=place)
    table.parent.mkdir(exist_ok=True)
    part = table.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(every[0]))
        writer.writeheader()
        writer.writerows(every)
    part.replace(table)


def score(table: Path) -> None:
    """How the truth is ranked."""
    from phonesearch.proxy.uncertainty import COPY_GAP_PASSED_NATS
    from phonesearch.quality.study import COVERAGE, judge_study
    from phonesearch.quality.study_table import read_study

    found = judge_study(read_study(table, least_copy_gap_nats=COPY_GAP_PASSED_NATS))
    print(
        f"{found.num_architectures} architectures; {found.num_passed} of {found.num_short} short "
        f"trainings past the transition; truth: {found.longer} times the tokens"
    )
    held = f"{COVERAGE:.0%} intervals hold"
    print(f"{'Spearman with the truth':30} {'all':>6} {'one depth':>10} {held:>20}")
    for one in found.rankings:
        inside = "" if one.held is None else f"{one.held:.0%}"
        print(f"{one.what:30} {one.overall:6.2f} {one.one_depth:10.2f} {inside:>20}")
    print(
        f"truths: sd {found.truth_sd:.4f} log loss; two seeds differ by "
        f"{found.seed_difference:.4f}; scatter over seeds alone lets nothing reach more than "
        f"about {found.ceiling:.2f}"
    )
    print(
        f"effects are likeliest {found.transfer_scale:g} times their transfer_sd off the priors, "
        f"and {found.length_scale:g} times between the short and the long trainings"
    )
    print("training loss of the long ones while they last, rates still high:")
    for at in found.along:
        print(f"{at.tokens:30,} {at.overall:6.2f} {at.one_depth:10.2f}")


def main() -> None:
    """As the docstring says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--tokens", type=int, help="of a short training; default: the recipe's")
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_args()
    if given.tokens is not None and given.table == TABLE:
        parser.error(f"--tokens needs a --table of its own; {TABLE} is of the recipe as it is")
    if given.what == "score" and not given.table.is_file():
        parser.error(f"there is no table {given.table} yet; make it with: train")
    if given.what == "train":
        train(given.jobs, given.hours, given.tokens, given.table)
    else:
        score(given.table)


if __name__ == "__main__":
    main()
