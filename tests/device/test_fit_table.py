"""Fits from tables in the format in which others keep published speeds."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.device.data import model_shapes
from phonesearch.device.fit_table import fit_table, rows_for_fit
from phonesearch.device.make_profiles import speed_rows
from phonesearch.device.profile import read_profile
from phonesearch.device.speed_table import SpeedFigure, carried_models, read_speed_table
from phonesearch.errors import InvalidFileError, ProfileError

ENGINE = "executorch-xnnpack-4bit"
NAMES = {shape.candidate: name for name, shape in model_shapes().items()}


def figures_of(device: str, engine: str) -> list[SpeedFigure]:
    """The carried rows of a fit, under other ids, as somebody's own table has them."""
    return [
        SpeedFigure(
            id=10_000 + row.id,
            device="my phone",
            soc_id=device,
            processor="CPU",
            engine=engine,
            model_id=NAMES[row.candidate],
            model="",
            quantisation="",
            weight_bits=4,
            block_size=row.block_size,
            prompt_tokens=row.prompt_tokens,
            generate_tokens=row.generate_tokens,
            prefill_tokens_per_s=row.prefill_tokens_per_s,
            decode_tokens_per_s=row.decode_tokens_per_s,
            confidence="A",
            source="me",
            date="2026",
        )
        for row in speed_rows(device, engine)
    ]


@pytest.mark.parametrize(
    ("device", "engine"),
    [
        ("snapdragon8gen3", ENGINE),
        ("tensor_g5", ENGINE),
        ("dimensity8400", "llamacpp-q4_0-4bit"),
        ("snapdragonxelite", "llamacpp-q4_0-4bit"),
    ],
)
def test_the_rows_of_a_shipped_engine_give_its_coefficients(device: str, engine: str) -> None:
    found = fit_table(figures_of(device, engine), carried_models(), device=device, engine=engine)
    shipped = read_profile(device).engines[engine]

    assert found.profile.engines[engine].coefficients == shipped.coefficients
    assert found.profile.engines[engine].decode.median_error == shipped.decode.median_error


def test_a_device_may_be_named_as_people_call_it() -> None:
    figures = [
        replace(figure, soc_id=name, device="")
        for figure, name in zip(
            figures_of("bcm2712", "llamacpp-q4_0-4bit"),
            itertools.cycle(("bcm2712", "Raspberry-Pi-5", "pi5")),
            strict=False,
        )
    ]
    found = fit_table(figures, carried_models(), device="pi5", engine="llamacpp-q4_0-4bit")
    assert found.profile.name == "bcm2712"
    assert "of another device" not in found.skipped


def test_rows_not_taken_are_counted_with_their_reason() -> None:
    figures = figures_of("snapdragon8gen3", ENGINE)
    extra = [
        replace(figures[0], id=1, soc_id="another"),
        replace(figures[0], id=2, engine="MLC-LLM", decode_tokens_per_s=1.5),
        replace(figures[0], id=3, model_id="mystery-7b"),
        replace(figures[0], id=4, decode_tokens_per_s=None, prefill_tokens_per_s=None),
    ]
    found = rows_for_fit(
        [*figures, *extra], carried_models(), device="snapdragon8gen3", engine=ENGINE
    )

    assert len(found.rows) == len(figures)
    assert sum(found.skipped.values()) == len(extra)
    said = "; ".join(found.skipped)
    for reason in ("another device", "another engine", "mystery-7b", "without a speed"):
        assert reason in said


def test_a_row_that_ships_as_left_out_stays_left_out() -> None:
    """SmolLM2-135M on OnePlus 12, whose file is larger than the unquantised one."""
    [first, *_] = figures_of("snapdragon8gen3", ENGINE)
    row = replace(
        first,
        engine="ExecuTorch XNNPACK (react-native-executorch)",
        model_id="smollm2-135m",
        quantisation="XNNPACK quantised build (8da4w expected; not stated on page)",
        prompt_tokens=None,
        generate_tokens=None,
        prefill_tokens_per_s=None,
        decode_tokens_per_s=64.0,
        block_size=32,
    )
    found = rows_for_fit([row], carried_models(), device="snapdragon8gen3", engine=ENGINE)

    assert not found.rows
    assert "evidently not all 4-bit" in next(iter(found.skipped))


def test_a_device_of_ones_own_takes_what_its_rows_lack_from_the_engine_elsewhere() -> None:
    rows = [
        replace(row, soc_id="myphone", prefill_tokens_per_s=None)
        for row in figures_of("tensor_g5", ENGINE)
    ]
    found = fit_table(rows, carried_models(), device="myphone", engine=ENGINE)
    engine = found.profile.engines[ENGINE]

    assert engine.fitted.matmul_ops_per_s.source.startswith("prior: median of the 4 shipped")
    assert engine.prefill.basis == "prior"
    assert engine.decode.basis == "fit"


def test_an_engine_of_ones_own_is_fitted_at_the_width_that_its_name_ends_in() -> None:
    rows = [
        replace(row, soc_id="myphone", engine="mine-16bit")
        for row in figures_of("snapdragon8gen3", "executorch-xnnpack-meta-4bit")
    ]
    found = fit_table(rows, carried_models(), device="myphone", engine="mine-16bit")

    assert found.profile.engines["mine-16bit"].weight_bits == 16


@pytest.mark.parametrize(
    ("device", "engine", "match"),
    [
        ("nophone", ENGINE, "No row of the table is of device 'nophone'"),
        ("snapdragon8gen3", "mlc", "ends in the width of its weights"),
        ("myphone", "mine-4bit", "at least 3 different architectures, got 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(device: str, engine: str, match: str) -> None:
    rows = figures_of("dimensity8400", "llamacpp-q4_0-4bit")
    mine = [replace(row, soc_id="myphone", engine="mine-4bit") for row in rows]

    with pytest.raises(ProfileError, match=match):
        fit_table([*rows, *mine], carried_models(), device=device, engine=engine)


def test_no_prefill_and_no_engine_of_that_name_needs_a_prior() -> None:
    rows = [
        replace(row, soc_id="myphone", engine="mine-4bit", prefill_tokens_per_s=None)
        for row in figures_of("snapdragon8gen3", ENGINE)
    ]

    with pytest.raises(ProfileError, match="No row has a prefill speed"):
        fit_table(rows, carried_models(), device="myphone", engine="mine-4bit")


def test_a_table_without_a_needed_column_is_refused_by_its_name(tmp_path: Path) -> None:
    table = tmp_path / "speeds.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "soc_id"], ["1", "myphone"]])

    with pytest.raises(InvalidFileError, match="decode_tok_s"):
        read_speed_table(table)
