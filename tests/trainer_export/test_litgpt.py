"""The folder for litgpt, read and trained by litgpt in an environment without phonesearch."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from trainer_python import python_of, run_in_trainer
from tried import trainer_version, tried

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.trainer_export.base import export_to


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_in_the_readme_trains(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """Twenty steps of two sequences; the loss falls from that of a uniform guess."""
    candidate = replace(tiny, max_position_embeddings=64)
    folder = export_to("litgpt", candidate, tmp_path / "model", tokenizer=tokenizer_folder)
    (folder / "text").mkdir()
    for name in ("a", "b"):
        (folder / "text" / f"{name}.txt").write_text("the cat sat on the mat. " * 300)
    text = (folder / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    command = re.search(r"^litgpt (pretrain .*)$", text, re.MULTILINE)
    assert command is not None
    program = python_of("litgpt").with_name("litgpt")
    options = (
        f"--train.max_tokens {20 * 2 * 64} --train.global_batch_size 2 --train.micro_batch_size 2 "
        "--train.lr_warmup_steps 2 --train.min_lr 1e-3 --optimizer.init_args.lr 1e-3 "
        "--eval.max_iters 1 --data.num_workers 0"
    )
    printed = run_in_trainer(
        "litgpt", program, *shlex.split(command[1]), *shlex.split(options), folder=folder
    )
    assert f"Total parameters: {total_parameters(candidate):,}" in printed
    losses = [float(loss) for loss in re.findall(r"loss train: ([\d.]+)", printed)]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 1
    assert (folder / "trained" / "final" / "lit_model.pth").is_file()
    tried(
        "litgpt",
        tool="litgpt pretrain",
        version=trainer_version("litgpt"),
        what="trained a tiny model for 20 steps on a CPU by the command of the README",
        result=f"parameters as counted; loss {losses[0]:.2f} to {losses[-1]:.2f} nats a token",
    )
