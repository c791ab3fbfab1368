"""Tokens a second of our proxy loop, of `transformers.Trainer` and of litgpt's pretraining loop.

    python benchmarks/proxy_throughput.py [--rounds 5] [--lock FILE] [--out FILE] [WAY ...]

Needs, beside what the tests need, `accelerate`, `litgpt` and `lightning` on the path. litgpt 0.5.13
pins older transformers than this project's, so install it apart, without what it pins:

    pip install --no-deps --target FOLDER litgpt==0.5.13 accelerate lightning lightning-utilities \\
        torchmetrics jsonargparse pytorch-lightning psutil docstring-parser typeshed-client
    PYTHONPATH=FOLDER python benchmarks/proxy_throughput.py

All train the same shape (layers, widths, heads, tied table) on the same batch and context, in
one precision, with one thread, eagerly:

    ours          `proxy.loop.train_model`: smeared keys, Muon and AdamW, and a state written every
                  20 s
    transformers  `transformers.Trainer` with `LlamaForCausalLM`, SDPA, fused AdamW, no logging, no
                  clipping
    litgpt        `litgpt.pretrain.fit` with Lightning's Fabric and litgpt's `GPT`; AdamW without
                  `fused`, as litgpt chooses on a CPU

A way followed by `_bf16` is the same with products in bfloat16: autocast in theirs (`bf16=True`;
`bf16-mixed`), `proxy.direct` in ours. Ours does more a step (the orthogonalised update, the mixture
of keys), and gets nothing for it here. litgpt's own `main` compiles the model before its `fit`;
`litgpt_compiled` does, and `first_step_s` says what that took, which these trainings of a minute
or two cannot win back.

Every measurement is a process of its own; a round measures every way once, in turn, and ratios are
of the same round. The first steps of each are left out. CPU time stands beside wall time, which a
neighbour on a shared machine moves more. Peak memory is that of the process, with torch and its
libraries. The utilisation counts 6 N operations a token, with N all parameters that multiply (the
tied table once, as the head), and 6 L d T for attention over a causal context (T tokens, width d of
all heads, L layers: a product of scores and one of values, each 2 d T/2 operations forward and
twice that backward), over the peak of a float32 product of 1024 x 1024 matrices, measured in the
same process.

Source: for 6 N and attention, Chowdhery et al., PaLM, arXiv 2204.02311, appendix B (12 L d T there,
as it counts the half that causality leaves out).

`--side` also trains two of ours side by side, a thread each; `ours_2_threads` is one with two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from operator import truediv
from pathlib import Path
from typing import Any

import filelock
import torch

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.errors import ProxyError
from phonesearch.model.decoder import Decoder
from phonesearch.proxy import loop
from phonesearch.proxy.batches import training_batches
from phonesearch.proxy.corpus import load_corpus
from phonesearch.proxy.loop import Checkpoints, Watch
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.smear import smear_keys

_FULL_SIZE = Candidate(
    vocab_size=49152,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=128,
)
FULL_SIZES = {
    "0.3M": replace(_FULL_SIZE, num_hidden_layers=24, num_key_value_heads=8),
    "1M": _FULL_SIZE,
}
"""Gated SiLU; the width of each proxy is a multiple of its heads, as transformers wants it."""
SIZES = {
    "0.3M": ProxySettings(device="cpu"),
    "1M": ProxySettings(
        device="cpu", parameters=1_000_000, tokens=4_000_000, batch_size=4, context_length=256
    ),
}
STEPS = {"0.3M": (30, 250), "1M": (6, 40)}
"""Steps left out at the start, and steps in all."""
WAYS = ("ours", "transformers", "litgpt", "ours_bf16", "transformers_bf16", "litgpt_bf16")
EXTRA_WAYS = ("ours_2_threads", "ours_bf16_2_threads", "litgpt_compiled", "litgpt_bf16_compiled")


class Stopwatch:
    """Wall and CPU time between the end of the first steps and the end of the last."""

    def __init__(self, size: str, *, way: str) -> None:
        self.skipped, self.steps = STEPS[size]
        self.way = way
        self.begun_s = time.perf_counter()
        self.times: list[tuple[float, float]] = []

    def step_ended(self) -> None:
        """Note the time."""
        self.times.append((time.perf_counter(), time.process_time()))

    def result(self, size: str, proxy: Candidate) -> dict[str, Any]:
        """All that is reported of one measurement."""
        settings = SIZES[size]
        wall_s, cpu_s = (
            self.times[-1][clock] - self.times[self.skipped - 1][clock] for clock in (0, 1)
        )
        steps = len(self.times) - self.skipped
        tokens = steps * settings.batch_size * settings.context_length
        peak = peak_flops_per_s()
        return {
            "way": self.way,
            "size": size,
            "steps": steps,
            "tokens_per_wall_s": tokens / wall_s,
            "tokens_per_cpu_s": tokens / cpu_s,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "matmul_peak_gflops_per_s": peak / 1e9,
            "utilisation": flops_per_token(proxy, settings.context_length) * tokens / cpu_s / peak,
            "first_step_s": self.times[0][0] - self.begun_s,
        }


def proxy_of(size: str) -> Candidate:
    full = FULL_SIZES[size]
    return shrink(full, SIZES[size], reference_parameters=non_embedding_parameters(full))


def flops_per_token(proxy: Candidate, context_length: int) -> float:
    """Forward and backward; see the head of this file."""
    multiplied = non_embedding_parameters(proxy) + proxy.vocab_size * proxy.hidden_size
    width = proxy.num_attention_heads * proxy.head_dim
    return 6 * multiplied + 6 * proxy.num_hidden_layers * width * context_length


def peak_flops_per_s() -> float:
    """Best of several products of 1024 x 1024 matrices, by CPU time of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best_s = float("inf")
    for _ in range(12):
        started_s = time.process_time()
        a @ b
        best_s = min(best_s, time.process_time() - started_s)
    torch.set_num_threads(threads)
    return 2 * 1024**3 / best_s


