"""llama.cpp on this machine, in the words of these tests."""

from __future__ import annotations

import itertools
import time
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


def llama_cpp_version() -> str:
    """Of the package that was built here."""
    return str(llama_cpp.__version__)


def load(folder: Path, *, n_ctx: int = 64, **options: Any) -> Any:
    """The model of a folder, on one thread."""
    # Threads of llama.cpp spin while they wait, which takes minutes on a machine that is busy.
    threads = {"n_threads": 1, "n_threads_batch": 1}
    path = str(folder / "model.gguf")
    return llama_cpp.Llama(path, n_ctx=n_ctx, verbose=False, **threads, **options)


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


def bench(folder: Path, prompt_tokens: int, new_tokens: int) -> tuple[float, float]:
    """Tokens/s of a prompt at once, and of single tokens, each from an empty cache.

    Any token will do, and it goes once to warm up, as llama.cpp's `llama-bench` does it.
    """
    model = load(folder, n_ctx=max(prompt_tokens, new_tokens))
    model.eval([1])
    speeds = []
    for count, chunk in ((prompt_tokens, prompt_tokens), (new_tokens, 1)):
        model.reset()
        start_s = time.perf_counter()
        for _ in range(0, count, chunk):
            model.eval([1] * chunk)
        speeds.append(count / (time.perf_counter() - start_s))
    return speeds[0], speeds[1]
