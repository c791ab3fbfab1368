"""Values that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.catalog import resolve
from phonesearch.model.decoder import Decoder
from phonesearch.space.grid import at_budget
from phonesearch.space.schema import SearchSpace


@pytest.fixture
def lively_weights(tiny: Candidate) -> dict[str, Tensor]:
    """Weights whose logits differ enough that a greedy choice is no accident of rounding."""
    state = Decoder(tiny, seed=1).state_dict()
    return {name: t * 6 if t.dim() > 1 else t.clone() for name, t in state.items()}


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer of 200 ids, the first two special, as transformers saves it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:197]
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet, "ab"])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tmp_path / "tokenizer"
    PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn() -> tuple[Candidate, ...]:
    """Fifty architectures of the default space, at random."""
    space = files.read(resolve("decoder", "search_spaces"), SearchSpace)
    solved = at_budget(space, 300_000_000)
    points = np.random.default_rng(6).choice(len(solved), size=50, replace=False)
    return tuple(solved.candidate(int(point)) for point in points)