def corpus_of(size: str) -> Any:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "phonesearch"
    return load_corpus(SIZES[size], cache_dir=cache)


def ours(size: str, watch: Stopwatch, *, bf16: bool) -> None:
    precision = "bfloat16" if bf16 else "float32"
    settings, corpus = replace(SIZES[size], precision=precision), corpus_of(size)
    model = Decoder(proxy_of(size), seed=0, device="cpu", dtype=torch.float32)
    smear_keys(model)

    outside = Watch(
        progress=lambda tokens, total: watch.step_ended(),
        should_stop=lambda: len(watch.times) >= watch.steps,
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ProxyError):
        states = Checkpoints(path=Path(folder, "a"), trunk_path=Path(folder, "b"), trunk="")
        loop.train_model(model, corpus, settings, watch=outside, checkpoints=states)


def windows_of(size: str) -> torch.Tensor:
    """The batches of our own training, one after the other, shape (windows, context + 1)."""
    batches = training_batches(corpus_of(size), SIZES[size])
    return torch.cat([torch.from_numpy(next(batches)) for _ in range(STEPS[size][1] + 2)])


def transformers(size: str, watch: Stopwatch, *, bf16: bool) -> None:
    import transformers as hf

    class Times(hf.TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.step_ended()

    rows = [{"input_ids": row, "labels": row} for row in windows_of(size)[:, :-1]]
    proxy, settings = proxy_of(size), SIZES[size]
    known = hf.LlamaConfig().to_dict().keys() - {"rope_scaling"}
    model = hf.LlamaForCausalLM(
        hf.LlamaConfig(
            **{name: value for name, value in as_dict(proxy).items() if name in known},
            attn_implementation="sdpa",
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = hf.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            max_steps=watch.steps,
            learning_rate=settings.other_lr,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            use_cpu=True,
            bf16=bf16,
            max_grad_norm=0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        hf.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Times()]).train()


def litgpt(size: str, watch: Stopwatch, *, bf16: bool, compiled: bool) -> None:
    import lightning
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.model import GPT, Config
    from litgpt.pretrain import fit, initialize_weights

    proxy, settings = proxy_of(size), SIZES[size]
    config = Config(
        block_size=settings.context_length,
        vocab_size=proxy.vocab_size,
        padded_vocab_size=proxy.vocab_size,
        n_layer=proxy.num_hidden_layers,
        n_head=proxy.num_attention_heads,
        n_query_groups=proxy.num_key_value_heads,
        n_embd=proxy.hidden_size,
        head_size=proxy.head_dim,
        intermediate_size=proxy.intermediate_size,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    fabric = lightning.Fabric(
        devices=1, accelerator="cpu", precision="bf16-mixed" if bf16 else "32-true"
    )
    model = GPT(config)
    initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
    model.transformer.wte.weight = model.lm_head.weight
    parts = fabric.setup(torch.compile(model) if compiled else model)
    optimizer = fabric.setup_optimizers(
        torch.optim.AdamW(parts.parameters(), lr=settings.other_lr, weight_decay=0.1)
    )
    rows = windows_of(size)

    class Batches:
        """A step ends when the next batch is asked for."""

        def __iter__(self) -> Iterator[torch.Tensor]:
            for start in range(0, len(rows), settings.batch_size):
                if start > 0:
                    watch.step_ended()
                yield rows[start : start + settings.batch_size]

    tokens = watch.steps * settings.batch_size * settings.context_length
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        fit(
            fabric=fabric,
            devices=1,
            state={"model": parts, "optimizer": optimizer, "iter_num": 0, "step_count": 0},
            train_dataloader=Batches(),
            val_dataloader=[rows[: settings.batch_size]],
            out_dir=Path(folder),
            tokenizer_dir=None,
            train=TrainArgs(
                save_interval=None,
                log_interval=10**9,
                global_batch_size=settings.batch_size,
                micro_batch_size=settings.batch_size,
                max_tokens=tokens,
                lr_warmup_steps=0,
                max_norm=1.0,
            ),
            eval=EvalArgs(interval=10**9, max_iters=1, final_validation=False),
        )


def measure(way: str, size: str) -> dict[str, Any]:
    """In this process."""
    torch.set_num_threads(2 if way.endswith("2_threads") else 1)
    torch.manual_seed(0)
    watch = Stopwatch(size, way=way)
    bf16 = "bf16" in way
    if way.startswith("transformers"):
        transformers(size, watch, bf16=bf16)
    elif way.startswith("litgpt"):
        litgpt(size, watch, bf16=bf16, compiled=way.endswith("compiled"))
    else:
        ours(size, watch, bf16=bf16)
    return watch.result(size, proxy_of(size))


def start(way: str, size: str) -> subprocess.Popen[str]:
    threads = "2" if way.endswith("2_threads") else "1"
    return subprocess.Popen(
        [sys.executable, __file__, "--measure", way, size],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"a measurement failed:\n{err}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def summarise(found: list[dict[str, Any]], ways: list[str]) -> None:
    for size in SIZES:
        print(f"\n{size}: {proxy_of(size)}")
        for way in dict.fromkeys(one["way"] for one in found):
            mine = [one for one in found if one["way"] == way and one["size"] == size]
            line = ", ".join(
                f"{label} {statistics.median(one[field] for one in mine):,.{digits}f}"
                for label, field, digits in (
                    ("tokens/CPU-s", "tokens_per_cpu_s", 0),
                    ("tokens/s", "tokens_per_wall_s", 0),
                    ("utilisation", "utilisation", 3),
                    ("MiB", "peak_memory_mib", 0),
                    ("peak GFLOP/s", "matmul_peak_gflops_per_s", 0),
                    ("first step s", "first_step_s", 1),
                )
            )
            print(f"  {way:18} {line}")
        for way in ways:
            if way.startswith("ours"):
                continue
            mine = "ours_bf16" if "bf16" in way else "ours"
            for field in ("tokens_per_cpu_s", "tokens_per_wall_s"):
                one, other = (
                    [this[field] for this in found if (this["way"], this["size"]) == (name, size)]
                    for name in (mine, way)
                )
                found_ratios = sorted(map(truediv, one, other))
                low, middle, high = (
                    found_ratios[0],
                    statistics.median(found_ratios),
                    found_ratios[-1],
                )
                print(f"  {mine} over {way}, {field}: {middle:.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "ways", nargs="*", default=list(WAYS), help="of " + ", ".join(WAYS + EXTRA_WAYS)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lock", type=Path, help="file that is locked during each round")
    parser.add_argument("--out", type=Path, help="JSON Lines file that results are added to")
    parser.add_argument("--side", action="store_true", help="also two trainings side by side")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    for size in SIZES:
        corpus_of(size)  # made before anything is timed
    found: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for size in SIZES:
            lock = filelock.FileLock(options.lock) if options.lock else contextlib.nullcontext()
            with lock:
                turn = options.ways[number % len(options.ways) :]
                turn += options.ways[: number % len(options.ways)]
                new = [finish(start(way, size)) for way in turn]
                if options.side:
                    both = [start("ours_bf16", size) for _ in range(2)]
                    new += [{**finish(one), "way": "ours_bf16_side_by_side"} for one in both]
            found += new
            if options.out:
                with options.out.open("a", encoding="utf-8") as stream:
                    stream.writelines(json.dumps({**one, "round": number}) + "\n" for one in new)
            print(f"round {number + 1}, {size}: done", file=sys.stderr)
    summarise(found, options.ways)


if __name__ == "__main__":
    main()
