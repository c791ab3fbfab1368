"""A Hugging Face tokenizer as llama.cpp keeps one: in the model file, byte-level BPE only.

Source: `src/llama-vocab.cpp` of llama.cpp 0.5.0-dev (`load` and the regular expressions of
`llm_tokenizer_bpe`); the layout of `tokenizer.json` as huggingface/tokenizers 0.23 writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from phonesearch.errors import TrainerExportError
from phonesearch.files import read_mapping
from phonesearch.trainer_export.tokenizer import SpecialTokens, Tokenizer

NORMAL: Final = 1
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
"""Kinds of tokens. Source: `TokenType` in gguf 0.19."""

_LETTERS_AND_DIGITS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splitting:
    """How a text is cut before merging, and whether whole words skip the merges."""

    steps: tuple[Mapping[str, Any], ...]
    ignore_merges: bool = False


def _pattern(digits: str) -> dict[str, Any]:
    pattern = {"Regex": _LETTERS_AND_DIGITS.format(digits=digits)}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


_BYTES: Final = {"type": "ByteLevel", "add_prefix_space": False}
_SPLITTINGS: Final[Mapping[str, _Splitting]] = {
    "gpt-2": _Splitting(steps=({**_BYTES, "use_regex": True},)),
    "smollm": _Splitting(
        steps=({"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True})
    ),
    "qwen2": _Splitting(steps=(_pattern(""), {**_BYTES, "use_regex": False})),
    "llama-bpe": _Splitting(
        steps=(_pattern("{1,3}"), {**_BYTES, "use_regex": False}), ignore_merges=True
    ),
}
"""`tokenizer.ggml.pre` to the `pre_tokenizer` that it is."""
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "dropout": (None, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (False, None),
    "byte_fallback": (False, None),
}
"""Fields of the model that llama.cpp does not have, and what they must be for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What the file says of a tokenizer."""

    pre: str
    """Name of how a text is cut before merging."""
    tokens: tuple[str, ...]
    """By id, one for every row of the table."""
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    """In order of rank, the two parts with a space between."""
    special_tokens: SpecialTokens
    add_bos: bool
    """Whether a text begins with the token for that."""
    add_eos: bool


def read_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """The tokenizer as llama.cpp would keep it.

    Raises:
        TrainerExportError: If llama.cpp would cut or merge a text differently; names the field.
    """
    content = read_mapping(tokenizer.files[0])
    model = content.get("model") or {}
    if model.get("type") != "BPE":
        raise _refusal(f"`model` of type {model.get('type')!r}", "byte-level BPE")
    for field, allowed in _NEUTRAL.items():
        if model.get(field) not in allowed:
            raise _refusal(f"`{field}` {model[field]!r}", "none")
    if content.get("normalizer") is not None:
        raise _refusal(f"`normalizer` {content['normalizer'].get('type')!r}", "none")
    if tokenizer.special_tokens.eos is None:
        raise TrainerExportError(
            "The tokenizer declares no `eos_token`, and llama.cpp would take id 11 for it. "
            "Declare one in tokenizer_config.json, or export without the tokenizer."
        )
    add_bos, add_eos = _additions(content.get("post_processor"), tokenizer.special_tokens)
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    kinds = [UNUSED] * vocab_size
    for token, index in model["vocab"].items():
        tokens[index], kinds[index] = token, NORMAL
    for added in content.get("added_tokens") or ():
        for field in ("lstrip", "rstrip", "single_word"):
            if added.get(field):
                raise _refusal(f"`{field}` on {added['content']!r}", "none")
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added.get("special") else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or ()]
    if not merges:
        raise _refusal("empty `merges`", "one at least")
    return Vocabulary(
        pre=_pre(content.get("pre_tokenizer"), bool(model.get("ignore_merges"))),
        tokens=tuple(tokens),
        kinds=tuple(kinds),
        merges=tuple(merges),
        special_tokens=tokenizer.special_tokens,
        add_bos=add_bos,
        add_eos=add_eos,
    )


def _pre(pre_tokenizer: Mapping[str, Any] | None, ignore_merges: bool) -> str:
    steps = [] if pre_tokenizer is None else [pre_tokenizer]
    if pre_tokenizer is not None and pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer["pretokenizers"]
    # Offsets do not change which tokens come out.
    found = tuple({k: v for k, v in step.items() if k != "trim_offsets"} for step in steps)
    for name, splitting in _SPLITTINGS.items():
        if found == splitting.steps and ignore_merges == splitting.ignore_merges:
            return name
    kinds = ", ".join(str(step.get("type")) for step in found) or "none"
    raise _refusal(
        f"`pre_tokenizer` ({kinds}) with `ignore_merges` {ignore_merges}",
        f"those of {', '.join(_SPLITTINGS)}, to the letter",
    )


def _additions(
    post_processor: Mapping[str, Any] | None, special: SpecialTokens
) -> tuple[bool, bool]:
    """Whether a text is given a first and a last token."""
    steps = [post_processor] if post_processor else []
    if post_processor and post_processor.get("type") == "Sequence":
        steps = post_processor["processors"]
    steps = [step for step in steps if step.get("type") != "ByteLevel"]  # moves offsets only
    if not steps:
        return False, False
    if len(steps) == 1 and steps[0].get("type") == "TemplateProcessing":
        ids = {name: t["ids"] for name, t in (steps[0].get("special_tokens") or {}).items()}
        around: list[list[int]] = [[], []]
        place = 0
        for part in steps[0]["single"]:
            if "Sequence" in part:
                place = 1
            else:
                around[place] += ids[part["SpecialToken"]["id"]]
        first, last = around
        if first in ([], [special.bos]) and last in ([], [special.eos]):
            return bool(first), bool(last)
    kinds = ", ".join(str(step.get("type")) for step in steps)
    raise _refusal(f"`post_processor` ({kinds})", "one that adds `bos_token` or `eos_token`")


def _refusal(got: str, needed: str) -> TrainerExportError:
    return TrainerExportError(
        f"llama.cpp cannot express the tokenizer's {got}; it must be {needed}. Take another "
        "tokenizer, or export without one."
    )
