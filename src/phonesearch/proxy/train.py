"""Trains the proxy of one candidate and scores it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.errors import ProxyError
from phonesearch.model.decoder import Decoder
from phonesearch.proxy.batches import validation_windows
from phonesearch.proxy.checkpoint import forget_snapshot
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import (
    CHECKPOINT_INTERVAL_S,
    Checkpoints,
    Watch,
    autocast,
    not_finite,
    train_model,
)
from phonesearch.proxy.paired import bits_per_byte
from phonesearch.proxy.recipe import recipe, training_device, training_precision, trunk_identity
from phonesearch.proxy.result import ProxyLoss, TrainedProxy, WindowSums
from phonesearch.proxy.score import window_losses
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.smear import smear_keys
from phonesearch.proxy.uncertainty import copy_gap_passed_nats, standard_error


def train_proxy(
    candidate: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    reference_parameters: int,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
    keep_trunk: bool = False,
) -> ProxyLoss:
    """Validation loss of the candidate's proxy after the settings' training.

    See `train_shrunk`, which this calls with the candidate's proxy.

    Args:
        candidate: Architecture at full size.
        corpus: Text as tokens.
        settings: The recipe.
        reference_parameters: As in `shrink`; the run's budget.
        progress: Called after every step with tokens seen and tokens in all.
        should_stop: Asked now and then; the training ends with an error when it says yes.
        checkpoint: As in `train_shrunk`.
        checkpoint_interval_s: As in `train_shrunk`.
        keep_trunk: As in `train_shrunk`.

    Raises:
        ProxyError: As `train_shrunk`, or if there is no such proxy.
    """
    return train_shrunk(
        shrink(candidate, settings, reference_parameters=reference_parameters),
        corpus,
        settings,
        watch=Watch(progress=progress, should_stop=should_stop),
        checkpoint=checkpoint,
        checkpoint_interval_s=checkpoint_interval_s,
        keep_trunk=keep_trunk,
    ).loss


def train_shrunk(
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
    keep_trunk: bool = False,
) -> TrainedProxy:
    """Loss of an architecture that is small already, whatever size the settings ask for.

    Every proxy sees the same batches in the same order and is scored on the same windows, after
    the learning rate has come down to zero. Muon for the matrices of the blocks, AdamW for the
    rest. Products in the settings' precision, on a CPU in `proxy.direct`; scored in float32 on a
    CPU. The caller chooses the number of threads
    (`torch.set_num_threads`; one is fastest, and makes a CPU training repeatable bit for bit).

    With a checkpoint, a training that was stopped or killed goes on where it was last written
    down, and ends with the loss, curve and window losses of one that never was (bit for bit, on
    a CPU with one thread). It goes on likewise from the trunk of a training of the same proxy
    with fewer tokens, which is why a proxy is extended by its own shape and not by its candidate:
    `shrink` gives another shape for more tokens.

    Args:
        proxy: Architecture to train, as `shrink` gives it.
        corpus: Text as tokens.
        settings: The recipe.
        watch: Told of every step, and asked whether to stop.
        checkpoint: File to keep the state of the training in, gone when it is over; its trunk is
            in a file of that name and `.trunk`. One of another training is written over.
        checkpoint_interval_s: Seconds between two states; the last is also written when told to
            stop.
        keep_trunk: Leave the trunk there at the end, for a training of more tokens.

    Raises:
        ProxyError: If the loss is not finite any more, memory runs out, there is no such device,
            or the training was told to stop.
    """
    started_s = time.monotonic()
    device = training_device(settings)
    checkpoints = None
    if checkpoint is not None:
        checkpoints = Checkpoints(
            path=checkpoint,
            trunk_path=trunk_path(checkpoint),
            trunk=trunk_identity(proxy, corpus, settings, device=device),
            interval_s=checkpoint_interval_s,
        )
    try:
        model = Decoder(proxy, seed=settings.seed, device=device, dtype=torch.float32)
        smear_keys(model)
        before_s = time.monotonic() - started_s
        course = train_model(
            model, corpus, settings, watch=watch or Watch(), checkpoints=checkpoints
        )
        scoring_s = time.monotonic()
        with autocast(device, training_precision(settings, device)):
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
        raise not_finite(settings.num_steps, settings)
    if checkpoint is not None:
        forget_snapshot(checkpoint)
        if not keep_trunk:
            forget_snapshot(trunk_path(checkpoint))
    outcome = Outcome(
        windows=losses.sums,
        copy_gap_nats=losses.copy_gap_nats,
        seconds=before_s + course.seconds + time.monotonic() - scoring_s,
        curve=course.curve,
    )
    return outcome_as_proxy(outcome, proxy, corpus, settings, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What only training can tell; the rest of a result follows from it and the settings."""

    windows: WindowSums
    copy_gap_nats: float
    """As in `ProxyLoss`."""
    seconds: float
    """As in `ProxyLoss`."""
    curve: tuple[tuple[int, float], ...]
    """As in `ProxyLoss`."""


def outcome_as_proxy(
    outcome: Outcome,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    device: torch.device,
    from_cache: bool = False,
) -> TrainedProxy:
    """The result of a training, judged by what is known today of errors and of the guard."""
    loss = ProxyLoss(
        bits_per_byte=bits_per_byte(outcome.windows),
        standard_error=standard_error(outcome.windows),
        passed_transition=outcome.copy_gap_nats >= copy_gap_passed_nats(settings.context_length),
        copy_gap_nats=outcome.copy_gap_nats,
        tokens=settings.num_steps * settings.batch_size * settings.context_length,
        seconds=outcome.seconds,
        proxy=as_dict(proxy),
        recipe=recipe(corpus, settings, device=device, num_windows=len(outcome.windows.num_bytes)),
        curve=outcome.curve,
        from_cache=from_cache,
    )
    return TrainedProxy(loss=loss, windows=outcome.windows)


def trunk_path(checkpoint: Path) -> Path:
    """Where the trunk of a training with that checkpoint is kept."""
    return checkpoint.with_name(f"{checkpoint.name}.trunk")


def _out_of_memory(proxy: Candidate) -> ProxyError:
    return ProxyError(
        f"Memory ran out while training a proxy of {proxy.num_hidden_layers} layers of width "
        f"{proxy.hidden_size}. Use fewer --jobs, fewer --proxy-parameters or a smaller batch."
    )
