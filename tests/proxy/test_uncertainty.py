"""The scatter over seeds that is assumed, against the seeds of the committed study."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from phonesearch.proxy.uncertainty import (
    COPY_GAP_PASSED_NATS,
    SEED_STANDARD_DEVIATION_BITS_PER_BYTE,
    copy_gap_passed_nats,
)

STUDIES = Path(__file__).parents[2] / "docs" / "proxy"
TABLES = ("study.csv", "study-700k.csv")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("longer", ["1", "4"])
def test_the_scatter_over_seeds_is_that_of_the_study(longer: str, table: str) -> None:
    with (STUDIES / table).open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["longer"] == longer]
    seeds: dict[str, list[float]] = {}
    for row in rows:
        seeds.setdefault(row["name"], []).append(float(row["bits_per_byte"]))
    apart = [losses[0] - losses[1] for losses in seeds.values() if len(losses) == 2]
    assert len(apart) == 7
    found = math.sqrt(sum(difference**2 for difference in apart) / len(apart) / 2)
    assert found == pytest.approx(SEED_STANDARD_DEVIATION_BITS_PER_BYTE, rel=0.1)


@pytest.mark.parametrize("table", TABLES)
def test_no_training_long_past_the_transition_is_short_of_the_guard(table: str) -> None:
    with (STUDIES / table).open(encoding="utf-8", newline="") as lines:
        gaps = [
            float(row["copy_gap_nats"]) for row in csv.DictReader(lines) if row["longer"] == "4"
        ]
    assert len(gaps) == 27
    assert COPY_GAP_PASSED_NATS <= min(gaps) < COPY_GAP_PASSED_NATS + 0.02


def test_longer_windows_have_more_to_gain_before_copying_sets_in() -> None:
    assert copy_gap_passed_nats(128) == COPY_GAP_PASSED_NATS
    assert copy_gap_passed_nats(129) == copy_gap_passed_nats(512) == 0.44
