"""What `hf` writes is trained by programs that know nothing of phonesearch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tried import tried

from phonesearch.candidate.config import Activation, Candidate, FfnType
from phonesearch.candidate.count import total_parameters
from phonesearch.proxy.corpus import Corpus, load_corpus
from phonesearch.proxy.settings import ProxySettings
from phonesearch.trainer_export.base import export_to

HERE = Path(__file__).parent
STEPS = 20
MOST_TEXT_TOKENS = 60_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The embedded one, with its tokenizer."""
    return load_corpus(ProxySettings(), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def text(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    ids = corpus.train_tokens()[:MOST_TEXT_TOKENS].tolist()
    (folder / "text.txt").write_text(tokenizer.decode(ids), encoding="utf-8")
    return folder


@pytest.fixture
def small(tiny: Candidate, corpus: Corpus) -> Candidate:
    return replace(tiny, vocab_size=corpus.vocab_size, max_position_embeddings=256)


def ran(command: list[str], *, cwd: Path) -> dict[str, Any]:
    """What a program printed in its last line."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("kind", "act"), [("gated", "silu"), ("plain", "relu2")])
def test_transformers_trains_it_and_the_loss_falls(
    small: Candidate, corpus: Corpus, text: Path, tmp_path: Path, kind: FfnType, act: Activation
) -> None:
    candidate = replace(small, ffn_type=kind, hidden_act=act)
    folder = export_to("hf", candidate, tmp_path / "model", tokenizer=corpus.folder)
    program = HERE / "train_with_transformers.py"
    command = [sys.executable, str(program), str(folder), str(text), "out", str(STEPS)]

    found = ran(command, cwd=tmp_path)

    assert found["parameters"] == total_parameters(candidate)
    assert not found["phonesearch_imported"]
    losses = found["losses"]
    assert len(losses) == STEPS
    last = sum(losses[-3:]) / 3
    assert last < losses[0] - 0.5
    tried(
        "hf",
        tool="transformers.Trainer",
        version=transformers.__version__,
        what=f"trained a {kind} {act} model of {total_parameters(candidate):,} parameters for "
        f"{STEPS} steps on the embedded text",
        result=f"parameters as counted; loss {losses[0]:.2f} to {last:.2f} nats a token",
    )


def test_it_is_sharded_over_processes_as_it_is(small: Candidate, tmp_path: Path) -> None:
    folder = export_to("hf", small, tmp_path / "model")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    one, two = (
        ran(
            [*torchrun, f"--nproc_per_node={n}", str(HERE / "train_sharded.py"), str(folder), "4"],
            cwd=tmp_path,
        )
        for n in (1, 2)
    )
    assert two["share_held"] == pytest.approx(0.5, abs=0.01)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
    assert two["losses"][-1] < two["losses"][0] - 0.5
    tried(
        "hf",
        tool="torch FSDP (fully_shard, gloo)",
        version=torch.__version__,
        what="trained the model as it is, sharded over two processes on a CPU",
        result=f"each holds {two['share_held']:.0%}; losses as of one process, to 0.1 %",
    )
