"""Tokenizer files that are copied beside a model, and the special tokens they declare."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from phonesearch.errors import TrainerExportError
from phonesearch.files import read_mapping

VOCABULARY_FILE: Final = "tokenizer.json"
PADDED_TO: Final = 64
"""Rows that embedding tables are padded to, which keeps the head's matrix in whole blocks of 32
weights and of 64 for GPU kernels. Source: padding as in Karpathy's nanoGPT, 50,257 to 50,304."""
OTHER_FILES: Final = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Ids of the tokens that begin, end and pad a sequence, where they are known."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A tokenizer in Hugging Face's files."""

    files: tuple[Path, ...]
    num_ids: int
    """One more than the highest id."""
    special_tokens: SpecialTokens

    @property
    def vocab_size(self) -> int:
        """Rows of an embedding table for it: ids, padded to a whole number of `PADDED_TO`."""
        return -(-self.num_ids // PADDED_TO) * PADDED_TO

    def copy_to(self, folder: Path) -> None:
        """Copy the files as they are."""
        for file in self.files:
            shutil.copyfile(file, folder / file.name)


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a folder, or beside the `tokenizer.json` that `path` names.

    Raises:
        TrainerExportError: If there is no `tokenizer.json`, or it declares a special token
            that has no id.
        InvalidFileError: If a file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    vocabulary = folder / VOCABULARY_FILE
    if not vocabulary.is_file() or (path != folder and path.name != VOCABULARY_FILE):
        raise TrainerExportError(
            f"There is no tokenizer at {path}: a folder with a {VOCABULARY_FILE} is needed, as "
            "`AutoTokenizer.save_pretrained` of transformers writes it."
        )
    ids = _ids(read_mapping(vocabulary))
    others = [folder / name for name in OTHER_FILES if (folder / name).is_file()]
    declared: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            declared |= read_mapping(folder / name)
    return Tokenizer(
        files=(vocabulary, *others),
        num_ids=max(ids.values()) + 1,
        special_tokens=SpecialTokens(
            bos=_special(declared, "bos_token", ids, folder),
            eos=_special(declared, "eos_token", ids, folder),
            pad=_special(declared, "pad_token", ids, folder),
        ),
    )


def _ids(content: Mapping[str, Any]) -> dict[str, int]:
    """Id of every token: those of the model and those added to it."""
    vocabulary = content.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):  # unigram models list (token, score) in order of the id
        ids = {entry[0]: index for index, entry in enumerate(vocabulary)}
    else:
        ids = dict(vocabulary)
    ids |= {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    if not ids:
        raise TrainerExportError(f"The {VOCABULARY_FILE} holds no tokens.")
    return ids


def _special(
    declared: Mapping[str, Any], field: str, ids: Mapping[str, int], folder: Path
) -> int | None:
    token = declared.get(field)
    if isinstance(token, Mapping):
        token = token.get("content")
    if token is None:
        return None
    if token not in ids:
        raise TrainerExportError(
            f"The tokenizer in {folder} declares `{field}` {token!r}, which has no id in "
            f"{VOCABULARY_FILE}."
        )
    return ids[token]
