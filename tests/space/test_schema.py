from __future__ import annotations

import pytest

from phonesearch.errors import InvalidSpaceError
from phonesearch.space.schema import Numbers


def test_a_range_includes_its_ends() -> None:
    assert Numbers(low=1.0, high=2.0, step=0.25).values == (1.0, 1.25, 1.5, 1.75, 2.0)


def test_choices_are_sorted() -> None:
    assert Numbers(choices=(128, 64)).values == (64, 128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either `low`"),
        ({"low": 1.0, "choices": (1.0,)}, "either `low`"),
        ({"low": 1.0}, "both be given"),
        ({"low": 3.0, "high": 1.0}, "`low` <= `high`"),
        ({"low": 1.0, "high": 2.0, "step": 0.0}, "`step` > 0"),
        ({"choices": ()}, "at least one"),
        ({"choices": (1.0, 1.0)}, "repeats"),
    ],
)
def test_contradictory_numbers_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSpaceError, match=message):
        Numbers(**fields)  # type: ignore[arg-type]
