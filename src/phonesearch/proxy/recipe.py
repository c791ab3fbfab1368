"""What decides a proxy loss, as plain values, to compare losses and to find one again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import torch

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.errors import ProxyError
from phonesearch.proxy.batches import validation_windows
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.settings import ProxySettings

RECIPE_VERSION: Final = 2
"""Raise it when the same settings would train differently."""
_DECIDED_OTHERWISE: Final = (
    "tokens",
    "parameters",
    "horizon_tokens_per_parameter",
    "validation_windows",
    "corpus",
)
"""Fields of a recipe that decide a loss through others alone; see `decides_loss`."""
_NOT_IN_RECIPE: Final = ("data", "data_field", "device", "precision")
"""Settings that do not decide a loss beyond what the recipe says otherwise."""


def recipe(
    corpus: Corpus, settings: ProxySettings, *, device: torch.device, num_windows: int
) -> dict[str, Any]:
    """All that must agree before two proxy losses may be compared. Plain values."""
    fields = {name: value for name, value in asdict(settings).items() if name not in _NOT_IN_RECIPE}
    return {
        **fields,
        "recipe_version": RECIPE_VERSION,
        "smeared_keys": True,
        "scored_windows": num_windows,
        "corpus": corpus.description,
        "corpus_fingerprint": corpus.fingerprint,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(training_precision(settings, device)).removeprefix("torch."),
        "torch": str(torch.__version__),
    }


def decides_loss(
    proxy: Candidate, corpus: Corpus, settings: ProxySettings, *, device: torch.device
) -> dict[str, Any]:
    """All that a proxy's loss depends on and nothing else. Plain values.

    The recipe, less the settings that decide only the proxy's shape, which stands here itself,
    and less what the corpus is called. More windows than fit are as many as fit.
    """
    num_windows = len(validation_windows(corpus, settings))
    fields = recipe(corpus, settings, device=device, num_windows=num_windows)
    for name in _DECIDED_OTHERWISE:
        del fields[name]
    return {**fields, "num_steps": settings.num_steps, "proxy": as_dict(proxy)}


def trunk_identity(
    proxy: Candidate, corpus: Corpus, settings: ProxySettings, *, device: torch.device
) -> str:
    """Hash of all that decides a training, besides how long it is."""
    fields = decides_loss(proxy, corpus, settings, device=device)
    del fields["num_steps"]
    return content_key(fields)


def content_key(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, whatever the order of their names."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def training_device(settings: ProxySettings) -> torch.device:
    """Where the settings' training takes place.

    Raises:
        ProxyError: If there is no such device here.
    """
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ProxyError(
            "`proxy.device` is cuda, but torch finds no CUDA device here. Take `auto` or `cpu`."
        )
    return torch.device("cuda" if there and settings.device != "cpu" else "cpu")


def training_precision(settings: ProxySettings, device: torch.device) -> torch.dtype:
    """Type in which weights are multiplied while training.

    On a CPU, bfloat16 pays only where the processor multiplies it itself: on an AMD EPYC with
    AVX-512 BF16, products of proxies' shapes ran at 120 to 490 GFLOP/s a core against 80 to 115 in
    float32 (torch 2.13, 2026-11-25); without such instructions it is slower.
    """
    if settings.precision != "auto":
        return torch.float32 if settings.precision == "float32" else torch.bfloat16
    return torch.bfloat16 if device.type == "cuda" or _multiplies_bfloat16() else torch.float32


def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it, as far as torch tells."""
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asks)
