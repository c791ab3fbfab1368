from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonesearch import files
from phonesearch.candidate.config import candidate_id
from phonesearch.candidate.count import COUNTINGS, num_parameters
from phonesearch.catalog import resolve
from phonesearch.errors import BudgetError, InvalidSpaceError
from phonesearch.space.grid import MAX_COMBINATIONS, TOLERANCE, at_budget
from phonesearch.space.schema import Numbers, SearchSpace


def space(name: str) -> SearchSpace:
    return files.read(resolve(name, "search_spaces"), SearchSpace)


REACH = {"decoder": (60e6, 4.5e9), "phonelm": (120e6, 3e9), "tiny": (60e3, 1.5e6)}


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(REACH)),
    share=st.floats(0, 1),
    counting=st.sampled_from(COUNTINGS),
    seed=st.integers(0, 99),
)
def test_every_point_is_a_legal_candidate_within_the_budget(
    name: str, share: float, counting: str, seed: int
) -> None:
    low, high = REACH[name]
    target = round(low * (high / low) ** share)
    solved = at_budget(space(name), target, counting=counting)  # type: ignore[arg-type]
    drawn = np.random.default_rng(seed).integers(len(solved), size=40)
    for point in drawn:
        candidate = solved.candidate(int(point))  # raises where it is not legal
        count = num_parameters(candidate, counting)  # type: ignore[arg-type]
        assert abs(count / target - 1) <= TOLERANCE
        assert candidate.hidden_size in space(name).hidden_size.values
        assert candidate.num_attention_heads in space(name).num_attention_heads.values
        assert candidate.intermediate_size % space(name).intermediate_size_multiple_of == 0


def test_no_architecture_stands_for_two_points() -> None:
    solved = at_budget(space("tiny"), 300_000)
    ids = {candidate_id(solved.candidate(point)) for point in range(len(solved))}
    assert len(ids) == len(solved)


def test_every_choice_of_the_default_space_can_come_out() -> None:
    solved = at_budget(space("decoder"), 1_500_000_000)
    for column, axis in enumerate(solved.axes):
        reached = {axis.values[position] for position in np.unique(solved.positions[:, column])}
        if axis.name not in ("num_hidden_layers", "ffn_ratio"):
            assert reached == set(axis.values), axis.name


@pytest.mark.parametrize("target", [1_000_000, 10**12])
def test_an_unreachable_budget_names_the_nearest_that_works(target: int) -> None:
    with pytest.raises(BudgetError, match="nearest reachable budget") as caught:
        at_budget(space("decoder"), target)
    nearest = caught.value.nearest
    assert nearest is not None
    assert len(at_budget(space("decoder"), nearest)) > 0


def test_a_space_without_any_architecture_says_so() -> None:
    impossible = replace(
        space("tiny"),
        num_attention_heads=Numbers(choices=(7,)),
        num_key_value_heads=Numbers(choices=(5,)),
    )
    with pytest.raises(BudgetError, match="no combination of its ranges"):
        at_budget(impossible, 300_000)


def test_too_many_combinations_are_refused_with_the_axes() -> None:
    large = replace(space("decoder"), ffn_ratio=Numbers(low=1.0, high=6.0, step=0.001))
    with pytest.raises(InvalidSpaceError, match=rf"more than {MAX_COMBINATIONS:,}.*ffn_ratio"):
        at_budget(large, 1_500_000_000)


def test_the_released_phonelm_shapes_are_near_their_space() -> None:
    """19 x 2560 and 24 x 1024, from the released configurations."""
    for target, layers, width in ((1_618_593_280, 19, 2560), (509_658_112, 24, 1024)):
        solved = at_budget(space("phonelm"), target)
        names = [axis.name for axis in solved.axes]
        axis = solved.axes[names.index("num_hidden_layers")]
        depths = [axis.values[position] for position in solved.positions[:, names.index(axis.name)]]
        found = [w for d, w in zip(depths, solved.solved[:, 0], strict=True) if d == layers]
        assert width in found


def test_a_point_is_found_by_its_axis_positions() -> None:
    tiny_grid = at_budget(space("tiny"), 300_000)
    for point in range(0, len(tiny_grid), max(1, len(tiny_grid) // 50)):
        assert tiny_grid.index_of(tiny_grid.positions[point]) == point
    everywhere = {tuple(row) for row in tiny_grid.positions.tolist()}
    sizes = [len(axis.values) for axis in tiny_grid.axes]
    missing = next(row for row in itertools.product(*map(range, sizes)) if row not in everywhere)
    assert tiny_grid.index_of(np.array(missing, dtype=np.int32)) is None
