"""Which windows a training sees, in which order, and which windows score it.

All of it depends on the corpus, the settings and the seed alone, never on the candidate.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.settings import ProxySettings

Tokens = NDArray[np.int64]


def training_batches(
    corpus: Corpus, settings: ProxySettings, *, first_step: int = 0
) -> Iterator[Tokens]:
    """Batches of windows in order, shape (batch_size, context_length + 1).

    The training tokens are cut into windows, shuffled, and taken without repetition; when all
    were seen they are cut at another offset and shuffled again. The batch of a step does not
    depend on how many steps there are, so a longer training begins with the batches of a
    shorter one.

    Args:
        corpus: Text as tokens.
        settings: Size and number of batches, and the seed of their order.
        first_step: Step to begin with, from 0; the batches before it are passed over.
    """
    tokens = corpus.train_tokens()
    order = np.random.default_rng([settings.seed, 1])
    starts = _window_starts(len(tokens), settings.context_length, order)
    offsets = np.arange(settings.context_length + 1)
    collections.deque(itertools.islice(starts, first_step * settings.batch_size), maxlen=0)
    for _ in range(first_step, settings.num_steps):
        chosen = np.array(list(itertools.islice(starts, settings.batch_size)))
        yield np.asarray(tokens[chosen[:, None] + offsets], dtype=np.int64)


def _window_starts(
    num_tokens: int, context_length: int, generator: np.random.Generator
) -> Iterator[int]:
    """First token of every window, without end."""
    while True:
        room = (num_tokens - 1) % context_length
        offset = int(generator.integers(0, room + 1))
        windows = (num_tokens - 1 - offset) // context_length
        for window in generator.permutation(windows):
            yield offset + int(window) * context_length


def order_fingerprint(corpus: Corpus, settings: ProxySettings) -> str:
    """Hash of every batch in order; equal for any two candidates of a run."""
    digest = hashlib.sha256()
    for batch in training_batches(corpus, settings):
        digest.update(batch.tobytes())
    return digest.hexdigest()[:16]


def validation_windows(corpus: Corpus, settings: ProxySettings) -> Tokens:
    """Held-out windows spread evenly over the held-out text, none overlapping another.

    Returns:
        Shape (windows, context_length + 1); `validation_windows` of them, or as many as fit.
    """
    tokens = corpus.validation_tokens()
    length = settings.context_length + 1
    fitting = len(tokens) // length
    count = min(settings.validation_windows, fitting)
    starts = np.linspace(0, len(tokens) - length, count).round().astype(np.int64)
    return np.asarray(tokens[starts[:, None] + np.arange(length)], dtype=np.int64)
