"""Writes docs/handoff.md: what each export target was really tried with, and what it refuses.

```text
python -m phonesearch.trainer_export.handoff_page --from FILE  # what tests wrote down
python -m phonesearch.trainer_export.handoff_page              # the page
python -m phonesearch.trainer_export.handoff_page --check      # fails if it differs
```

`make handoff` runs the tests that write it down, then the first of these.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from phonesearch.errors import InvalidFileError, PhoneSearchError
from phonesearch.files import read_text, structure, write_json, write_text
from phonesearch.report.markdown import markdown_table
from phonesearch.trainer_export import (
    executorch,
    gguf_names,
    litgpt,
    megatron,
    nanotron,
    torchtitan,
)
from phonesearch.trainer_export.base import TARGETS
from phonesearch.trainer_export.limits import Limit

PAGE: Final = Path("handoff.md")
TRIED: Final = Path("handoff") / "tried.json"
ROUNDING: Final = Path("handoff") / "rounding.json"
ROUNDING_COMMAND: Final = "python benchmarks/int4_quality.py"
WRITTEN: Final[Mapping[str, str]] = {
    "hf": "`config.json`, `generation_config.json`, tokenizer; trained by `run_clm.py`, `Trainer`",
    "litgpt": "`pretrain.yaml`, `model_config.yaml`, tokenizer; `litgpt pretrain`",
    "torchtitan": "`candidate.py`, a model and its trainer config; `torchrun`",
    "megatron": "`model.args`, `train.args` for Megatron-LM's `pretrain_gpt.py`",
    "nanotron": "`nanotron.yaml`, tokenizer; `run_train.py` of its checkout",
    "axolotl": "the folder of `hf` and `axolotl.yaml`",
    "llama-factory": "the folder of `hf`, `train.yaml`, `dataset_info.json`",
    "onnx": "`model.onnx` with int4 weights, `genai_config.json`, tokenizer",
    "executorch": "`model.pte` with 8da4w projections, tokenizer",
    "gguf": "`model.gguf`, Q4_0",
    "gguf-q8_0": "`model.gguf`, Q8_0",
    "gguf-f32": "`model.gguf`, float32",
}
"""What each target is given, and what reads it."""
SHORT_OF: Final[Mapping[str, str]] = {
    "torchtitan": "no training: its attention, FlexAttention, has no backward pass on a CPU",
    "megatron": "Megatron Core read the values, Megatron-LM's own argument parser has not read "
    "either file: it is no package; no training, which needs CUDA",
    "nanotron": "its parser has not read `nanotron.yaml`, which is held against a table of its "
    "fields: the package on PyPI, 0.4, cannot be imported; no training, which needs CUDA",
    "axolotl": "transformers read the model, axolotl has not read `axolotl.yaml`: it pins other "
    "releases of transformers and many more",
    "llama-factory": "transformers read the model, LLaMA-Factory has not read `train.yaml`: it "
    "wants transformers up to 5.6 and a torch for CUDA",
    "executorch": "the Python runtime on a computer, not its runner for Android",
}
"""What was not done with a target, and why."""
_LIMITS: Final[Mapping[str, Sequence[Limit]]] = {
    "litgpt": litgpt.LIMITS,
    "torchtitan": torchtitan.LIMITS,
    "megatron": megatron.LIMITS,
    "nanotron": nanotron.LIMITS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One thing that was done with a target."""

    target: str
    tool: str
    """What read the folder."""
    version: str
    what: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One form of one trained model, and what held-out text costs it."""

    form: str
    runtime: str
    bits_per_byte: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """What `benchmarks/int4_quality.py` wrote down."""

    parameters: int
    tokens: int
    """That the model was trained on."""
    windows: int
    """Held out, of `context_length` tokens."""
    context_length: int
    corpus: str
    command: str
    rows: tuple[Scored, ...]
    """The first is the checkpoint itself."""


def page_text(tried: Sequence[Tried], rounding: Rounding) -> str:
    """The whole page, in Markdown.

    Args:
        tried: What was done; targets without any are said to have none.
        rounding: What the forms of the weights cost.
    """
    return f"""# From a front to a trainer and back to a phone

Made by `make handoff`, which runs the tests named here and writes down what they saw; no figure is
typed by hand.

`phonesearch export RUN --trial N --to TARGET` writes a candidate for a trainer or a runtime. What a
target cannot express is refused by the name of the field, before anything is written. Beside each
config for a trainer lie `TRAINING.md` and `training_recipe.json`: learning rate, batch, warm-up,
tokens and H100 hours for two lengths of training, each value with its source.

`--weights DIR` takes the checkpoint that a trainer left in Hugging Face's form and makes the
package for `onnx` or `gguf` of it.

## Targets

{markdown_table([("target", "what is written"), *_written_rows()])}

## What each was tried with

{_tried_table(tried)}

{_untried(tried)}

## What rounding costs

{_rounding_text(rounding)}

