"""A profile held against a table: what is compared, what is skipped, what was seen before."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.device.cost import predict
from phonesearch.device.data import PublishedSpeed, model_shapes, published_speeds
from phonesearch.device.fit import ASSUMED_GENERATE_TOKENS, ASSUMED_PROMPT_TOKENS
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.score import Case
from phonesearch.device.speed_table import SpeedFigure, TableModel, carried_models
from phonesearch.device.validate import Validation, architecture_of, validate
from phonesearch.errors import ProfileError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

NAME = "snapdragon8gen3"
ENGINE = "executorch-xnnpack-4bit"
FIGURE = SpeedFigure(
    id=1,
    device="Phone",
    soc_id=NAME,
    processor="CPU",
    engine="ExecuTorch XNNPACK",
    model_id="smollm2-1.7b",
    model="SmolLM2 1.7B",
    quantisation="8da4w",
    weight_bits=4,
    block_size=32,
    prompt_tokens=128,
    generate_tokens=256,
    prefill_tokens_per_s=170.0,
    decode_tokens_per_s=21.0,
    confidence="A",
    source="a table",
    date="2026",
)


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    return read_profile(NAME)


@pytest.fixture(scope="module")
def models() -> dict[str, TableModel]:
    return carried_models()


def fitted_speed(profile: DeviceProfile) -> PublishedSpeed:
    row = profile.engines[ENGINE].decode.rows[0]
    return next(speed for speed in published_speeds() if speed.id == row)


def figure_of(speed: PublishedSpeed, *, row: int) -> SpeedFigure:
    """The carried row as a table of somebody else may give it."""
    return replace(
        FIGURE,
        id=row,
        model_id=speed.model_id,
        block_size=speed.block_size,
        prompt_tokens=speed.prompt_tokens,
        generate_tokens=speed.generate_tokens,
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        decode_tokens_per_s=speed.decode_tokens_per_s,
    )


def decode(found: Validation) -> Case:
    (case,) = (case for case in found.cases if case.phase == "decode")
    return case


def test_both_phases_are_those_that_predict_gives(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    found = validate(profile, [FIGURE], models)

    candidate = models["smollm2-1.7b"].candidate
    assert candidate is not None
    speed = predict(
        build_structure(candidate, GraphSettings()),
        profile,
        engine=ENGINE,
        prompt_tokens=128,
        generate_tokens=256,
    ).speed
    assert [case.phase for case in found.cases] == ["decode", "prefill"]
    for case in found.cases:
        value, low, high = speed.tokens_per_s(case.phase)
        assert case.predicted_tokens_per_s == value
        assert case.predicted_low_tokens_per_s == low
        assert case.predicted_high_tokens_per_s == high
        assert case.measured_tokens_per_s == FIGURE.tokens_per_s(case.phase)
        assert case.error == pytest.approx(value / case.measured_tokens_per_s - 1)
        assert (case.processor, case.engine, case.weight_bits) == ("CPU", ENGINE, 4)
        assert not case.lengths_assumed


def test_wider_weights_are_predicted_with_the_engine_of_that_width(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    narrow = decode(validate(profile, [FIGURE], models))
    wide = decode(validate(profile, [replace(FIGURE, weight_bits=16)], models))
    assert (wide.engine, wide.weight_bits) == ("executorch-xnnpack-16bit", 16)
    assert wide.predicted_tokens_per_s < narrow.predicted_tokens_per_s / 2


def test_lengths_left_out_are_assumed_for_decode_and_leave_prefill_out(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    found = validate(profile, [replace(FIGURE, prompt_tokens=None, generate_tokens=None)], models)
    (case,) = found.cases
    assert case.phase == "decode"
    assert case.lengths_assumed
    assert case.prompt_tokens == ASSUMED_PROMPT_TOKENS
    assert case.generate_tokens == ASSUMED_GENERATE_TOKENS
    assert [(one.what, one.because) for one in found.skipped] == [
        ("prefill", "the length of the prompt is not known")
    ]


def test_what_cannot_be_compared_is_counted_with_its_reason(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    unknown = TableModel(
        model_id="odd", name="Odd", candidate=None, unknown_because="it has convolutions"
    )
    figures = [
        FIGURE,
        replace(FIGURE, id=2, soc_id="a15"),
        replace(FIGURE, id=3, soc_id="a15"),
        replace(FIGURE, id=4, processor="GPU"),
        replace(FIGURE, id=5, weight_bits=None),
        replace(FIGURE, id=6, model_id="odd"),
        replace(FIGURE, id=7, model_id="missing"),
        replace(FIGURE, id=8, generate_tokens=6),
        replace(FIGURE, id=9, decode_tokens_per_s=None),
    ]
    found = validate(profile, figures, models | {"odd": unknown})

    assert found.num_rows == 9
    assert {case.row for case in found.cases} == {1, 8, 9}
    counts = {(one.what, one.because): one.count for one in found.skipped}
    assert counts["row", "of another device"] == 2
    assert counts["row", "model odd: it has convolutions"] == 1
    assert counts["row", "model missing: it is not in the table of models"] == 1
    assert counts["decode", "fewer than 8 tokens were generated"] == 1
    assert counts["decode", "the row has no such rate"] == 1
    assert sum(count for (what, _), count in counts.items() if what == "row") == 6


def test_a_fitted_figure_is_marked_whatever_its_number(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    figure = figure_of(fitted_speed(profile), row=99999)
    case = decode(validate(profile, [figure], models))
    assert case.exposure == "fitted figure"


def test_another_figure_of_a_fitted_model_is_marked_as_that(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    speed = fitted_speed(profile)
    figure = replace(figure_of(speed, row=speed.id), decode_tokens_per_s=1.5)
    case = decode(validate(profile, [figure], models))
    assert case.exposure == "fitted model"


def test_a_renamed_copy_of_a_fitted_model_is_no_unseen_model(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    """A fine-tune has another name and rotary base and the same speed."""
    speed = fitted_speed(profile)
    shape = models[speed.model_id]
    assert shape.candidate is not None
    copy = TableModel(
        model_id="fine-tune",
        name="A fine-tune",
        candidate=replace(shape.candidate, rope_theta=31415.0),
        unknown_because="",
    )
    figure = replace(figure_of(speed, row=1), model_id="fine-tune", decode_tokens_per_s=1.5)
    case = decode(validate(profile, [figure], models | {"fine-tune": copy}))
    assert case.exposure == "fitted model"


def test_a_model_in_no_row_of_the_fit_is_unseen_under_the_number_of_a_fitted_row(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    row = profile.engines[ENGINE].decode.rows[0]
    fitted = {
        architecture_of(model_shapes()[speed.model_id].candidate)
        for speed in published_speeds()
        if speed.id in profile.engines[ENGINE].decode.rows
    }
    candidate = models[FIGURE.model_id].candidate
    assert candidate is not None
    assert architecture_of(candidate) not in fitted
    case = decode(validate(profile, [replace(FIGURE, id=row)], models))
    assert case.exposure == "unseen"


def test_a_profile_of_ones_own_knows_its_rows_by_their_numbers(
    tmp_path: Path, profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    """It was fitted on rows 1 and 2 of the table at hand, not of the package's."""
    engine = profile.engines[ENGINE]
    mine = replace(
        profile,
        engines={ENGINE: replace(engine, decode=replace(engine.decode, rows=(1, 2)))},
        sha256="of another file",
    )
    figures = [
        FIGURE,
        replace(FIGURE, id=2, model_id="phi-3-mini"),
        replace(FIGURE, id=3),
        replace(FIGURE, id=4, model_id="tinyllama-1.1b"),
    ]
    found = validate(mine, figures, models)
    seen = {case.row: case.exposure for case in found.cases if case.phase == "decode"}
    assert seen == {1: "fitted figure", 2: "fitted figure", 3: "fitted model", 4: "unseen"}


