"""Models left out of the shipped fits, and those that are in none."""

from __future__ import annotations

import math

import pytest

from phonesearch import catalog
from phonesearch.device.data import published_speeds
from phonesearch.device.fit import PhaseError
from phonesearch.device.held_out import left_out_cases
from phonesearch.device.held_out_models import held_out_decodes
from phonesearch.device.make_profiles import shipped_fit
from phonesearch.device.profile import read_profile
from phonesearch.device.score import score
from phonesearch.device.speed_table import SpeedFigure, carried_models
from phonesearch.device.validate import validate

PREDICTING = [name for name in catalog.names("device_profiles") if name not in ("adb", "host")]


def errors_of(name: str) -> list[tuple[str, str, PhaseError]]:
    return [
        (engine, phase, error)
        for engine in read_profile(name).engines
        for phase, error in (
            ("decode", shipped_fit(name, engine).fit.decode),
            ("prefill", shipped_fit(name, engine).fit.prefill),
        )
        if error is not None and error.log_errors
    ]


@pytest.mark.parametrize("name", PREDICTING)
def test_cases_are_the_errors_of_the_fit_without_the_model(name: str) -> None:
    cases = left_out_cases(read_profile(name))
    lengths = {speed.id: speed.prompt_tokens for speed in published_speeds()}
    for engine, phase, error in errors_of(name):
        own = {case.row: case for case in cases if (case.engine, case.phase) == (engine, phase)}
        wanted = {
            row: log
            for row, log in zip(error.rows, error.log_errors, strict=True)
            if phase == "decode" or lengths[row] is not None
        }
        assert own.keys() == wanted.keys()
        for row, case in own.items():
            ratio = case.measured_tokens_per_s / case.predicted_tokens_per_s
            assert math.log(ratio) == pytest.approx(wanted[row])


@pytest.mark.parametrize("name", PREDICTING)
def test_the_decode_error_of_a_profile_is_that_of_its_cases(name: str) -> None:
    """The profile states it of time, rounded to four digits."""
    profile = read_profile(name)
    cases = left_out_cases(profile)
    for engine_name, engine in profile.engines.items():
        own = [c for c in cases if (c.engine, c.phase) == (engine_name, "decode")]
        if not own:
            assert engine.decode.median_error is None
            continue
        errors = sorted(abs(c.measured_tokens_per_s / c.predicted_tokens_per_s - 1) for c in own)
        middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
        assert engine.decode.median_error == pytest.approx(middle, rel=6e-4)
        assert score(own).models == engine.decode.num_models
        factor = math.exp(engine.decode.interval_log_half_width)
        for case in own:
            predicted = case.predicted_tokens_per_s
            assert case.predicted_low_tokens_per_s == pytest.approx(predicted / factor)
            assert case.predicted_high_tokens_per_s == pytest.approx(predicted * factor)


def test_a_model_left_out_is_predicted_worse_than_one_in_the_fit() -> None:
    """Else the page would show how well a profile fits, not how well it predicts."""
    profile = read_profile("snapdragon8gen3")
    left_out = left_out_cases(profile)
    speeds = {speed.id: speed for speed in published_speeds()}
    figures = [
        SpeedFigure(
            id=case.row,
            device=case.device,
            soc_id=profile.name,
            processor="CPU",
            engine=case.engine,
            model_id=speeds[case.row].model_id,
            model=case.model,
            quantisation="",
            weight_bits=case.weight_bits,
            block_size=speeds[case.row].block_size,
            prompt_tokens=speeds[case.row].prompt_tokens,
            generate_tokens=speeds[case.row].generate_tokens,
            prefill_tokens_per_s=speeds[case.row].prefill_tokens_per_s,
            decode_tokens_per_s=speeds[case.row].decode_tokens_per_s,
            confidence=case.confidence,
            source=case.source,
            date="",
        )
        for case in left_out
        if case.phase == "decode"
    ]
    fitted = validate(profile, figures, carried_models()).cases
    assert {case.exposure for case in fitted} == {"fitted figure"}
    for engine in profile.engines:
        out, within = (
            [abs(c.error) for c in cases if (c.engine, c.phase) == (engine, "decode")]
            for cases in (left_out, fitted)
        )
        assert len(out) == len(within)
        assert sum(out) > sum(within)


def test_phonelm_is_in_no_fit_and_is_predicted_by_every_engine() -> None:
    profile = read_profile("snapdragon8gen3")
    found = held_out_decodes(profile)
    assert [one.engine for one in found] == list(profile.engines)
    for one in found:
        assert one.model == "PhoneLM-1.5B"
        assert one.measured_tokens_per_s == 58.0
        assert one.row not in profile.engines[one.engine].decode.rows
        assert one.predicted_low_tokens_per_s < one.predicted_tokens_per_s
        assert 0 < one.calls_share < 1
        assert one.error == pytest.approx(one.predicted_tokens_per_s / 58.0 - 1)


def test_what_phonelm_would_have_to_stream_follows_from_its_weights() -> None:
    """1 618 593 280 parameters, 99 840 of them in norms: 1 618 493 440 in matrices, the tied
    head among them, at 4 bits and a 32-bit scale each 32: 0.625 bytes."""
    found = held_out_decodes(read_profile("snapdragon8gen3"))[0]
    assert found.needed_bytes_per_s == pytest.approx(1_618_493_440 * 0.625 * 58.0, rel=1e-3)


def test_a_phone_without_a_held_out_model_has_none() -> None:
    assert held_out_decodes(read_profile("tensor_g5")) == ()
