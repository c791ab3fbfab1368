"""The program for ExecuTorch, in ExecuTorch's own Python runtime."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_variants import lively
from torch import Tensor
from tried import tried

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.base import export_to
from phonesearch.trainer_export.request import ExportRequest

PROMPT = [5, 9, 77, 3, 200, 14, 68]
# What ExecuTorch 1.5.1, torchao 0.18 and torch 2.13 say of one another while they are imported
# and export; none of it is of our making.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sliding_window": 5}, "custom_sdpa, has no `sliding_window`, got 5"),
        ({"hidden_size": 48}, "`hidden_size` must be a multiple of 32, got 48"),
        ({"intermediate_size": 72}, "`intermediate_size` must be a multiple of 32, got 72"),
        ({"head_dim": 12}, "`num_attention_heads` x `head_dim` must be a multiple of 32, got 48"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_the_name_of_the_field(
    change: dict[str, int], message: str, tiny: Candidate, tmp_path: Path
) -> None:
    with pytest.raises(TrainerExportError, match=message):
        export_to("executorch", replace(tiny, **change), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_the_command_that_installs_them_is_named(
    tiny: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainerExportError, match=r"pip install 'phonesearch\[executorch\]'"):
        export_to("executorch", tiny, tmp_path / "model")


def _greedy(forward: Any, length: int) -> tuple[list[Tensor], list[int]]:
    """Logits after every step, and the tokens, from a function of new tokens and a position."""
    tokens, new, logits = list(PROMPT), list(PROMPT), []
    while len(tokens) < length:
        logits.append(
            forward(torch.tensor([new]), torch.tensor([len(tokens) - len(new)])).reshape(-1)
        )
        new = [int(logits[-1].argmax())]
        tokens += new
    return logits, tokens


@pytest.mark.executorch
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ffn_type": "plain", "hidden_act": "gelu", "qk_norm": True, "tie_word_embeddings": False},
    ],
    ids=["llama", "plain gelu with norms, untied"],
)
@torch.no_grad()
def test_the_program_generates_what_torch_computes_with_the_same_rounding(
    change: dict[str, Any], tiny: Candidate, tmp_path: Path
) -> None:
    """XNNPACK and torchao round activations to 8 bits each in their own way, which is what is
    left: a few hundredths of the logits."""
    import executorch.kernels.quantized  # noqa: F401  # for the look-up in the table
    from executorch.runtime import Runtime

    from phonesearch.trainer_export.executorch_file import rounded_module

    candidate = replace(tiny, **change)
    weights = lively(candidate)
    folder = export_to("executorch", candidate, tmp_path / "model", weights=weights)
    program = Runtime.get().load_program(str(folder / "model.pte")).load_method("forward")
    logits, tokens = _greedy(lambda *inputs: program.execute(list(inputs))[0], 40)
    request = ExportRequest(
        candidate=candidate, weights=weights, seed=0, tokenizer=None, progress=None
    )
    module = rounded_module(request, group=32)
    begin, new = 0, list(PROMPT)
    shares = []
    for found in logits:
        expected = module(torch.tensor([new]), torch.tensor([begin]))[0]
        shares.append(float((found - expected).square().mean().sqrt() / expected.std()))
        begin += len(new)
        new = tokens[begin : begin + 1]
    print(f"error / logits: {np.mean(shares):.4f}, at most {max(shares):.4f}")
    assert max(shares) < 0.1
    tried(
        "executorch",
        tool="executorch, Python runtime",
        version=version("executorch"),
        what=f"ran a {candidate.ffn_type} {candidate.hidden_act} model rounded to 8da4w, 40 tokens",
        result=f"logits within {max(shares):.1%} of what torch has with the same rounding",
    )


@pytest.mark.executorch
def test_the_code_in_the_readme_runs(
    tiny: Candidate,
    tmp_path: Path,
    tokenizer_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = export_to("executorch", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
    assert (folder / "tokenizer.json").is_file()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "**The weights are random (seed 0).**" in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(code[1], {})
    prompt, generation, tokens = capsys.readouterr().out.strip().splitlines()[-3:]
    assert re.fullmatch(r"prompt: \d+\.\d tokens/s", prompt)
    assert re.fullmatch(r"generation: \d+\.\d tokens/s", generation)
    assert len(tokens.split(",")) == 192
