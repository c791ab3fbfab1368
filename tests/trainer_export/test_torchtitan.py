"""The module for torchtitan, under torchtitan's own parser of configs."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import pytest
from trainer_python import run_in_trainer

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.trainer_export.base import export_to


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_config_is_read_and_its_fresh_model_guesses_evenly(
    tiny: Candidate, tmp_path: Path
) -> None:
    """No further on a CPU: FlexAttention has no backward pass there."""
    folder = export_to("torchtitan", tiny, tmp_path / "model")
    printed = run_in_trainer("torchtitan", "torchtitan_model.py", "start", folder)
    assert abs(float(printed.splitlines()[0]) - math.log(tiny.vocab_size)) < 0.3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_code_in_the_readme_builds_the_counted_parameters(
    tiny: Candidate, tmp_path: Path
) -> None:
    folder = export_to("torchtitan", tiny, tmp_path / "model")
    text = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    printed = run_in_trainer("torchtitan", "-c", code[1], folder=folder)
    assert f"{total_parameters(tiny):,} parameters\n" in printed


def test_the_command_in_the_readme_names_the_module(
    tiny: Candidate, tmp_path: Path, tokenizer_folder: Path
) -> None:
    folder = export_to("torchtitan", tiny, tmp_path / "model", tokenizer=tokenizer_folder)
    text = (folder / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    command = re.search(r"^torchrun (.*)$", text, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1])
    assert (folder / f"{words[words.index('--module') + 1]}.py").is_file()
    assert "--hf_assets_path" not in words
