"""Whether the phone computes what the host computes, told before anything is timed.

Two short runs. The first is of the same weights with activations kept in float32
(`accuracy_level` 1): phone and host then agree to the last digits, so that any other model,
weights or structure would show. The second is of the graph as it is timed, whose kernels round
activations to int8, each kind of machine in its own way: that is held to a loose bound.

NOTE Comparing int8 runs with each other would show less. Under emulation, with kernels that round
as the host's do, logits of two layers agreed within 1e-6; but those of 11 layers were 2 % apart, as
far as int8 is from float32 itself: one sum that falls on the other side of a rounding is carried on
by all layers after it. Float32 agreed within 1e-5 up to 48 layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from phonesearch.errors import WrongLogitsError
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.judge import Limits
from phonesearch.phone.pushed import RunRequest
from phonesearch.phone.session import Session
from phonesearch.timing.exchange import Stretch

CHECKED: Final = (
    Stretch(new_tokens=16, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=16, steps=4),
)
"""What is run: a prompt, and a few steps behind it."""
CHECKED_CAPACITY: Final = 20
_GRAPH: Final = "check.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the phone's logits are from the host's."""

    largest: float
    """Difference of any logit in float32."""
    kernels: float
    """Of what is timed from exact logits: root mean square of the differences over that of the
    logits."""


HostGraph = Callable[[Path], Path]
"""Writes the model with its weights and `accuracy_level` 1 into a folder, and says where."""


def check_logits(
    session: Session,
    folder: str,
    host_graph: HostGraph,
    *,
    request: RunRequest,
    limits: Limits,
    host_threads: int,
) -> Agreement:
    """Hold the logits of a model that was placed on the phone against the host's.

    Args:
        session: The phone.
        folder: Of the model, on the phone.
        host_graph: The same model here.
        request: Whose cores, threads and time limit are those of the phone.
        limits: How far logits may be apart.
        host_threads: Here.

    Raises:
        WrongLogitsError: If they are further apart, or not finite.
        ExportError: If there is no room for the model here.
        PhoneError: If it cannot be run there.
    """
    request = replace(request, stretches=CHECKED, warmup_rounds=0, rounds=1)
    with tempfile.TemporaryDirectory(prefix=".check-") as name:
        here = Path(name)
        graph = host_graph(here)
        session.add(folder, graph, _GRAPH)
        exact = replace(request, is_plain=True)
        session.run(folder, exact, graph=_GRAPH, dump=here / "exact")
        session.run(folder, request, dump=here / "timed")
        expected = expected_output(
            graph, CHECKED, capacity=CHECKED_CAPACITY, num_threads=host_threads
        )
        return agreement(_read(here / "exact"), _read(here / "timed"), expected, limits=limits)


def _read(path: Path) -> NDArray[np.float32]:
    return np.fromfile(path, dtype=np.float32)


def agreement(
    exact: NDArray[Any], timed: NDArray[Any], expected: NDArray[Any], *, limits: Limits
) -> Agreement:
    """How far logits are apart.

    Args:
        exact: Of the phone, in float32.
        timed: Of the phone, with the kernels that are timed.
        expected: Of the host, in float32.
        limits: How far they may be apart.

    Raises:
        WrongLogitsError: If they are further apart, of another number, or not finite.
    """
    if not exact.shape == timed.shape == expected.shape:
        raise WrongLogitsError(
            f"The phone gave {exact.size} and {timed.size} logits and this computer "
            f"{expected.size}. Run `phonesearch phone clean` and try again."
        )
    size = float(np.sqrt(np.mean(np.square(expected))))
    found = Agreement(
        largest=float(np.abs(exact - expected).max()),
        kernels=float(np.sqrt(np.mean(np.square(timed - expected)))) / size,
    )
    if not found.largest < limits.logits:  # nor if it is not a number
        raise WrongLogitsError(
            f"The phone computes other logits than this computer: in float32 they differ by up to "
            f"{found.largest:.2g} (allowed: {limits.logits:.0e}). Nothing was timed. Set up "
            "another ONNX Runtime with `phonesearch phone setup`, and send us this message."
        )
    if not found.kernels < limits.kernels:
        raise WrongLogitsError(
            f"The phone's fast kernels are {found.kernels:.1%} away from exact logits (allowed: "
            f"{limits.kernels:.0%}); in float32 it is right. Nothing was timed. Set up another "
            "ONNX Runtime with `phonesearch phone setup`, and send us this message."
        )
    return found
