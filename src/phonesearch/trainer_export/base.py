"""The table of targets, and the one way to write to any of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phonesearch.candidate.config import Candidate
from phonesearch.errors import TrainerExportError
from phonesearch.trainer_export.deployment import Deployment
from phonesearch.trainer_export.executorch import ExecuTorch
from phonesearch.trainer_export.gguf import GGUF_TARGETS
from phonesearch.trainer_export.hf import HuggingFace
from phonesearch.trainer_export.hf_trainers import AXOLOTL_TRAINER, LLAMA_FACTORY_TRAINER
from phonesearch.trainer_export.litgpt import LitGPT
from phonesearch.trainer_export.megatron import Megatron
from phonesearch.trainer_export.nanotron import Nanotron
from phonesearch.trainer_export.request import ExportRequest, TrainerExporter
from phonesearch.trainer_export.tokenizer import read_tokenizer
from phonesearch.trainer_export.torchtitan import TorchTitan

if TYPE_CHECKING:
    from torch import Tensor

TARGETS: Final[dict[str, TrainerExporter]] = {
    "hf": HuggingFace(),
    "onnx": Deployment(),
    "litgpt": LitGPT(),
    "torchtitan": TorchTitan(),
    "megatron": Megatron(),
    "nanotron": Nanotron(),
    "axolotl": AXOLOTL_TRAINER,
    "llama-factory": LLAMA_FACTORY_TRAINER,
    **GGUF_TARGETS,
    "executorch": ExecuTorch(),
}


def export_to(
    target: str,
    candidate: Candidate,
    folder: Path,
    *,
    weights: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    tokenizer: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `candidate` into a new folder, in the words of `target`.

    Everything is refused before the first byte; the files are written beside `folder` and
    appear under its name all at once, so that a crash leaves no half an export there.

    Args:
        target: A key of `TARGETS`.
        candidate: Architecture.
        folder: Does not exist, or is empty.
        weights: Trained weights by Hugging Face name, see `weights_for`. Without them `hf`
            writes none; targets for runtimes write random ones, those for other trainers take
            none.
        seed: Of random weights.
        tokenizer: Folder with a `tokenizer.json`, copied along; its special tokens end a
            generation.
        progress: Called with bytes of weights written and bytes in all.

    Returns:
        `folder`.

    Raises:
        TrainerExportError: If the target is unknown or cannot express the candidate, the
            folder is taken or cannot be written, or the tokenizer does not fit.
        ExportError: If the weights do not fit the candidate, or the disk is too full.
    """
    exporter = TARGETS.get(target)
    if exporter is None:
        raise TrainerExportError(
            f"There is no export target {target!r}; there are {', '.join(TARGETS)}."
        )
    if weights is not None:  # torch takes seconds to import, so an export without goes without
        from phonesearch.model.weights import weights_for

        weights = weights_for(candidate, weights)
    request = ExportRequest(
        candidate=candidate,
        weights=weights,
        seed=seed,
        tokenizer=None if tokenizer is None else read_tokenizer(tokenizer),
        progress=progress,
    )
    if request.tokenizer is not None and request.tokenizer.num_ids > candidate.vocab_size:
        raise TrainerExportError(
            f"`vocab_size` {candidate.vocab_size:,} is too small for the tokenizer {tokenizer}, "
            f"which has ids up to {request.tokenizer.num_ids - 1:,}. Take another tokenizer."
        )
    exporter.check(request)
    folder = folder.absolute()
    try:
        _require_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            partial.chmod(0o755)
            exporter.write(request, partial)
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise TrainerExportError(
            f"The export to {folder} failed: {error.strerror}. Nothing was left there; free "
            "space or choose another folder, and export again."
        ) from error
    return folder


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainerExportError(
            f"{folder} exists and is not an empty folder. An export overwrites nothing: choose "
            "another folder, or remove this one."
        )
