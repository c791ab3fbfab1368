from __future__ import annotations

import pytest

from phonesearch.cli.trials import ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([1, 0], "0, 1"), ([0, 1, 2, 5, 7, 9, 8], "0 to 2, 5, 7 to 9")],
)
def test_numbers_are_named_by_the_ends_of_their_runs(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
