"""Whether the phone computes what the host computes, told before anything is timed.

Two short runs. The first is without KleidiAI's kernels: what is left rounds activations as the
host does, so that the logits agree to the last digits, and show that the very model ran. The
second is with the kernels that will be timed, which round otherwise: those are held to a loose
bound.

A phone without int8 dot product computes in float32, which the host does with a graph of
`accuracy_level` 1.

NOTE In deep models a sum that the two machines add up in another order now and then falls on the
other side of a rounding to int8, and the layers after it carry that on; so the logits may also be
further apart than the first limit, if they are close on the whole. A wrong model is off by about
as much as the logits themselves.
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
_FLOAT32: Final = 1
_INT8: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the phone's logits are from the host's."""

    largest: float
    """Difference of any logit, without KleidiAI."""
    typical: float
    """Root mean square of the differences over that of the logits, without KleidiAI."""
    kernels: float
    """Likewise, with the kernels that are timed."""
    arithmetic: str
    """`int8` or `float32`: what the phone multiplies activations in."""


HostGraph = Callable[[Path, int], Path]
"""Writes the model with its weights into a folder, for an `accuracy_level`, and says where."""


def check_logits(
    session: Session,
    folder: str,
    host_graph: HostGraph,
    *,
    num_threads: int,
    cpus: tuple[int, ...],
    max_seconds: int,
    limits: Limits,
    host_threads: int,
) -> Agreement:
    """Hold the logits of a model that was placed on the phone against the host's.

    Args:
        session: The phone.
        folder: Of the model, on the phone.
        host_graph: The same model here.
        num_threads: On the phone.
        cpus: On the phone.
        max_seconds: Of a run there.
        limits: How far they may be apart.
        host_threads: Here.

    Raises:
        WrongLogitsError: If they are further apart, or not finite.
        ExportError: If there is no room for the model here.
        PhoneError: If it cannot be run there.
    """
    request = RunRequest(
        stretches=CHECKED,
        num_threads=num_threads,
        cpus=cpus,
        is_plain=True,
        max_seconds=max_seconds,
    )
    with tempfile.TemporaryDirectory(prefix=".check-") as name:
        here = Path(name)
        report = session.run(folder, request, dump=here / "plain")
        session.run(folder, replace(request, is_plain=False), dump=here / "fast")
        plain, fast = (np.fromfile(here / name, dtype=np.float32) for name in ("plain", "fast"))
        level = _INT8 if report.has_dot_product else _FLOAT32
        expected = expected_output(
            host_graph(here, level), CHECKED, capacity=CHECKED_CAPACITY, num_threads=host_threads
        )
    return agreement(plain, fast, expected, is_int8=report.has_dot_product, limits=limits)


def agreement(
    plain: NDArray[Any],
    fast: NDArray[Any],
    expected: NDArray[Any],
    *,
    is_int8: bool,
    limits: Limits,
) -> Agreement:
    """How far logits are apart.

    Args:
        plain: Of the phone, without KleidiAI.
        fast: Of the phone, with what is timed.
        expected: Of the host.
        is_int8: Whether the phone multiplies int8.
        limits: How far they may be apart.

    Raises:
        WrongLogitsError: If they are further apart, of another number, or not finite.
    """
    if not plain.shape == fast.shape == expected.shape:
        raise WrongLogitsError(
            f"The phone gave {plain.size} and {fast.size} logits and this computer {expected.size}. "
            "Run `phonesearch phone clean` and try again."
        )
    size = float(np.sqrt(np.mean(np.square(expected))))
    found = Agreement(
        largest=float(np.abs(plain - expected).max()),
        typical=float(np.sqrt(np.mean(np.square(plain - expected)))) / size,
        kernels=float(np.sqrt(np.mean(np.square(fast - expected)))) / size,
        arithmetic="int8" if is_int8 else "float32",
    )
    is_right = found.largest < limits.logits or found.typical < limits.typical_logits
    if not is_right or not np.isfinite(plain).all():
        raise WrongLogitsError(
            f"The phone computes other logits than this computer: they differ by up to "
            f"{found.largest:.2g} (allowed: {limits.logits:.0e}), {found.typical:.2%} on the whole "
            f"(allowed: {limits.typical_logits:.0%}). Nothing was timed. Set up another ONNX "
            "Runtime with `phonesearch phone setup`, and send us this message."
        )
    if not found.kernels < limits.kernels:
        raise WrongLogitsError(
            f"The phone's fast kernels are {found.kernels:.1%} away from exact logits (allowed: "
            f"{limits.kernels:.0%}); without them it is right. Nothing was timed. Set up another "
            "ONNX Runtime with `phonesearch phone setup`, and send us this message."
        )
    return found
