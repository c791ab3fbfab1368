"""The recipe of a random export, followed by a plain interpreter, gives the file of `export`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.onnx_export.recipe import Parts, RecipeModel, write_recipe
from phonesearch.onnx_export.settings import GraphSettings, WeightBits
from phonesearch.onnx_export.write import export


def follow(model: RecipeModel) -> bytes:
    """What the recipe makes, as its documentation says."""

    def part(name: str) -> bytes:
        (path,) = [path for path in model.parts if path.name == name]
        return path.read_bytes()

    def number(bits: str) -> np.float32:
        return np.uint32(int(bits, 16)).view(np.float32)

    made = b""
    for line in model.recipe_path.read_text(encoding="ascii").splitlines():
        verb, *words = line.split()
        if verb == "zero":
            made += bytes(int(words[0]))
        elif verb == "fill":
            made += np.full(int(words[1]), number(words[0])).tobytes()
        elif verb == "file":
            made += part(words[0])
        elif verb == "cycle":
            pool = np.frombuffer(part(words[0]), dtype=np.uint8)
            start, length = map(int, words[1:])
            made += np.resize(np.roll(pool, -start), length).tobytes()
        else:
            assert verb == "scale"
            floats = np.frombuffer(part(words[0]), dtype=np.float32)
            scaled = (np.roll(floats, -int(words[1])) + number(words[3])) / number(words[4])
            made += np.resize(scaled, int(words[2])).tobytes()
    return made


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_recipe_makes_the_file_that_an_export_writes(
    variant: Candidate, bits: WeightBits, parts: Parts, tmp_path: Path
) -> None:
    settings = GraphSettings(weight_bits=bits)
    exported = export(variant, tmp_path / "whole", settings, seed=3)
    model = write_recipe(variant, tmp_path / "recipe", settings, parts=parts, seed=3)
    assert model.path.read_bytes() == exported.path.read_bytes()
    assert model.sha256 == exported.sha256
    made = follow(model)
    assert made == exported.data_path.read_bytes()
    assert len(made) == model.data_bytes


def test_a_recipe_goes_round_its_pools(tiny: Candidate, parts: Parts, tmp_path: Path) -> None:
    """A table of 90 MB is longer than the 32 MiB of levels and the 4 MiB of scales."""
    wide = replace(tiny, vocab_size=300_000, hidden_size=512)
    exported = export(wide, tmp_path / "whole", GraphSettings())
    model = write_recipe(wide, tmp_path / "recipe", GraphSettings(), parts=parts)
    assert follow(model) == exported.data_path.read_bytes()
    assert model.recipe_path.stat().st_size < 10_000


def test_parts_are_named_by_their_content_and_shared(
    tiny: Candidate, parts: Parts, tmp_path: Path
) -> None:
    first = write_recipe(tiny, tmp_path / "a", GraphSettings(), parts=parts)
    deeper = replace(tiny, num_hidden_layers=5)
    second = write_recipe(deeper, tmp_path / "b", GraphSettings(), parts=parts)
    assert first.parts == second.parts
    for path in first.parts:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_part_that_went_missing_is_made_again(tiny: Candidate, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    before = write_recipe(tiny, tmp_path / "a", GraphSettings(), parts=parts)
    for path in before.parts:
        path.unlink()
    after = write_recipe(tiny, tmp_path / "a", GraphSettings(), parts=parts)
    assert all(path.is_file() for path in after.parts)


def test_a_portable_graph_has_no_recipe(tiny: Candidate, tmp_path: Path) -> None:
    settings = GraphSettings(form="portable", weight_bits=32)
    with pytest.raises(ExportError, match="deployment"):
        write_recipe(tiny, tmp_path, settings, parts=Parts(tmp_path))
