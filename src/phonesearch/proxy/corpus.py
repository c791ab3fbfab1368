"""Token files for training and validation, made once from text and kept by their content."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import filelock
import numpy as np
from numpy.typing import NDArray

from phonesearch.errors import CorpusError
from phonesearch.files import write_json
from phonesearch.proxy.hub import hub_text, is_hub_dataset
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.sources import Document, library_documents, user_documents
from phonesearch.proxy.tokens import encode, token_lengths_bytes, train_tokenizer
from phonesearch.units import format_bytes

_FORMAT: Final = 1
"""Part of every fingerprint; raise it when the same text would give other tokens."""
_HELD_OUT_SHARE: Final = 0.05
_FEWEST_DOCUMENTS: Final = 100
"""With fewer, the tail of each document is held out, as whole ones would be too few."""
_MOST_TEXT_BYTES: Final = 256 * 1024**2
"""More text is not read: proxies see some million tokens."""
_MOST_EPOCHS: Final = 4
"""Times that a training may see its text. Source: Muennighoff et al., arXiv 2305.16264: up to
four repetitions cost next to nothing against fresh text."""
LEAST_VALIDATION_WINDOWS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Tokenised text on disk: paths and counts only, so that processes can send it around."""

    folder: Path
    """Holds `train.bin` and `validation.bin` (uint16 tokens), `token_bytes.bin` (uint16, bytes
    of text that each token of the vocabulary stands for) and `tokenizer.json`."""
    fingerprint: str
    """Stands for the text, the vocabulary and how it was split; losses over different
    fingerprints must not be compared."""
    description: str
    """Where the text is from, for people."""
    vocab_size: int
    num_documents: int
    num_train_tokens: int
    num_validation_tokens: int
    train_text_bytes: int
    """UTF-8 bytes of the training text."""
    validation_text_bytes: int
    sha256: dict[str, str]
    """Of each file in `folder`."""

    @property
    def tokenizer_path(self) -> Path:
        """Byte-level BPE in the format of the `tokenizers` library."""
        return self.folder / "tokenizer.json"

    def train_tokens(self) -> NDArray[np.uint16]:
        """Training tokens in order, mapped from disk, shape (num_train_tokens,)."""
        return np.memmap(self.folder / "train.bin", dtype=np.uint16, mode="r")

    def validation_tokens(self) -> NDArray[np.uint16]:
        """Held-out tokens in order, mapped from disk, shape (num_validation_tokens,)."""
        return np.memmap(self.folder / "validation.bin", dtype=np.uint16, mode="r")

    def token_bytes(self) -> NDArray[np.uint16]:
        """Bytes of text of every token id, shape (vocab_size,); 0 for end-of-text."""
        return np.fromfile(self.folder / "token_bytes.bin", dtype=np.uint16)


def load_corpus(
    settings: ProxySettings, *, cache_dir: Path, progress: Callable[[str], None] | None = None
) -> Corpus:
    """Tokenised text of the settings' `data`, from the cache where it is there.

    The text is read and hashed on every call, so that a changed file is another corpus; datasets
    of the Hugging Face hub are streamed to the cache once, see `proxy.hub`. Exact copies of a
    document are dropped. One document in twenty, chosen by a hash of its name, is held out; of
    fewer than 100 documents, the last twentieth of each.

    Args:
        settings: Which text, and how large a vocabulary.
        cache_dir: Where corpora are kept; other processes may use it at the same time.
        progress: Told in a sentence what is being done when it takes long.

    Raises:
        CorpusError: If the text cannot be read, is empty, or is too little for the settings.
    """
    say = progress or (lambda _: None)
    description, documents = _collect(settings, cache_dir, say)
    digest = hashlib.sha256(f"{_FORMAT}:{settings.vocab_size}:".encode())
    for document in documents:
        digest.update(hashlib.sha256(document.name.encode()).digest())
        digest.update(hashlib.sha256(document.text.encode()).digest())
    fingerprint = digest.hexdigest()[:16]
    folder = cache_dir / "corpora" / fingerprint
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):
            corpus = _from_cache(folder)
            if corpus is None:
                size = format_bytes(sum(len(document.text) for document in documents))
                say(f"Tokenising {size} of text: {description}")
                corpus = _build(folder, fingerprint, description, documents, settings)
    except OSError as error:
        raise CorpusError(
            f"The tokenised text cannot be kept in {cache_dir}: {error.strerror or error}. Free "
            "some space, or choose another cache folder."
        ) from error
    refuse_too_little(corpus, settings)
    say(
        f"Corpus: {corpus.description}; {corpus.num_train_tokens:,} training and "
        f"{corpus.num_validation_tokens:,} held-out tokens"
    )
    return corpus


