"""What the fits behind the shipped profiles say of models that were left out of them."""

from __future__ import annotations

import math

from phonesearch.device.data import ModelShape, PublishedSpeed, model_shapes, published_speeds
from phonesearch.device.fit import ASSUMED_GENERATE_TOKENS, ASSUMED_PROMPT_TOKENS, Phase, PhaseError
from phonesearch.device.make_profiles import shipped_fit
from phonesearch.device.profile import DeviceProfile, Engine
from phonesearch.device.score import Case
from phonesearch.device.validate import architecture_of


def left_out_cases(profile: DeviceProfile) -> tuple[Case, ...]:
    """Each figure that a shipped profile was fitted on, predicted by a fit without its model.

    The coefficients of such a fit differ from those shipped; the interval is the shipped one,
    laid around the prediction. A prefill whose prompt has no published length is left out, as
    its time is not known.

    Raises:
        KeyError: If the profile is not a shipped one.
    """
    speeds = {speed.id: speed for speed in published_speeds()}
    shapes = model_shapes()
    cases = []
    for name, engine in profile.engines.items():
        fit = shipped_fit(profile.name, name).fit
        phases: tuple[tuple[Phase, PhaseError | None], ...] = (
            ("decode", fit.decode),
            ("prefill", fit.prefill),
        )
        for phase, error in phases:
            if error is None or not error.log_errors:
                continue  # with one model there is nothing left to fit on
            for row, log_error in zip(error.rows, error.log_errors, strict=True):
                speed = speeds[row]
                shape = shapes[speed.model_id]
                case = _case(
                    speed,
                    shape,
                    phase,
                    engine_name=name,
                    engine=engine,
                    log_error=log_error,
                )
                if case is not None:
                    cases.append(case)
    return tuple(cases)


def _case(
    speed: PublishedSpeed,
    shape: ModelShape,
    phase: Phase,
    *,
    engine_name: str,
    engine: Engine,
    log_error: float,
) -> Case | None:
    """The figure as a case; None for a prefill of unknown length.

    Args:
        speed: The carried row.
        shape: Its model.
        phase: Which of its figures.
        engine_name: Engine of the profile.
        engine: The same.
        log_error: Natural log of predicted over measured time.
    """
    is_decode = phase == "decode"
    measured = speed.decode_tokens_per_s if is_decode else speed.prefill_tokens_per_s
    if measured is None or (not is_decode and speed.prompt_tokens is None):
        return None
    accuracy = engine.decode if is_decode else engine.prefill
    predicted = measured * math.exp(-log_error)
    factor = math.exp(accuracy.interval_log_half_width)
    return Case(
        row=speed.id,
        device=speed.device,
        model=shape.name,
        architecture=architecture_of(shape.candidate),
        processor=engine.processor,
        engine=engine_name,
        weight_bits=engine.weight_bits,
        phase=phase,
        prompt_tokens=speed.prompt_tokens or ASSUMED_PROMPT_TOKENS,
        generate_tokens=speed.generate_tokens or ASSUMED_GENERATE_TOKENS,
        lengths_assumed=is_decode and None in (speed.prompt_tokens, speed.generate_tokens),
        measured_tokens_per_s=measured,
        predicted_tokens_per_s=predicted,
        predicted_low_tokens_per_s=predicted / factor,
        predicted_high_tokens_per_s=predicted * factor,
        exposure="unseen",
        doubt="",
        confidence=speed.confidence,
        source=speed.source,
    )