def test_a_carried_row_that_is_in_no_fit_says_why(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    speed = next(
        speed
        for speed in published_speeds()
        if speed.soc_id == NAME and speed.engine == ENGINE and speed.left_out_because
    )
    case = decode(validate(profile, [figure_of(speed, row=1)], models))
    assert case.doubt == speed.left_out_because


def test_one_engine_alone_can_be_held_against_the_table(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    figures = [FIGURE, replace(FIGURE, id=2, weight_bits=16)]
    found = validate(profile, figures, models, engine="executorch-xnnpack-16bit")
    assert {case.row for case in found.cases} == {2}
    assert [one.because for one in found.skipped] == [
        f"of engine {ENGINE}, not of executorch-xnnpack-16bit"
    ]


def test_a_table_without_a_row_of_the_device_is_an_error_that_says_why(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    with pytest.raises(ProfileError, match=r"1 rows of another device.*`soc_id` snapdragon8gen3"):
        validate(profile, [replace(FIGURE, soc_id="a15")], models)


def test_an_unknown_engine_and_a_measured_device_are_errors(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    with pytest.raises(ProfileError, match="has no engine 'onnx'"):
        validate(profile, [FIGURE], models, engine="onnx")
    with pytest.raises(ProfileError, match="measured, not predicted"):
        validate(read_profile("host"), [FIGURE], models)


def test_every_predicted_rate_is_finite(
    profile: DeviceProfile, models: dict[str, TableModel]
) -> None:
    figures = [
        replace(FIGURE, id=number, model_id=model_id)
        for number, model_id in enumerate(models, start=1)
    ]
    found = validate(profile, figures, models)
    assert len(found.cases) == 2 * len(models)
    assert all(math.isfinite(case.error) for case in found.cases)
