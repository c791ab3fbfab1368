"""A dataset of the Hugging Face hub as text on disk: streamed once, and gone on with if stopped.

What is kept is one JSON Lines file, cut at the most text that a corpus reads, and beside it
`source.json`: which commit of the dataset it is from and, until all is there, how far it is. The
file is first written to the disk and then its length to `source.json`, which is replaced whole. So
whatever kills a run, the next one cuts the file to that length, sets the library's iterator to the
state that belongs to it, and ends with the same bytes as if nothing had happened.

The commit is settled when the streaming begins and kept from then on: later runs ask the hub
nothing, and their losses stay comparable when the dataset changes. `@REVISION` asks for another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import filelock

from phonesearch.errors import CorpusError
from phonesearch.files import write_json
from phonesearch.proxy.hub_rows import HubRows, open_rows
from phonesearch.proxy.sources import Document
from phonesearch.units import MIB, format_bytes

_FORMAT: Final = 1
"""Part of every folder's name; raise it when the same dataset would be written otherwise."""
_PREFIX: Final = "hf:"
_FORM: Final = re.compile(
    r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@:\s]+))?"
    r"(:(?P<config>[^:/@\s]*)(:(?P<split>[\w.]+))?)?"
)
"""`@` is where the hub's own paths (hf://datasets/OWNER/NAME@REVISION) have the revision. No
revision may hold a colon (git), nor may a configuration (`INVALID_WINDOWS_CHARACTERS_IN_PATH` of
`datasets`)."""
_CHECKPOINT_BYTES: Final = 4 * MIB
_CHECKPOINT_S: Final = 5.0
_SAY_S: Final = 10.0
_IDENTITY: Final = ("dataset", "commit", "config", "split", "field", "library")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDataset:
    """Which part of which dataset, as asked for."""

    name: str
    """OWNER/NAME."""
    revision: str | None
    """Branch, tag or commit; None is what `main` is when the streaming begins."""
    config: str | None
    """None is the dataset's default one."""
    split: str

    def __str__(self) -> str:
        return f"{_PREFIX}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubText:
    """Text of a dataset on disk, all that is wanted of it or the beginning."""

    dataset: str
    commit: str
    """Of the dataset's repository, in full."""
    config: str
    split: str
    field: str
    library: str
    """Version of `datasets`, whose states of iterators other versions need not understand."""
    num_rows: int = 0
    """Rows of the dataset that were read; those without text are not in the file."""
    num_texts: int = 0
    text_bytes: int = 0
    """UTF-8 bytes of the texts."""
    file_bytes: int = 0
    """Length of the file that belongs to `iterator`; what lies behind is cut off."""
    iterator: dict[str, Any] | None = None
    """Where to go on, in the words of `datasets`."""
    is_whole: bool = False
    """Whether the split ended before the most text was reached."""
    sha256: str | None = None
    """Of the file; None until it is finished."""

    @property
    def description(self) -> str:
        """All that it takes to find the same text again."""
        part = "" if self.is_whole else f", its first {self.num_rows:,} rows"
        return (
            f"{_PREFIX}{self.dataset} (configuration {self.config}, split {self.split}, field "
            f"{self.field}, revision {self.commit}{part})"
        )


def is_hub_dataset(given: str) -> bool:
    """Whether a `--data` names a dataset of the hub, rather than a file or folder."""
    return given.startswith(_PREFIX)


def parse_hub_dataset(given: str) -> HubDataset:
    """What `hf:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]` asks for; the split is `train` if not named.

    Raises:
        CorpusError: If it is not of that form.
    """
    found = _FORM.fullmatch(given)
    if found is None:
        raise CorpusError(
            f"{given!r} names no dataset of the Hugging Face hub. Write hf:OWNER/NAME or, in full, "
            "hf:OWNER/NAME@REVISION:CONFIG:SPLIT, where CONFIG may be empty and SPLIT is one split."
        )
    return HubDataset(
        name=found["name"],
        revision=found["revision"],
        config=found["config"] or None,
        split=found["split"] or "train",
    )


def hub_text(
    given: str,
    field: str,
    *,
    most_bytes: int,
    cache_dir: Path,
    say: Callable[[str], None],
) -> tuple[HubText, Iterator[Document]]:
    """Text of a dataset: what it is, and every text of it in order.

    Args:
        given: `hf:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]`.
        field: Column that holds the text.
        most_bytes: UTF-8 bytes of text after which no more is read.
        cache_dir: Text is kept in `corpora/hub` there, and taken from there without asking the
            hub; other processes may use it at the same time.
        say: Told in a sentence how far it is.

    Raises:
        CorpusError: If there is no such dataset, part or field, it may not be read, the hub cannot
            be reached, the library for it is not installed, or the disk is full.
    """
    dataset = parse_hub_dataset(given)
    asked = [_FORMAT, dataset.revision, dataset.config, dataset.split, field, most_bytes]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    folder = cache_dir / "corpora" / "hub" / f"{dataset.name.replace('/', '--')}-{key}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, dataset, say):
            text = _kept(folder)
            if text is None or text.sha256 is None:
                text = _stream(dataset, field, text, folder, most_bytes=most_bytes, say=say)
    except OSError as error:
        raise CorpusError(
            f"The text of {dataset} cannot be kept in {folder}: {error.strerror or error}. Free "
            "some space, or choose another cache folder; the same command goes on with what is "
            "there."
        ) from error
    return text, _documents(folder / "text.jsonl", text)


