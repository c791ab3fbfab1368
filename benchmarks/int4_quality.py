"""What rounding costs a trained model: bits per byte of held-out text, before and after.

    python benchmarks/int4_quality.py [--steps 3000] [--out docs/handoff/rounding.json]

A decoder of a million parameters is exported for transformers, trained by `transformers.Trainer` on
the embedded text (3,072,000 tokens; ten minutes on one core), brought back with
`--weights`, and exported in every rounded form. Each file is then read by the runtime that phones
run it with, here, and scored on 256 held-out windows of 128 tokens, the same for all. Needs
`make llama-cpp`. With the default `--out` the figures go to the page that `make handoff` writes.

The differences are of this small model, whose rows are short and whose weights were never trained
on much: how much a model of billions of weights loses is for its own checkpoint to say.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import llama_cpp
import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.files import write_json
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.proxy.batches import validation_windows
from phonesearch.proxy.corpus import Corpus, load_corpus
from phonesearch.proxy.score import window_losses
from phonesearch.proxy.settings import ProxySettings
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.checkpoint import read_checkpoint
from phonesearch.trainer_export.deployment import SETTINGS as INT4

ROOT = Path(__file__).parents[1]
TRAINER = ROOT / "tests" / "trainer_export" / "train_with_transformers.py"
CONTEXT = 128
WINDOWS = 256
CANDIDATE = Candidate(
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=256,
)


class InTransformers(nn.Module):
    """The checkpoint as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inner = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """From (batch, length) to (batch, length, vocabulary)."""
        logits: torch.Tensor = self.inner(ids).logits
        return logits


class InOnnxRuntime(nn.Module):
    """A graph in ONNX Runtime, with the operators and weights of the package for phones."""

    def __init__(self, folder: Path, trained: Path, settings: GraphSettings) -> None:
        super().__init__()
        settings = replace(settings, logits="all")
        weights = read_checkpoint(trained, CANDIDATE)
        self.graph = export(CANDIDATE, folder, settings, weights=weights)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """From (batch, length) to (batch, length, vocabulary)."""
        return torch.from_numpy(run_in_chunks(self.graph, ids.numpy(), [ids.shape[1]]))


class InLlamaCpp(nn.Module):
    """A GGUF file in llama.cpp, its cache in float16 as on a phone."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.runtime = llama_cpp.Llama(
            str(folder / "model.gguf"),
            n_ctx=CONTEXT,
            n_batch=CONTEXT,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            verbose=False,
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """From (batch, length) to (batch, length, vocabulary)."""
        rows: list[NDArray[np.float32]] = []
        for row in ids.tolist():
            self.runtime.reset()
            self.runtime.eval(row)
            rows.append(np.array(self.runtime.scores[: len(row)]))
        return torch.from_numpy(np.stack(rows))


def trained(corpus: Corpus, folder: Path, steps: int) -> tuple[Path, list[float]]:
    """The checkpoint that `transformers.Trainer` leaves, and the losses on the way."""
    words = Tokenizer.from_file(str(corpus.tokenizer_path))
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    words.save(str(tokenizer / "tokenizer.json"))
    (tokenizer / "tokenizer_config.json").write_text("{}")
    model = export_to("hf", CANDIDATE, folder / "model", tokenizer=tokenizer)
    (folder / "text").mkdir()
    seen = corpus.train_tokens()[: (steps * 8 + 8) * CONTEXT].tolist()
    (folder / "text" / "text.txt").write_text(words.decode(seen), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, TRAINER, model, folder / "text", folder / "trained", str(steps)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"OMP_NUM_THREADS": "1"},
    )
    losses: list[float] = json.loads(done.stdout.splitlines()[-1])["losses"]
    return folder / "trained", losses


def main() -> None:
    """As the docstring says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "handoff" / "rounding.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = ProxySettings(context_length=CONTEXT, validation_windows=WINDOWS, device="cpu")
    corpus = load_corpus(settings, cache_dir=platformdirs.user_cache_path("phonesearch"))
    if corpus.vocab_size > CANDIDATE.vocab_size:
        parser.error(f"the text has {corpus.vocab_size} tokens, the model {CANDIDATE.vocab_size}")
    windows = validation_windows(corpus, settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights, losses = trained(corpus, folder, given.steps)
        print(f"trained: {losses[0]:.3f} to {np.mean(losses[-50:]):.3f} nats a token", flush=True)
        state = read_checkpoint(weights, CANDIDATE)
        forms: dict[tuple[str, str], nn.Module] = {
            ("float32", "transformers"): InTransformers(weights),
            ("float32", "onnxruntime"): InOnnxRuntime(
                folder / "float", weights, GraphSettings(form="portable", weight_bits=32)
            ),
            ("int4, as `onnx` writes it", "onnxruntime"): InOnnxRuntime(
                folder / "int4", weights, INT4
            ),
            ("int8 in the same form", "onnxruntime"): InOnnxRuntime(
                folder / "int8", weights, replace(INT4, weight_bits=8)
            ),
        }
        for target in ("gguf-f32", "gguf-q8_0", "gguf"):
            written = export_to(target, CANDIDATE, folder / target, weights=state)
            forms[f"`{target}`", "llama-cpp-python"] = InLlamaCpp(written)
        rows = []
        for (form, runtime), model in forms.items():
            scored = window_losses(model, windows, corpus.token_bytes(), device=torch.device("cpu"))
            rows.append(
                {
                    "form": form,
                    "runtime": f"{runtime} {version(runtime.replace('-', '_'))}",
                    "bits_per_byte": round(scored.bits_per_byte, 4),
                }
            )
            print(f"{form:32} {runtime:16} {scored.bits_per_byte:.4f}", flush=True)
    content = {
        "parameters": total_parameters(CANDIDATE),
        "tokens": given.steps * 8 * CONTEXT,
        "windows": len(windows),
        "context_length": CONTEXT,
        "corpus": corpus.description,
        "command": f"python benchmarks/int4_quality.py --steps {given.steps}",
        "rows": rows,
    }
    write_json(given.out, content)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