def _collect(
    settings: ProxySettings, cache_dir: Path, say: Callable[[str], None]
) -> tuple[str, list[Document]]:
    """All documents, copies and empty ones dropped, and what they are."""
    if settings.data:
        description, documents = _given(settings, cache_dir, say)
    else:
        description, documents = library_documents()
    kept: list[Document] = []
    seen: set[bytes] = set()
    size_bytes = 0
    for document in documents:
        key = hashlib.sha256(document.text.encode()).digest()
        if key in seen or not document.text.strip():
            continue
        if size_bytes + len(document.text) > _MOST_TEXT_BYTES:
            description += f" (the first {format_bytes(_MOST_TEXT_BYTES)})"
            if not kept:
                kept.append(Document(name=document.name, text=document.text[:_MOST_TEXT_BYTES]))
            break
        seen.add(key)
        size_bytes += len(document.text)
        kept.append(document)
    if not kept:
        raise CorpusError(
            f"There is no text to train proxies on: {', '.join(settings.data)} is empty. Give "
            "other files with --data, or leave it out for the Python library's own sources."
        )
    return description, kept


def _given(
    settings: ProxySettings, cache_dir: Path, say: Callable[[str], None]
) -> tuple[str, Iterator[Document]]:
    """Documents of the files, folders and datasets that were named, in that order."""
    names: list[str] = []
    parts: list[Iterator[Document]] = []
    for given in settings.data:
        if is_hub_dataset(given):
            text, documents = hub_text(
                given,
                settings.data_field,
                most_bytes=_MOST_TEXT_BYTES,
                cache_dir=cache_dir,
                say=say,
            )
            names.append(text.description)
        else:
            documents = user_documents((given,), settings.data_field)
            names.append(given)
        parts.append(documents)
    return f"text of {', '.join(names)}", chain.from_iterable(parts)


def split(documents: list[Document]) -> tuple[list[str], list[str]]:
    """Texts to train on and texts held out; a text, or part of one, is never in both."""
    if len(documents) >= _FEWEST_DOCUMENTS:
        train: list[str] = []
        held_out: list[str] = []
        for document in documents:
            draw = int.from_bytes(hashlib.sha256(document.name.encode()).digest()[:8], "big")
            chosen = draw / 2**64 < _HELD_OUT_SHARE
            (held_out if chosen else train).append(document.text)
        if train and held_out:
            return train, held_out
    cuts = [
        len(document.text) - int(len(document.text) * _HELD_OUT_SHARE) for document in documents
    ]
    heads = [document.text[:cut] for document, cut in zip(documents, cuts, strict=True)]
    tails = [document.text[cut:] for document, cut in zip(documents, cuts, strict=True)]
    return heads, [tail for tail in tails if tail]


def _build(
    folder: Path,
    fingerprint: str,
    description: str,
    documents: list[Document],
    settings: ProxySettings,
) -> Corpus:
    train, held_out = split(documents)
    tokenizer = train_tokenizer(train, vocab_size=settings.vocab_size)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{fingerprint}."))
    try:
        train_tokens = encode(tokenizer, train)
        held_out_tokens = encode(tokenizer, held_out)
        lengths = token_lengths_bytes(tokenizer, vocab_size=settings.vocab_size)
        train_tokens.tofile(temporary / "train.bin")
        held_out_tokens.tofile(temporary / "validation.bin")
        lengths.tofile(temporary / "token_bytes.bin")
        tokenizer.save(str(temporary / "tokenizer.json"))
        corpus = Corpus(
            folder=folder,
            fingerprint=fingerprint,
            description=description,
            vocab_size=settings.vocab_size,
            num_documents=len(documents),
            num_train_tokens=len(train_tokens),
            num_validation_tokens=len(held_out_tokens),
            train_text_bytes=sum(len(text.encode()) for text in train),
            validation_text_bytes=sum(len(text.encode()) for text in held_out),
            sha256={path.name: _sha256(path) for path in sorted(temporary.iterdir())},
        )
        fields = asdict(corpus)
        del fields["folder"]
        write_json(temporary / "corpus.json", fields)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return corpus


def _from_cache(folder: Path) -> Corpus | None:
    """The corpus in `folder`, or None where there is none or a file of it is damaged."""
    try:
        fields = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        corpus = Corpus(folder=folder, **fields)
        intact = all(_sha256(folder / name) == sha for name, sha in corpus.sha256.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return corpus if intact else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def most_tokens(corpus: Corpus) -> int:
    """Tokens of the longest training on a corpus, which sees each of its tokens a few times."""
    return corpus.num_train_tokens * _MOST_EPOCHS


def refuse_too_little(corpus: Corpus, settings: ProxySettings) -> None:
    """Make sure that a corpus is enough for a training.

    Raises:
        CorpusError: If it is not.
    """
    window = settings.context_length + 1
    needed = max(-(-settings.tokens // _MOST_EPOCHS), settings.batch_size * window)
    if corpus.num_train_tokens < needed:
        raise CorpusError(
            f"There is too little text: {corpus.num_train_tokens:,} training tokens from "
            f"{format_bytes(corpus.train_text_bytes)} ({corpus.description}); a training of "
            f"{settings.tokens:,} tokens needs {needed:,}, so that it sees none more than "
            f"{_MOST_EPOCHS} times. Give more text with --data, or fewer --proxy-tokens."
        )
    if corpus.num_validation_tokens < LEAST_VALIDATION_WINDOWS * window:
        raise CorpusError(
            f"There is too little text to score on: {corpus.num_validation_tokens:,} held-out "
            f"tokens ({corpus.description}); {LEAST_VALIDATION_WINDOWS * window:,} are needed. "
            "Give more text with --data."
        )
