"""A training written down between two of its steps, to go on from later, bit for bit.

A file holds the name of its format, the SHA-256 of what follows, and what `torch.save` makes of
plain values and tensors; it is read without running any code of the file (`weights_only`). It is
replaced in one step, so that whoever is killed while writing leaves the one before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from phonesearch.files import write_bytes

_FIRST_LINE: Final = b"phonesearch training 1\n"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A training after some of its steps. Tensors may be those of the training itself."""

    trunk: str
    """Stands for all that decides the training besides its length; see `loop.trunk_identity`."""
    num_steps: int
    """Of the whole training that this one is on the way to."""
    step: int
    """Steps that were made."""
    seconds: float
    """Wall time that they took, over all sittings."""
    smoothed: Tensor
    """Smoothed training loss after each step made, nats a token, shape (step,)."""
    weights: dict[str, Tensor]
    """As `state_dict` of the model gives them."""
    muon: list[Tensor]
    """As `StackedMuon.averages` gives them."""
    adam: dict[str, Any]
    """As `state_dict` of AdamW gives them."""


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot so that the file at `path` is the old one or the new one, never half.

    A disk that is full costs the file and not the training: there is a warning.
    """
    stream = io.BytesIO()
    torch.save({name: getattr(snapshot, name) for name in Snapshot.__slots__}, stream)
    content = stream.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    try:
        write_bytes(path, _FIRST_LINE + digest + b"\n" + content)
    except OSError as error:
        _LOGGER.warning("The training's state cannot be written to %s: %s.", path, error)


def read_snapshot(path: Path, *, device: torch.device) -> Snapshot | None:
    """The snapshot at `path`, or None where there is none, or none that is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(_FIRST_LINE) + 65  # the digest in hexadecimal, and a line break
    body = content[head:]
    digest = hashlib.sha256(body).hexdigest().encode()
    if content[:head] != _FIRST_LINE + digest + b"\n":
        _LOGGER.warning("%s is damaged, or of another version; its training starts anew.", path)
        return None
    fields = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return Snapshot(**fields)


def forget_snapshot(path: Path) -> None:
    """Remove the snapshot at `path`, if there is one that can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()