## What they cannot express

{markdown_table([("target", "field", "what it has"), *_limit_rows()])}

`hf`, `axolotl` and `llama-factory` have what a model type of transformers has: `llama` and `arcee`
for gated and plain feed-forward networks, `qwen3` with norms of queries and keys, `qwen2` with
biases before attention alone, `mistral` with a window; a mixture that none has is refused. `onnx`
has all that ONNX Runtime's fused operators run; a head width must be a multiple of 16."""


def _written_rows() -> Iterable[Sequence[str]]:
    for target in TARGETS:
        yield f"`{target}`", WRITTEN.get(target, "")


def _tried_table(tried: Sequence[Tried]) -> str:
    order = list(TARGETS)
    rows = sorted(tried, key=lambda one: order.index(one.target))
    head = ("target", "with", "what was done", "what was seen")
    return markdown_table(
        [head, *((f"`{o.target}`", f"{o.tool} {o.version}", o.what, o.result) for o in rows)]
    )


def _untried(tried: Sequence[Tried]) -> str:
    without = [target for target in TARGETS if target not in {one.target for one in tried}]
    short = {**dict.fromkeys(without, "not tried with anything that reads it"), **SHORT_OF}
    rows = ((f"`{target}`", why) for target, why in short.items())
    table = markdown_table([("target", "not done"), *rows])
    return f"Nothing ran on a phone or a GPU. Besides:\n\n{table}"


def _rounding_text(rounding: Rounding) -> str:
    before = rounding.rows[0].bits_per_byte
    rows = (
        (
            one.form,
            one.runtime,
            f"{one.bits_per_byte:.4f}",
            f"{(one.bits_per_byte / before - 1) * 100:+.2f} %",
        )
        for one in rounding.rows
    )
    return f"""One model of {rounding.parameters:,} parameters, exported for transformers, trained
there on {rounding.tokens:,} tokens of the {rounding.corpus},
brought back with `--weights`; {rounding.windows} held-out windows of {rounding.context_length}
tokens, the same for all. Made by `{rounding.command}`.

{markdown_table([("weights", "run by", "bits per byte", "against the checkpoint"), *rows])}

A model this small has short rows and was trained on little; what a checkpoint of your own loses,
only its own evaluation can tell."""


def _limit_rows() -> Iterable[Sequence[str]]:
    for target, limits in _LIMITS.items():
        for limit in limits:
            yield f"`{target}`", f"`{limit.field}`", limit.rule
    known = " or ".join(
        f"{one.ffn_type} {one.hidden_act}{' with `qk_norm`' if one.qk_norm else ''} (`{one.name}`)"
        for one in gguf_names.ARCHITECTURES
    )
    yield "`gguf`", "`ffn_type`, `hidden_act`, `qk_norm`", known
    yield "`gguf`", "`sliding_window`", "none"
    yield "`executorch`", "`sliding_window`", "none"
    yield "`executorch`", "widths of rows", f"multiples of {executorch.GROUP}"


def read_tried(path: Path) -> tuple[Tried, ...]:
    """What was committed; nothing where there is no such file.

    Raises:
        InvalidFileError: If an entry does not fit.
    """
    if not path.is_file():
        return ()
    return tuple(structure(entry, Tried, path=path) for entry in json.loads(read_text(path)))


def read_rounding(path: Path) -> Rounding:
    """What was committed.

    Raises:
        InvalidFileError: If there is no such file, or it does not fit.
    """
    if not path.is_file():
        raise InvalidFileError(path, [f"is missing; make it with: {ROUNDING_COMMAND}"])
    return structure(json.loads(read_text(path)), Rounding, path=path)


def _take(lines: Path, target: Path) -> None:
    """Keep what tests wrote down, one entry for each thing done, in a fixed order."""
    found = {}
    for line in read_text(lines).splitlines():
        one = structure(json.loads(line), Tried, path=lines)
        found[one.target, one.tool, one.what.partition(" (")[0]] = one
    write_json(target, [asdict(one) for one in sorted(found.values(), key=_place)])


def _place(one: Tried) -> tuple[int, str, str]:
    return list(TARGETS).index(one.target), one.tool, one.what


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with `--check` compare it; exit code."""
    parser = argparse.ArgumentParser(prog="python -m phonesearch.trainer_export.handoff_page")
    parser.add_argument("--from", dest="lines", type=Path, help="what tests wrote down, JSON lines")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="default: docs")
    chosen = parser.parse_args(arguments)
    page = chosen.folder / PAGE
    try:
        if chosen.lines is not None:
            _take(chosen.lines, chosen.folder / TRIED)
        rounding = read_rounding(chosen.folder / ROUNDING)
        text = page_text(read_tried(chosen.folder / TRIED), rounding) + "\n"
    except PhoneSearchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if not chosen.check:
        write_text(page, text)
        sys.stdout.write(f"wrote {page}\n")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{page} is not what this command gives; run it again\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
