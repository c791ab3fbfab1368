"""The table of trained shapes, where this checkout has it: it is not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.quality.shape_table import ShapeTable, read_shape_table

ROOT = Path(__file__).parents[2]
PLACES = (ROOT.parent / "shared", ROOT / "shared")


@pytest.fixture(scope="session")
def table_path() -> Path:
    for place in PLACES:
        path = place / "shape_loss" / "tables.csv"
        if path.is_file():
            return path
    pytest.skip("no shared/shape_loss/tables.csv here")


@pytest.fixture(scope="session")
def table(table_path: Path) -> ShapeTable:
    return read_shape_table(table_path)


@pytest.fixture
def usual() -> Candidate:
    """1.2B parameters without embeddings, all of the usual kind."""
    return Candidate(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=24,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=64,
    )
