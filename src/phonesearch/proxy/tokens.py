"""A byte-level vocabulary trained on the corpus itself, and text as its tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from phonesearch.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"
"""Token 0; ends every document and stands for no bytes."""
_BATCH_TEXTS = 256
_MOST_VOCABULARY_TEXT = 4 * 1024**2
"""Characters that the vocabulary is trained on; every n-th text, beyond that."""


def train_tokenizer(texts: Sequence[str], *, vocab_size: int) -> Tokenizer:
    """Byte-level BPE of exactly `vocab_size` entries, the same for the same texts.

    Args:
        texts: Training texts; held-out ones must not be among them.
        vocab_size: Entries, end-of-text and the 256 bytes included.

    Raises:
        CorpusError: If the texts are too few to find that many entries in.
    """
    total = sum(len(text) for text in texts)
    stride = max(1, -(-total // _MOST_VOCABULARY_TEXT))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[::stride], trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise CorpusError(
            f"There is too little text ({total:,} characters) to make a vocabulary of "
            f"{vocab_size:,} from: only {tokenizer.get_vocab_size():,} entries repeat in it. "
            "Give more text with --data."
        )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.uint16]:
    """All texts as one row of tokens, each text followed by end-of-text, shape (tokens,)."""
    end = np.array([tokenizer.token_to_id(END_OF_TEXT)], dtype=np.uint16)
    parts = []
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = list(texts[start : start + _BATCH_TEXTS])
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            parts += [np.array(encoding.ids, dtype=np.uint16), end]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)


def token_lengths_bytes(tokenizer: Tokenizer, *, vocab_size: int) -> NDArray[np.uint16]:
    """UTF-8 bytes that each token stands for, shape (vocab_size,); 0 for end-of-text.

    A byte-level vocabulary spells every byte as one character, so these are exact also where a
    token holds half of a character.
    """
    lengths = np.zeros(vocab_size, dtype=np.uint16)
    vocabulary: dict[str, int] = json.loads(tokenizer.to_str())["model"]["vocab"]
    for spelling, token in vocabulary.items():
        lengths[token] = 0 if spelling == END_OF_TEXT else len(spelling)
    return lengths
