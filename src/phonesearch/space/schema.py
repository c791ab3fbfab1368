"""The YAML of a search space: which value each field of a candidate may take.

Three of the axes are relative, because at a fixed budget the width follows from the rest:
heads are drawn as a share of the width, key/value heads as a group size, the feed-forward
width as a ratio. The absolute fields beside them (`hidden_size`, `num_attention_heads`,
`num_key_value_heads`) say which results are allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from phonesearch.candidate.config import Activation, FfnType
from phonesearch.errors import InvalidSpaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Allowed values of a number: `{low, high, step}` or `{choices: [...]}`."""

    low: float | None = None
    high: float | None = None
    step: float = 1
    choices: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        ranged = self.low is not None or self.high is not None
        if ranged == (self.choices is not None):
            raise InvalidSpaceError("give either `low` and `high` (and `step`), or `choices`.")
        if self.choices is not None:
            if not self.choices or min(self.choices) <= 0:
                raise InvalidSpaceError("`choices` must hold at least one number above 0.")
            if len(set(self.choices)) != len(self.choices):
                raise InvalidSpaceError(f"`choices` repeats a value: {list(self.choices)}.")
            return
        if self.low is None or self.high is None:
            raise InvalidSpaceError("`low` and `high` must both be given.")
        if not 0 < self.low <= self.high or not self.step > 0:
            raise InvalidSpaceError(
                f"must hold 0 < `low` <= `high` and `step` > 0, got {self.low}, {self.high}, "
                f"{self.step}."
            )

    @property
    def values(self) -> tuple[float, ...]:
        """All allowed values, ascending."""
        if self.choices is not None:
            return tuple(sorted(self.choices))
        if self.low is None or self.high is None:
            raise AssertionError("checked in __post_init__")
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(round(self.low + position * self.step, 9) for position in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Fields that all candidates of a space share; names as in `Candidate`."""

    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Which decoder-only architectures could be tried. Knows no budget and no device."""

    name: str
    description: str
    num_hidden_layers: Numbers
    hidden_size: Numbers
    """Widths that may come out; solved for the budget, not drawn."""
    head_dim: Numbers
    attention_width_ratio: Numbers
    """Query heads times `head_dim` over `hidden_size`; rounded to whole heads."""
    num_attention_heads: Numbers
    """Query heads that may come out."""
    query_heads_per_key_value_head: tuple[int | Literal["all"], ...]
    """Group sizes: 1 is MHA, more is GQA, `all` is MQA (one key/value head)."""
    num_key_value_heads: Numbers
    """Key/value heads that may come out."""
    ffn_type: tuple[FfnType, ...]
    ffn_ratio: Numbers
    """`intermediate_size` over `hidden_size`."""
    hidden_act: tuple[Activation, ...]
    tie_word_embeddings: tuple[bool, ...]
    vocab_size: Numbers
    intermediate_size_multiple_of: int = 64
    """The feed-forward width takes up the last of the budget in steps of this."""
    fixed: Fixed = Fixed()

    def __post_init__(self) -> None:
        for field in (
            "num_hidden_layers",
            "hidden_size",
            "head_dim",
            "num_attention_heads",
            "num_key_value_heads",
            "vocab_size",
        ):
            fractional = [value for value in getattr(self, field).values if value % 1]
            if fractional:
                raise InvalidSpaceError(f"`{field}` must hold whole numbers, got {fractional[0]}.")
        odd = [value for value in self.head_dim.values if value % 2]
        if odd:
            raise InvalidSpaceError(f"`head_dim` must be even, got {odd[0]:.0f}.")
        for field in (
            "query_heads_per_key_value_head",
            "ffn_type",
            "hidden_act",
            "tie_word_embeddings",
        ):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise InvalidSpaceError(
                    f"`{field}` must list at least one value, each once, got {list(values)}."
                )
        if any(size != "all" and size < 1 for size in self.query_heads_per_key_value_head):
            raise InvalidSpaceError("`query_heads_per_key_value_head` must be 1 or more, or all.")
        if self.intermediate_size_multiple_of < 1:
            raise InvalidSpaceError("`intermediate_size_multiple_of` must be at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One drawn dimension of a space, with its values in order."""

    name: str
    values: tuple[float | int | str | bool, ...]

    @property
    def ordered(self) -> bool:
        """Whether neighbouring values are alike: numbers are, names and flags are not."""
        return not any(isinstance(value, str | bool) for value in self.values)


def axes(space: SearchSpace) -> tuple[Axis, ...]:
    """The drawn dimensions, in a fixed order. `hidden_size` and the rest follow from these."""

    def whole(numbers: Numbers) -> tuple[int, ...]:
        return tuple(int(value) for value in numbers.values)

    groups = tuple(sorted(space.query_heads_per_key_value_head, key=_group_order))
    return (
        Axis(name="num_hidden_layers", values=whole(space.num_hidden_layers)),
        Axis(name="ffn_ratio", values=space.ffn_ratio.values),
        Axis(name="head_dim", values=whole(space.head_dim)),
        Axis(name="attention_width_ratio", values=space.attention_width_ratio.values),
        Axis(name="query_heads_per_key_value_head", values=groups),
        Axis(name="ffn_type", values=space.ffn_type),
        Axis(name="tie_word_embeddings", values=space.tie_word_embeddings),
        Axis(name="vocab_size", values=whole(space.vocab_size)),
        Axis(name="hidden_act", values=space.hidden_act),
    )


def _group_order(size: int | Literal["all"]) -> float:
    return math.inf if size == "all" else float(size)