def _documents(path: Path, text: HubText) -> Iterator[Document]:
    """Named by their commit, so that a corpus' fingerprint stands for one and the same source."""
    name = f"{_PREFIX}{text.dataset}@{text.commit}"
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield Document(name=f"{name}#{number}", text=json.loads(line)["text"])


@contextmanager
def _alone(folder: Path, dataset: HubDataset, say: Callable[[str], None]) -> Iterator[None]:
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"Waiting for another phonesearch, which is streaming {dataset}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _kept(folder: Path) -> HubText | None:
    """What `folder` holds, put back to its start where the file is damaged; None for nothing."""
    path = folder / "text.jsonl"
    try:
        text = HubText(**json.loads((folder / "source.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    try:
        size_bytes = path.stat().st_size
        intact = text.sha256 == _sha256(path) if text.sha256 else size_bytes >= text.file_bytes
    except OSError:
        intact = False
    return text if intact else _from_start(text)


def _from_start(text: HubText) -> HubText:
    """Nothing of the text yet, but the commit that it is of."""
    return HubText(**{name: getattr(text, name) for name in _IDENTITY})


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stream(
    dataset: HubDataset,
    field: str,
    kept: HubText | None,
    folder: Path,
    *,
    most_bytes: int,
    say: Callable[[str], None],
) -> HubText:
    """The text to its end, from where `kept` is."""
    with open_rows(
        dataset.name,
        revision=kept.commit if kept else dataset.revision,
        config=dataset.config,
        split=dataset.split,
        field=field,
        say=say,
    ) as rows:
        begun = HubText(
            dataset=dataset.name,
            commit=rows.commit,
            config=rows.config,
            split=dataset.split,
            field=field,
            library=rows.library,
        )
        text = kept if kept and kept.library == rows.library else begun
        if text.iterator is None:
            say(
                f"Streaming {dataset} to {folder}, once, up to {format_bytes(most_bytes)} of text: "
                f"configuration {text.config}, split {text.split}, revision {text.commit[:12]}"
            )
        else:
            say(f"Going on with {dataset} after {text.num_rows:,} rows")
            rows.go_on(text.iterator)
        with (folder / "text.jsonl").open("ab") as file:
            file.truncate(text.file_bytes)
            text = _append(text, rows, file, folder, most_bytes=most_bytes, say=say)
    if not text.num_texts:
        raise CorpusError(
            f"Split {text.split!r} of {dataset} holds no text: its {text.num_rows:,} rows have "
            f"none in field {field!r}. Name another split with hf:OWNER/NAME:CONFIG:SPLIT, or "
            "another field with --data-field."
        )
    text = replace(text, iterator=None, sha256=_sha256(folder / "text.jsonl"))
    write_json(folder / "source.json", asdict(text))
    return text


def _append(
    text: HubText,
    rows: HubRows,
    file: BinaryIO,
    folder: Path,
    *,
    most_bytes: int,
    say: Callable[[str], None],
) -> HubText:
    """Write texts as they come; every few MB, and at the end, so that they are safe."""
    num_rows, num_texts, text_bytes = text.num_rows, text.num_texts, text.text_bytes
    file_bytes = text.file_bytes
    safe_bytes, safe_s = file_bytes, time.monotonic()
    said_s = safe_s
    is_whole = True
    for content in rows:
        if content.strip():
            size_bytes = len(content.encode())
            if text_bytes + size_bytes > most_bytes:
                is_whole = False
                if num_texts:
                    break
                content = content.encode()[:most_bytes].decode(errors="ignore")
                size_bytes = len(content.encode())
            line = json.dumps({"text": content}, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            num_texts, text_bytes = num_texts + 1, text_bytes + size_bytes
            file_bytes += len(line)
        num_rows += 1
        if not is_whole:
            break
        now_s = time.monotonic()
        if file_bytes - safe_bytes >= _CHECKPOINT_BYTES or now_s - safe_s >= _CHECKPOINT_S:
            _make_safe(file)
            text = replace(
                text,
                num_rows=num_rows,
                num_texts=num_texts,
                text_bytes=text_bytes,
                file_bytes=file_bytes,
                iterator=rows.state(),
            )
            write_json(folder / "source.json", asdict(text))
            safe_bytes, safe_s = file_bytes, now_s
        if now_s - said_s >= _SAY_S:
            say(f"{format_bytes(text_bytes)} of text from {num_rows:,} rows of hf:{text.dataset}")
            said_s = now_s
    _make_safe(file)
    return replace(
        text,
        num_rows=num_rows,
        num_texts=num_texts,
        text_bytes=text_bytes,
        file_bytes=file_bytes,
        is_whole=is_whole,
    )


def _make_safe(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
