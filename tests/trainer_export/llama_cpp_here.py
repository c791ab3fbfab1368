"""llama.cpp on this machine, in the words of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from needs import lack
from numpy.typing import NDArray

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

F32 = 0
"""`GGML_TYPE_F32`. The cache is float16 otherwise, which rounds what is to be compared."""


def need_llama_cpp() -> None:
    """Skip the test without it, or fail it with `PHONESEARCH_NEED_ALL=1`."""
    if llama_cpp is None:
        lack("needs llama-cpp-python: make llama-cpp")


def load(folder: Path, **options: Any) -> Any:
    """The model of a folder, on one thread."""
    # Threads of llama.cpp spin while they wait, which takes minutes on a machine that is busy.
    threads = {"n_threads": 1, "n_threads_batch": 1}
    path = str(folder / "model.gguf")
    return llama_cpp.Llama(path, n_ctx=64, verbose=False, **threads, **options)


def logits(folder: Path, prompt: Sequence[int]) -> NDArray[np.float32]:
    """After each token, shape (tokens, vocabulary)."""
    model = load(folder, logits_all=True, type_k=F32, type_v=F32)
    model.eval(prompt)
    return np.array(model.scores[: len(prompt)])


def generated(folder: Path, prompt: Sequence[int], length: int) -> list[int]:
    """The prompt and what follows it greedily, token by token, `length` in all."""
    model = load(folder, type_k=F32, type_v=F32)
    new = itertools.islice(model.generate(list(prompt), temp=0.0), length - len(prompt))
    return [*prompt, *(int(token) for token in new)]
