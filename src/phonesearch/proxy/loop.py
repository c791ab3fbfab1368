"""The steps of one training: schedule, optimisers, and going on from where one was left.

The learning rate goes up, stays, and comes down over the last share of the steps. Up to there a
training does not know how long it is, so its state at that point, the trunk, is kept apart: a
training of more tokens goes on from it and is, bit for bit, what it would have been from the
start.

Source: warm-up, stable, decay: Hu et al., MiniCPM, arXiv 2404.06395, section 4.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from phonesearch.errors import ProxyDroppedError, ProxyError
from phonesearch.model.decoder import Decoder
from phonesearch.proxy.batches import training_batches
from phonesearch.proxy.checkpoint import Snapshot, forget_snapshot, read_snapshot, write_snapshot
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.direct import DirectGradients
from phonesearch.proxy.muon import StackedMuon
from phonesearch.proxy.recipe import training_precision
from phonesearch.proxy.settings import ProxySettings

CHECKPOINT_INTERVAL_S: Final = 20.0
_CURVE_POINTS: Final = 40
_SMOOTHING: Final = 0.95
_STEPS_BETWEEN_CHECKS: Final = 20
RUNG_SHARES: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of the steps after which somebody may ask whether a training is worth going on with. The
last is where the learning rate comes down."""
_ADAM_BETAS: Final = (0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """Where and how often a training writes down its state."""

    path: Path
    """Its last state; gone when the training is over."""
    trunk_path: Path
    """Its state before the learning rate comes down, from which longer ones can go on."""
    trunk: str
    """What the training is, besides its length; states of any other are not gone on from."""
    interval_s: float = CHECKPOINT_INTERVAL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What somebody outside wants to know of a training, and to tell it."""

    progress: Callable[[int, int], None] | None = None
    """Called after every step with tokens seen and tokens in all."""
    should_stop: Callable[[], bool] | None = None
    """Asked now and then; the training ends with an error when it says yes."""
    is_hopeless: Callable[[int, float], bool] | None = None
    """Asked at each rung with the tokens seen and the smoothed training loss in nats a token; the
    training ends with a `ProxyDroppedError` when it says yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a training went."""

    curve: tuple[tuple[int, float], ...]
    """(tokens seen, smoothed training loss in nats a token), in order."""
    seconds: float
    """Wall time of all steps, those of earlier sittings included."""


def learning_rate_factor(step: int, settings: ProxySettings) -> float:
    """Share of the peak learning rate at a step: linear up, constant, linear down to zero.

    Args:
        step: From 0 to `num_steps` - 1.
        settings: Warm-up and cooldown.
    """
    up = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    return min(1.0, up, _down(step, settings.num_steps, settings))


def _down(step: int, num_steps: int, settings: ProxySettings) -> float:
    return (num_steps - step) / max(1.0, settings.cooldown_share * num_steps)


def steps_before_cooldown(num_steps: int, settings: ProxySettings) -> int:
    """Steps that a training of `num_steps` has in common with every longer one."""
    step = max(0, int(num_steps - max(1.0, settings.cooldown_share * num_steps)) - 1)
    while step < num_steps and _down(step, num_steps, settings) >= 1:
        step += 1
    return step


def optimisers(model: Decoder, settings: ProxySettings) -> tuple[StackedMuon, torch.optim.AdamW]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
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


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """`precision` on a GPU, nothing on a CPU."""
    low = device.type == "cuda" and precision == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)


class _Training:
    """A model on its way, between two steps."""

    def __init__(self, model: Decoder, settings: ProxySettings) -> None:
        self.model = model
        self.settings = settings
        self.device = next(model.parameters()).device
        self.precision = training_precision(settings, self.device)
        self.direct = None
        if self.device.type == "cpu":
            self.direct = DirectGradients(
                model,
                batch_size=settings.batch_size,
                context_length=settings.context_length,
                precision=self.precision,
            )
        self.muon, self.adam = optimisers(model, settings)
        self.step = 0
        self.smoothed = torch.zeros(settings.num_steps, device=self.device)
        self.seconds_before = 0.0
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self._started_s

    def snapshot(self, trunk: str) -> Snapshot:
        return Snapshot(
            trunk=trunk,
            num_steps=self.settings.num_steps,
            step=self.step,
            seconds=self.seconds,
            smoothed=self.smoothed[: self.step].clone(),
            weights=self.model.state_dict(),
            muon=self.muon.averages,
            adam=self.adam.state_dict(),
        )

    def go_on_from(self, snapshot: Snapshot) -> None:
        self.model.load_state_dict(snapshot.weights)
        self.muon.load_averages(snapshot.muon)
        self.adam.load_state_dict(snapshot.adam)
        self.smoothed[: snapshot.step] = snapshot.smoothed
        self.step = snapshot.step
        self.seconds_before = snapshot.seconds

    def learn(self, ids_BL: Tensor) -> None:
        factor = learning_rate_factor(self.step, self.settings)
        self.muon.lr = self.settings.matrix_lr * factor
        self.adam.param_groups[0]["lr"] = self.settings.other_lr * factor
        value = self._gradients(ids_BL)
        self.muon.step()
        self.adam.step()
        if self.step > 0:
            value = self.smoothed[self.step - 1].lerp(value, 1 - _SMOOTHING)
        self.smoothed[self.step] = value
        self.step += 1

    def _gradients(self, ids_BL: Tensor) -> Tensor:
        """Leave gradients in the parameters' `grad`; the loss."""
        if self.direct is not None:
            return self.direct(ids_BL)
        self.muon.zero_grad()
        self.adam.zero_grad()
        with autocast(self.device, self.precision):
            logits_BLV = self.model(ids_BL[:, :-1])
            loss = F.cross_entropy(logits_BLV.flatten(0, 1).float(), ids_BL[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def train_model(
    model: Decoder,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    watch: Watch,
    checkpoints: Checkpoints | None = None,
) -> Course:
    """Train a fresh model in place, or go on with the same training where it was left.

    Args:
        model: With its first weights.
        corpus: Text as tokens.
        settings: The recipe.
        watch: Told of every step, and asked whether to stop.
        checkpoints: Where the state is kept; None keeps none.

    Raises:
        ProxyError: If the loss is not finite, or the training was told to stop.
    """
    training = _Training(model, settings)
    if checkpoints is not None:
        _go_on(training, checkpoints)
    tokens_a_step = settings.batch_size * settings.context_length
    total = settings.num_steps * tokens_a_step
    trunk_step = steps_before_cooldown(settings.num_steps, settings)
    rungs = rung_steps(settings.num_steps)
    written_s = time.monotonic()
    first = training.step
    for step, batch in enumerate(training_batches(corpus, settings, first_step=first), first):
        if checkpoints is not None and step == trunk_step:
            write_snapshot(checkpoints.trunk_path, training.snapshot(checkpoints.trunk))
        training.learn(torch.from_numpy(batch).to(training.device))
        seen = training.step * tokens_a_step
        if step % _STEPS_BETWEEN_CHECKS == 0 or training.step == settings.num_steps:
            if not math.isfinite(float(training.smoothed[step])):
                _forget(checkpoints)
                raise not_finite(training.step, settings)
            if watch.should_stop is not None and watch.should_stop():
                if checkpoints is not None:
                    write_snapshot(checkpoints.path, training.snapshot(checkpoints.trunk))
                raise ProxyError(f"The proxy's training was told to stop after {seen:,} tokens.")
        if (
            watch.is_hopeless is not None
            and training.step in rungs
            and watch.is_hopeless(seen, float(training.smoothed[step]))
        ):
            if checkpoints is not None:
                write_snapshot(checkpoints.path, training.snapshot(checkpoints.trunk))
            raise ProxyDroppedError(f"The training was given up after {seen:,} tokens.")
        if checkpoints is not None and time.monotonic() - written_s >= checkpoints.interval_s:
            write_snapshot(checkpoints.path, training.snapshot(checkpoints.trunk))
            written_s = time.monotonic()
        if watch.progress is not None:
            watch.progress(seen, total)
    return Course(curve=_curve(training.smoothed, tokens_a_step), seconds=training.seconds)


def _go_on(training: _Training, checkpoints: Checkpoints) -> None:
    """Take up the furthest state that is one of this training's own."""
    settings = training.settings
    found = (
        read_snapshot(path, device=training.device)
        for path in (checkpoints.path, checkpoints.trunk_path)
    )
    usable = [
        one
        for one in found
        if one is not None and one.trunk == checkpoints.trunk and _on_the_way(one, settings)
    ]
    if usable:
        training.go_on_from(max(usable, key=lambda one: one.step))


def _on_the_way(snapshot: Snapshot, settings: ProxySettings) -> bool:
    """Whether a training of these settings' length comes through the snapshot."""
    if snapshot.num_steps == settings.num_steps:
        return True
    shortest = min(snapshot.num_steps, settings.num_steps)
    return snapshot.step <= steps_before_cooldown(shortest, settings)


def rung_steps(num_steps: int) -> frozenset[int]:
    """Steps after which a training of so many may be given up; points of its curve, all of them."""
    every = _steps_a_point(num_steps)
    steps = (max(1, round(share * num_steps / every)) * every for share in RUNG_SHARES)
    return frozenset(step for step in steps if step < num_steps)


def _steps_a_point(num_steps: int) -> int:
    return max(1, num_steps // _CURVE_POINTS)


def _curve(smoothed: Tensor, tokens_a_step: int) -> tuple[tuple[int, float], ...]:
    num_steps = len(smoothed)
    every = _steps_a_point(num_steps)
    steps = [step for step in range(1, num_steps + 1) if step % every == 0 or step == num_steps]
    return tuple((step * tokens_a_step, float(smoothed[step - 1])) for step in steps)


def _forget(checkpoints: Checkpoints | None) -> None:
    """A training that diverged would diverge again from where it was left."""
    if checkpoints is not None:
        forget_snapshot(checkpoints.path)
        forget_snapshot(checkpoints.trunk_path)


def not_finite(step: int, settings: ProxySettings) -> ProxyError:
    """The error of a training that diverged, `step` steps in."""
    return ProxyError(
        f"The proxy's training diverged: its loss is not finite by step {step} of "
        f"{settings.num_steps} (matrix_lr {settings.matrix_lr}, other_lr {settings.other_lr}). "
        "The candidate is left out; lower learning rates would have to be used for all."
    )
