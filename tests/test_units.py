from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phonesearch.units import (
    format_bytes,
    format_count,
    format_seconds,
    parse_bytes,
    parse_count,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5B", 1_500_000_000),
        ("350M", 350_000_000),
        ("1_500_000_000", 1_500_000_000),
        ("64k", 64_000),
        (" 2 b ", 2_000_000_000),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "B", "1.5G", "-3M", "1,5B", "0", "nan"])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="got"):
        parse_count(text)


def test_bytes_know_both_kinds_of_prefix() -> None:
    assert parse_bytes("1.5GiB") == 1.5 * 1024**3
    assert parse_bytes("800MB") == 800_000_000


def test_seconds_know_their_units() -> None:
    assert parse_seconds("500ms") == pytest.approx(0.5)
    assert parse_seconds("2min") == pytest.approx(120)


@given(st.integers(min_value=1, max_value=10**13))
def test_a_formatted_count_is_within_its_digits(count: int) -> None:
    assert parse_count(format_count(count).replace(" ", "")) == pytest.approx(count, rel=0.006)


def test_small_and_large_times_read_well() -> None:
    assert "ms" in format_seconds(0.017)
    assert "min" in format_seconds(200)
    assert format_bytes(910_000_000).startswith(("910", "868", "0.91"))
