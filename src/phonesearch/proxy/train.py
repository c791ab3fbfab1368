"""Trains the proxy of one candidate and scores it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.errors import ProxyError
from phonesearch.model.decoder import Decoder
from phonesearch.proxy.batches import training_batches, validation_windows
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.muon import StackedMuon
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.score import WindowLosses, window_losses
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.smear import smear_keys
from phonesearch.proxy.uncertainty import COPY_GAP_PASSED_NATS, standard_error

RECIPE_VERSION: Final = 1
"""Raise it when the same settings would train differently."""
_CURVE_POINTS: Final = 40
_SMOOTHING: Final = 0.95
_STEPS_BETWEEN_CHECKS: Final = 20
_ADAM_BETAS: Final = (0.9, 0.95)
_NOT_IN_RECIPE: Final = ("data", "data_field", "device")
"""Settings that do not decide a loss beyond what the recipe says otherwise."""


def train_proxy(
    candidate: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    reference_parameters: int,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ProxyLoss:
    """Validation loss of the candidate's proxy after the settings' training.

    Every candidate sees the same batches in the same order and is scored on the same windows,
    after the learning rate has come down to zero. Muon for the matrices of the blocks, AdamW
    for the rest. float32 on a CPU (bfloat16 took 1.5 to 1.9 times as long at this size),
    bfloat16 autocast on a GPU. The caller chooses the number of threads
    (`torch.set_num_threads`; one is fastest, and makes a CPU training repeatable bit for bit).

    Args:
        candidate: Architecture at full size.
        corpus: Text as tokens.
        settings: The recipe.
        reference_parameters: As in `shrink`; the run's budget.
        progress: Called after every step with tokens seen and tokens in all.
        should_stop: Asked now and then; the training ends with an error when it says yes.

    Raises:
        ProxyError: If the loss is not finite any more, memory runs out, there is no such
            device or proxy, or the training was told to stop.
    """
    started_s = time.monotonic()
    proxy = shrink(candidate, settings, reference_parameters=reference_parameters)
    device = _device(settings)
    try:
        model = Decoder(proxy, seed=settings.seed, device=device, dtype=torch.float32)
        smear_keys(model)
        curve = _train(model, corpus, settings, progress, should_stop)
        with _autocast(device):
            losses = window_losses(
                model, validation_windows(corpus, settings), corpus.token_bytes(), device=device
            )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(proxy) from error
    except RuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        raise _out_of_memory(proxy) from error
    if not np.isfinite(losses.nats).all():
        raise _not_finite(settings.num_steps, settings)
    return _result(proxy, losses, corpus, settings, curve, device, time.monotonic() - started_s)


def _result(
    proxy: Candidate,
    losses: WindowLosses,
    corpus: Corpus,
    settings: ProxySettings,
    curve: tuple[tuple[int, float], ...],
    device: torch.device,
    seconds: float,
) -> ProxyLoss:
    return ProxyLoss(
        bits_per_byte=losses.bits_per_byte,
        standard_error=standard_error(losses),
        passed_transition=losses.copy_gap_nats >= COPY_GAP_PASSED_NATS,
        copy_gap_nats=losses.copy_gap_nats,
        tokens=settings.num_steps * settings.batch_size * settings.context_length,
        seconds=seconds,
        proxy=as_dict(proxy),
        recipe=recipe(corpus, settings, device=device, num_windows=len(losses.num_bytes)),
        curve=curve,
    )


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
        "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
        "torch": str(torch.__version__),
    }


def _device(settings: ProxySettings) -> torch.device:
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ProxyError(
            "`proxy.device` is cuda, but torch finds no CUDA device here. Take `auto` or `cpu`."
        )
    return torch.device("cuda" if there and settings.device != "cpu" else "cpu")


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def learning_rate_factor(step: int, settings: ProxySettings) -> float:
    """Share of the peak learning rate at a step: linear up, constant, linear down to zero.

    Args:
        step: From 0 to `num_steps` - 1.
        settings: Warm-up and cooldown.
    """
    up = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    cooldown_steps = max(1.0, settings.cooldown_share * settings.num_steps)
    return min(1.0, up, (settings.num_steps - step) / cooldown_steps)


def _optimisers(model: Decoder, settings: ProxySettings) -> tuple[StackedMuon, torch.optim.AdamW]:
    blocks = [
        weight
        for name, weight in model.model.layers.named_parameters()
        if weight.dim() == 2 and not name.endswith("mixture")
    ]
    in_blocks = {id(weight) for weight in blocks}
    others = [weight for weight in model.parameters() if id(weight) not in in_blocks]
    muon = StackedMuon(blocks, lr=settings.matrix_lr, weight_decay=settings.weight_decay)
    adam = torch.optim.AdamW(
        others, lr=settings.other_lr, betas=_ADAM_BETAS, weight_decay=0.0, fused=True
    )
    return muon, adam


def _train(
    model: Decoder,
    corpus: Corpus,
    settings: ProxySettings,
    progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[tuple[int, float], ...]:
    """Train in place; (tokens, smoothed loss) along the way."""
    device = next(model.parameters()).device
    muon, adam = _optimisers(model, settings)
    tokens_a_step = settings.batch_size * settings.context_length
    total = settings.num_steps * tokens_a_step
    every = max(1, settings.num_steps // _CURVE_POINTS)
    smoothed, curve = None, []
    for step, batch in enumerate(training_batches(corpus, settings)):
        factor = learning_rate_factor(step, settings)
        muon.lr = settings.matrix_lr * factor
        adam.param_groups[0]["lr"] = settings.other_lr * factor
        ids_BL = torch.from_numpy(batch).to(device)
        with _autocast(device):
            logits_BLV = model(ids_BL[:, :-1])
            loss = F.cross_entropy(logits_BLV.flatten(0, 1).float(), ids_BL[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        muon.step()
        adam.step()
        muon.zero_grad()
        adam.zero_grad()
        value = loss.detach()
        smoothed = value if smoothed is None else smoothed.lerp(value, 1 - _SMOOTHING)
        seen = (step + 1) * tokens_a_step
        last = step + 1 == settings.num_steps
        if (step + 1) % every == 0 or last:
            curve.append((seen, float(smoothed)))
        if step % _STEPS_BETWEEN_CHECKS == 0 or last:
            if not math.isfinite(float(smoothed)):
                raise _not_finite(step + 1, settings)
            if should_stop is not None and should_stop():
                raise ProxyError(f"The proxy's training was told to stop after {seen:,} tokens.")
        if progress is not None:
            progress(seen, total)
    return tuple(curve)


def _not_finite(step: int, settings: ProxySettings) -> ProxyError:
    return ProxyError(
        f"The proxy's training diverged: its loss is not finite by step {step} of "
        f"{settings.num_steps} (matrix_lr {settings.matrix_lr}, other_lr {settings.other_lr}). "
        "The candidate is left out; lower learning rates would have to be used for all."
    )


def _out_of_memory(proxy: Candidate) -> ProxyError:
    return ProxyError(
        f"Memory ran out while training a proxy of {proxy.num_hidden_layers} layers of width "
        f"{proxy.hidden_size}. Use fewer --jobs, fewer --proxy-parameters or a smaller batch."
    )
