from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.device.profile import read_profile
from phonesearch.study.limits import Limits
from phonesearch.study.settings import Constraints, RunSettings
from phonesearch.study.stopwatch import Turn, predicted, turn_memory_bytes, weight_bits

TURN = Turn()


def limits(settings: RunSettings, device: str = "snapdragon8gen3", **constraints: float) -> Limits:
    made = Constraints(**constraints)  # type: ignore[arg-type]
    return Limits(replace(settings, constraints=made), read_profile(device))


def test_without_constraints_everything_is_accepted(settings: RunSettings, tiny: Candidate) -> None:
    assert limits(settings).accepts(tiny)


@pytest.mark.parametrize(("share", "accepted"), [(1.01, True), (0.99, False)])
def test_each_limit_cuts_at_its_value(
    settings: RunSettings, tiny: Candidate, share: float, accepted: bool
) -> None:
    """A little above what the candidate needs it passes, a little below it does not."""
    speed = predicted(tiny, read_profile("snapdragon8gen3"), engine=None, turn=TURN).speed
    memory = round(turn_memory_bytes(tiny, TURN, weight_bits=4) * share)
    assert limits(settings, max_memory_bytes=memory).accepts(tiny) is accepted
    ttft = speed.ttft.value_s * share
    assert limits(settings, max_ttft_s=ttft).accepts(tiny) is accepted
    least = speed.decode_tokens_per_s / share
    assert limits(settings, min_speed_tokens_per_s=least).accepts(tiny) is accepted


def test_on_a_measured_device_only_memory_is_known_beforehand(
    settings: RunSettings, tiny: Candidate
) -> None:
    hopeless = limits(settings, "host", max_ttft_s=1e-9)
    assert hopeless.accepts(tiny)
    speed = predicted(tiny, read_profile("snapdragon8gen3"), engine=None, turn=TURN).speed
    (reason,) = hopeless.broken(turn_memory_bytes(tiny, TURN, weight_bits=4), speed)
    assert "--max-ttft" in reason


def test_the_message_tells_how_near_the_best_one_came(
    settings: RunSettings, tiny: Candidate
) -> None:
    strict = limits(settings, max_memory_bytes=1000)
    assert not strict.accepts(tiny)
    message = strict.why_none(1)
    assert "--max-memory is 1.00 kB" in message
    assert "the nearest one needs" in message


def test_an_engine_of_wider_weights_needs_more_memory(settings: RunSettings) -> None:
    wide = Candidate(
        vocab_size=1024,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=64,
    )
    profile = read_profile("snapdragon8gen3")
    widths = {weight_bits(profile, name) for name in profile.engines}
    assert {4, 16} <= widths
    memory = [turn_memory_bytes(wide, TURN, weight_bits=bits) for bits in sorted(widths)]
    assert memory == sorted(memory)
    assert memory[-1] > 2 * memory[0]
