"""What an evaluation is expected to add to the area that a front dominates.

The cheap objective of a point is known, only its costly one is a guess, so the expectation over the
plane is one along a line: the front is a staircase of levels over the cheap axis, and a point of
cheap value t and costly value y gains, over each step from max(t, edge) to the next edge, what its
y is below the level of that step. With y normal, each step has a closed form:

    E[(level - y)+] = sd (z Phi(z) + phi(z)),  z = (level - mean) / sd

Both objectives are minimised here.
Source: the integral of expected improvement over the steps of the front, the special case of
expected hypervolume improvement (Emmerich et al., 2006) in which one objective has no variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Staircase:
    """The front as what is reached at each cheap value, down to a corner."""

    edges: Array
    """Where a step begins, ascending, then the cheap value of the corner, (steps + 1,)."""
    levels: Array
    """The lowest costly value reached over each step; the corner's before the first, (steps,)."""


def staircase(cheap: Array, costly: Array, *, corner: tuple[float, float]) -> Staircase:
    """The front of some points, both objectives minimised.

    Args:
        cheap: Of each point, (points,).
        costly: Of each point, (points,).
        corner: Cheap and costly value beyond which nothing counts.
    """
    edges, levels = [-np.inf], [corner[1]]
    for place in np.lexsort((costly, cheap)):
        if cheap[place] < corner[0] and costly[place] < levels[-1]:
            edges.append(float(cheap[place]))
            levels.append(float(costly[place]))
    return Staircase(edges=np.array([*edges, corner[0]]), levels=np.array(levels))


def area(steps: Staircase) -> float:
    """What the front dominates down to its corner."""
    widths = np.diff(steps.edges[1:])
    return float(widths @ (steps.levels[0] - steps.levels[1:]))


def expected_gain(steps: Staircase, cheap: Array, mean: Array, sd: Array) -> Array:
    """Area that each point is expected to add, (points,).

    Args:
        steps: The front so far.
        cheap: Known value of each point, (points,).
        mean: Expected costly value of each, (points,).
        sd: Standard deviation of that, above zero, (points,).
    """
    gained = np.zeros(len(mean))
    for start in range(0, len(mean), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        begin = np.maximum(steps.edges[None, :-1], cheap[here, None])
        widths = np.clip(steps.edges[None, 1:] - begin, 0.0, None)
        z = (steps.levels[None, :] - mean[here, None]) / sd[here, None]
        below = z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        gained[here] = sd[here] * np.einsum("ps,ps->p", widths, np.maximum(below, 0.0))
    return gained
