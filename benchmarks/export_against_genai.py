"""Our int4 deployment export of PhoneLM-0.5B against onnxruntime-genai's model builder.

    python benchmarks/export_against_genai.py [--rounds 1] [--folder DIR]

Every export is a process of its own, from start to exit, into an empty folder of one file
system: the builder from a saved checkpoint, ours from the same checkpoint (read, quantised,
written) and with random weights (what timing a shape needs). Making the checkpoint, random
weights in bfloat16, is timed apart and counted for nobody. The builder does not know the type
`phonelm`; the checkpoint has the `llama` config of the same function, gated ReLU included.
Beside the wall clock stands the CPU time, which a neighbour on a shared machine moves less. What
both spend before they start, importing torch above all, is measured too (a start without
arguments), and a second ratio is of what comes after it.

At the end the two packages made from the checkpoint are run in onnxruntime-genai on one prompt:
the logits must be nearly those of each other. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime_genai
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to

PHONELM_0_5B = Candidate(
    vocab_size=49152,
    hidden_size=1024,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=64,
    hidden_act="relu",
    max_position_embeddings=2048,
)
"""Source: config.json of mllmTeam/PhoneLM-0.5B."""
WAYS = ("builder", "ours_from_checkpoint", "ours_random")
STARTS = ("builder_start", "ours_start")

OURS = """
import sys
from pathlib import Path

from phonesearch.candidate.huggingface import read_candidate
from phonesearch.trainer_export.base import export_to

way, checkpoint, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
weights = None
if way == "ours_from_checkpoint":
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "model.safetensors")
if way != "ours_start":
    export_to("onnx", read_candidate(checkpoint), folder, weights=weights, tokenizer=checkpoint)
"""
"""What our process runs; it imports nothing that only this benchmark needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one process took; children of the process included."""

    wall_s: float
    cpu_s: float
    num_bytes: int


def make_checkpoint(folder: Path) -> None:
    """A saved model with random weights and a byte-level tokenizer, as the builder needs it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[])),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as saved:
        tokenizer.save_pretrained(saved)
        state = Decoder(PHONELM_0_5B, dtype=torch.bfloat16).state_dict()
        export_to("hf", PHONELM_0_5B, folder, weights=state, tokenizer=Path(saved))


def command(way: str, checkpoint: Path, folder: Path) -> list[str]:
    """Command line that exports `checkpoint` into `folder`."""
    module = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    if way == "builder_start":
        return module  # imports all, then complains about missing arguments
    if way == "builder":
        paths = ["-i", str(checkpoint), "-o", str(folder), "-c", str(folder / "cache")]
        return [*module, *paths, "-p", "int4", "-e", "cpu"]
    return [sys.executable, "-c", OURS, way, str(checkpoint), str(folder)]


def cost(way: str, checkpoint: Path, folder: Path) -> Cost:
    """What one export takes, its own process started and ended."""
    shutil.rmtree(folder, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.perf_counter()
    done = subprocess.run(command(way, checkpoint, folder), capture_output=True, text=True)
    wall_s = time.perf_counter() - start_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode and way != "builder_start":
        raise SystemExit(f"{way} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return Cost(
        wall_s=wall_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        num_bytes=sum(path.stat().st_size for path in folder.glob("model.onnx*")),
    )


def logits(folder: Path) -> NDArray[np.float32]:
    """Logits after a prompt of 16 tokens, in onnxruntime-genai."""
    model = onnxruntime_genai.Model(str(folder))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(max_length=32)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(np.arange(2, 18, dtype=np.int32))
    last: NDArray[np.float32] = np.array(generator.get_logits()).reshape(
        -1, PHONELM_0_5B.vocab_size
    )[-1]
    return last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        start_s = time.perf_counter()
        make_checkpoint(checkpoint)
        print(f"checkpoint made in {time.perf_counter() - start_s:.1f} s (not counted)")
        costs: dict[str, list[Cost]] = {way: [] for way in (*STARTS, *WAYS)}
        for number in range(arguments.rounds):
            for way in costs:
                costs[way].append(cost(way, checkpoint, Path(scratch) / way))
                last = costs[way][-1]
                print(
                    f"round {number + 1}  {way:<21} {last.wall_s:6.1f} s wall  "
                    f"{last.cpu_s:6.1f} s CPU  {last.num_bytes / 1e6:5.0f} MB"
                )
        theirs, ours = logits(Path(scratch) / "builder"), logits(Path(scratch) / WAYS[1])

    correlation = float(np.corrcoef(theirs, ours)[0, 1])
    if correlation < 0.95:
        raise SystemExit(f"the two packages disagree: correlation of logits {correlation:.3f}")
    wall = {way: statistics.median(c.wall_s for c in costs[way]) for way in costs}
    cpu = {way: statistics.median(c.cpu_s for c in costs[way]) for way in costs}
    ratios = {}
    for way in WAYS[1:]:
        ratios[way] = {
            "wall": wall["builder"] / wall[way],
            "cpu": cpu["builder"] / cpu[way],
            "cpu_after_start": (cpu["builder"] - cpu["builder_start"])
            / (cpu[way] - cpu["ours_start"]),
        }
        print(
            f"{way}: {ratios[way]['wall']:.1f}x faster than the builder by the wall clock, "
            f"{ratios[way]['cpu']:.1f}x by CPU time, {ratios[way]['cpu_after_start']:.1f}x by CPU "
            "time after the start"
        )
    print(f"correlation of the logits of builder and ours_from_checkpoint: {correlation:.4f}")
    report = {
        "benchmark": "export_against_genai",
        "parameters": total_parameters(PHONELM_0_5B),
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "builder": onnxruntime_genai.__version__,
        "costs": {way: [asdict(c) for c in costs[way]] for way in costs},
        "ratios": ratios,
        "logits_correlation": correlation,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
