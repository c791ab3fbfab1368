"""A search space at one parameter budget: every drawn point solved to a legal candidate.

The axes are crossed, and for each combination the width (`hidden_size`) is solved from the
budget, rounded to an allowed value, and the feed-forward width takes up the rest in steps of
`intermediate_size_multiple_of`. All of it is done at once in numpy, so that what is reachable
is known before the first draw: no rejection loop, and an unreachable budget names the nearest
reachable one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import Counting
from phonesearch.errors import BudgetError, InvalidSpaceError
from phonesearch.space.schema import Axis, SearchSpace, axes

TOLERANCE = 0.01
"""Share of the budget by which a candidate may miss it."""
MAX_COMBINATIONS = 4_000_000
"""Combinations of axes that are solved at once; about 400 bytes each while solving."""
_MAX_HEADS_DEVIATION = 0.25
"""Share by which rounding to whole heads may move `attention_width_ratio`."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """One solution per combination; arrays of equal length."""

    legal: NDArray[np.bool_]
    hidden_size: Ints
    intermediate_size: Ints
    num_attention_heads: Ints
    num_key_value_heads: Ints
    num_parameters: Ints
    ratio_error: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedSpace:
    """The legal points of a space within the tolerance of a budget, one row each."""

    space: SearchSpace
    axes: tuple[Axis, ...]
    target: int
    counting: Counting
    positions: NDArray[np.int32]
    """Shape (points, axes): index into each axis' values."""
    solved: Ints
    """Shape (points, 4): hidden, intermediate, query heads, key/value heads."""
    keys: NDArray[np.int64]
    """Shape (points,): each row of `positions` as one number, ascending."""

    def __len__(self) -> int:
        return len(self.positions)

    def values(self, point: int) -> dict[str, float | int | str | bool]:
        """The drawn values of one point, by axis name."""
        return {
            axis.name: axis.values[position]
            for axis, position in zip(self.axes, self.positions[point], strict=True)
        }

    def candidate(self, point: int) -> Candidate:
        """The architecture of one point."""
        drawn = self.values(point)
        hidden, intermediate, heads, key_value_heads = (int(n) for n in self.solved[point])
        fixed = self.space.fixed
        return Candidate(
            vocab_size=int(drawn["vocab_size"]),
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=int(drawn["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=int(drawn["head_dim"]),
            ffn_type=drawn["ffn_type"],  # type: ignore[arg-type]  # checked by the schema
            hidden_act=drawn["hidden_act"],  # type: ignore[arg-type]
            tie_word_embeddings=bool(drawn["tie_word_embeddings"]),
            rms_norm_eps=fixed.rms_norm_eps,
            rope_theta=fixed.rope_theta,
            max_position_embeddings=fixed.max_position_embeddings,
        )

    def index_of(self, wanted: NDArray[np.int32]) -> int | None:
        """The point at these axis positions; None if it is not a legal one."""
        key = _keys(wanted[None], self.axes)[0]
        place = int(np.searchsorted(self.keys, key))
        return place if place < len(self) and self.keys[place] == key else None

    def distances(self, wanted: NDArray[np.int32]) -> NDArray[np.float32]:
        """How far every point is from the axis positions `wanted`.

        Along an ordered axis its range counts as 1; between names any change counts as 0.5.
        """
        total = np.zeros(len(self), dtype=np.float32)
        for column, axis in enumerate(self.axes):
            difference = np.abs(self.positions[:, column] - wanted[column])
            if axis.ordered:
                total += difference.astype(np.float32) / max(len(axis.values) - 1, 1)
            else:
                total += np.float32(0.5) * (difference != 0)
        return total


@functools.lru_cache(maxsize=4)
def at_budget(
    space: SearchSpace, target: int, *, counting: Counting = "total", tolerance: float = TOLERANCE
) -> BudgetedSpace:
    """All architectures of `space` with `target` parameters, to within `tolerance`.

    Args:
        space: What may be tried.
        target: Parameters.
        counting: Whether embeddings count.
        tolerance: Share of `target`.

    Raises:
        BudgetError: If there is none; names the nearest reachable budget.
        InvalidSpaceError: If the axes cross to more than `MAX_COMBINATIONS`.
    """
    drawn = axes(space)
    crossed, free = drawn[:-1], drawn[-1]  # the activation changes no count
    combinations = int(np.prod([len(axis.values) for axis in drawn]))
    if combinations > MAX_COMBINATIONS:
        sizes = ", ".join(f"{axis.name} {len(axis.values)}" for axis in drawn)
        raise InvalidSpaceError(
            f"Search space {space.name!r} crosses to {combinations:,} combinations, more than "
            f"{MAX_COMBINATIONS:,}. Take a larger `step` or fewer `choices` ({sizes})."
        )
    mesh = np.meshgrid(*[np.arange(len(axis.values)) for axis in crossed], indexing="ij")
    positions = np.stack([part.ravel() for part in mesh], axis=1).astype(np.int32)
    best = _best_width(space, crossed, positions, target, counting)
    error = np.abs(best.num_parameters - target) / target
    found = best.legal & (error <= tolerance)
    if not found.any():
        nearest = None
        if best.legal.any():
            nearest = int(best.num_parameters[np.argmin(np.where(best.legal, error, np.inf))])
        raise BudgetError(target=target, tolerance=tolerance, nearest=nearest, space=space.name)
    found &= _once(space, positions, best, found)
    rows, copies = int(found.sum()), len(free.values)
    solved = np.stack(
        [
            best.hidden_size,
            best.intermediate_size,
            best.num_attention_heads,
            best.num_key_value_heads,
        ],
        axis=1,
    )[found]
    last = np.tile(np.arange(copies, dtype=np.int32), rows)[:, None]
    every = np.hstack([np.repeat(positions[found], copies, axis=0), last])
    return BudgetedSpace(
        space=space,
        axes=drawn,
        target=target,
        counting=counting,
        positions=every,
        solved=np.repeat(solved, copies, axis=0),
        keys=_keys(every, drawn),
    )


def _keys(positions: NDArray[np.int32], along: tuple[Axis, ...]) -> NDArray[np.int64]:
    """Rows of axis positions as numbers in the order of the rows."""
    key = np.zeros(len(positions), dtype=np.int64)
    for column, axis in enumerate(along):
        key = key * len(axis.values) + positions[:, column]
    return key


def _once(
    space: SearchSpace, positions: NDArray[np.int32], best: _Solved, found: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mask that keeps one combination for each architecture: the one nearest to its own ratio.

    Neighbouring ratios and width shares often round to the same widths and heads.
    """
    key = np.stack(
        [
            positions[:, 0],
            positions[:, 2],
            positions[:, 5],
            positions[:, 6],
            positions[:, 7],
            best.hidden_size,
            best.num_attention_heads,
            best.num_key_value_heads,
        ],
        axis=1,
    )
    rows = np.flatnonzero(found)
    order = rows[np.argsort(best.ratio_error[rows], kind="stable")]
    _, first = np.unique(key[order], axis=0, return_index=True)
    keep = np.zeros(len(found), dtype=bool)
    keep[order[first]] = True
    return keep


def _best_width(
    space: SearchSpace,
    crossed: tuple[Axis, ...],
    positions: NDArray[np.int32],
    target: int,
    counting: Counting,
) -> _Solved:
    """For each combination, of the allowed widths beside the exact one, the best.

    Legal before illegal, nearest to the budget (in whole tolerances), then nearest ratio.
    """
    layers, ratio, head_dim, share, group, matrices, tables, vocab = _columns(crossed, positions)
    all_heads = np.isinf(group)
    per_square = layers * (2 * share * (1 + np.where(all_heads, 0.0, 1 / group)) + matrices * ratio)
    counted_tables = tables if counting == "total" else np.zeros_like(tables)
    per_width = counted_tables * vocab + 2 * layers + 1 + np.where(all_heads, 2 * head_dim, 0)
    exact = (np.sqrt(per_width**2 + 4 * per_square * target) - per_width) / (2 * per_square)
    allowed = np.array(space.hidden_size.values)
    nearest = np.searchsorted(allowed, exact)

    best: _Solved | None = None
    best_cost: Floats = np.array([])
    for offset in (-2, -1, 0, 1):
        hidden = allowed[np.clip(nearest + offset, 0, len(allowed) - 1)]
        tried = _at_width(
            space,
            hidden,
            (layers, ratio, head_dim, share, group, matrices, counted_tables, vocab),
            target,
        )
        miss = np.abs(tried.num_parameters - target) / target
        cost = np.floor(miss / TOLERANCE) + tried.ratio_error + np.where(tried.legal, 0, 1e9)
        if best is None:
            best, best_cost = tried, cost
            continue
        better = cost < best_cost
        best_cost = np.where(better, cost, best_cost)
        best = _Solved(
            **{
                field: np.where(better, getattr(tried, field), getattr(best, field))
                for field in _Solved.__slots__
            }
        )
    if best is None:
        raise AssertionError("at least one offset was tried")
    return best


def _columns(crossed: tuple[Axis, ...], positions: NDArray[np.int32]) -> tuple[Floats, ...]:
    """Values of every combination as floats, one array an axis."""
    numbers = {"gated": 3.0, "plain": 2.0, "all": np.inf, True: 1.0, False: 2.0}
    columns = []
    for column, axis in enumerate(crossed):
        named = axis.name in ("ffn_type", "tie_word_embeddings")
        values = np.array(
            [
                numbers[value] if named or isinstance(value, str) else float(value)
                for value in axis.values
            ]
        )
        columns.append(values[positions[:, column]])
    return tuple(columns)


def _at_width(
    space: SearchSpace, hidden: Floats, columns: tuple[Floats, ...], target: int
) -> _Solved:
    """Solve heads and the feed-forward width for a given `hidden_size`.

    The count is that of `candidate.count` (a test holds the two together).
    """
    layers, ratio, head_dim, share, group, matrices, tables, vocab = columns
    all_heads = np.isinf(group)
    unit = np.where(all_heads, 1, group)
    heads = np.maximum(np.rint(share * hidden / (head_dim * unit)), 1) * unit
    key_value_heads = np.where(all_heads, 1, heads / unit)
    attention = layers * hidden * head_dim * 2 * (heads + key_value_heads)
    rest = attention + layers * 2 * hidden + hidden + tables * vocab * hidden
    step = space.intermediate_size_multiple_of
    ratios = space.ffn_ratio.values
    low = np.ceil(ratios[0] * hidden / step - 1e-9) * step
    high = np.floor(ratios[-1] * hidden / step + 1e-9) * step
    width = np.rint((target - rest) / (layers * matrices * hidden) / step) * step
    width = np.clip(width, low, high)
    deviation = np.abs(heads * head_dim / (share * hidden) - 1)
    legal = (
        np.isin(heads, space.num_attention_heads.values)
        & np.isin(key_value_heads, space.num_key_value_heads.values)
        & (deviation <= _MAX_HEADS_DEVIATION)
        & (low <= high)
        & (width >= step)
        & ((group == 1) | (heads > 1))  # one query head has nothing to group
        # transformers has a plain feed-forward network in Arcee only, which wants this
        & ((matrices == 3) | (hidden % heads == 0))
    )
    return _Solved(
        legal=legal,
        hidden_size=hidden.astype(np.int64),
        intermediate_size=width.astype(np.int64),
        num_attention_heads=heads.astype(np.int64),
        num_key_value_heads=key_value_heads.astype(np.int64),
        num_parameters=(rest + layers * matrices * hidden * width).astype(np.int64),
        ratio_error=np.abs(np.log(np.maximum(width, 1) / (ratio * hidden))),
    )
