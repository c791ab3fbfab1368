"""Predictions: sums, bounds, growth with every dimension, errors."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonesearch import catalog
from phonesearch.candidate.config import Candidate
from phonesearch.device.cost import predict
from phonesearch.device.operators import BasicRates, run_seconds
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.work import CATEGORIES, graph_work
from phonesearch.errors import ProfileError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings

ENGINES = [
    (name, engine)
    for name in catalog.names("device_profiles")
    for engine in read_profile(name).engines
]
SHAPE = Candidate(
    vocab_size=4096,
    hidden_size=512,
    intermediate_size=1536,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=64,
)
KNOWN = BasicRates(
    memory_bandwidth_bytes_per_s=50e9,
    seconds_per_call=40e-6,
    matmul_ops_per_s=500e9,
    attention_ops_per_s=60e9,
    matmul_tile_rows=4,
).terms()


@cache
def profile_of(name: str) -> DeviceProfile:
    return read_profile(name)


def estimate(candidate: Candidate, profile: DeviceProfile, *, prompt=128, generate=128, **options):
    return predict(
        build_structure(candidate, GraphSettings()),
        profile,
        engine=options.get("engine"),
        prompt_tokens=prompt,
        generate_tokens=generate,
    )


@pytest.fixture(scope="module")
def phone() -> DeviceProfile:
    return read_profile("snapdragon8gen3")


def test_seconds_by_operator_add_up(phone: DeviceProfile) -> None:
    found = estimate(SHAPE, phone)

    assert math.fsum(found.prefill_seconds_by_operator.values()) == pytest.approx(
        found.speed.ttft.value_s, rel=1e-12
    )
    assert math.fsum(found.decode_seconds_by_operator.values()) == pytest.approx(
        found.speed.tpot.value_s, rel=1e-12
    )
    assert tuple(found.decode_seconds_by_operator) == CATEGORIES
    assert all(seconds > 0 for seconds in found.decode_seconds_by_operator.values())


def test_a_decode_step_by_hand() -> None:
    """Bytes over bandwidth, attention's operations, and calls.

    Per layer: q, k, v 1024 x 512, o 512 x 512, three of 1536 x 512, 0.625 bytes a weight; head
    4096 x 512. Attention: keys and values of 4 x 64 floats and 4 x 8 x 64 operations for each of
    101 positions. Ten calls a layer, and four around them.
    """
    work = graph_work(build_structure(SHAPE, GraphSettings()))
    found = run_seconds(work, KNOWN, new_tokens=1, past_tokens=100)

    assert found["attention projections"] == pytest.approx(6 * 1536 * 512 * 0.625 / 50e9)
    assert found["ffn"] == pytest.approx(6 * 3 * 1536 * 512 * 0.625 / 50e9)
    assert found["head"] == pytest.approx(4096 * 512 * 0.625 / 50e9)
    assert found["attention"] == pytest.approx(
        6 * 101 * (2 * 4 * 64 * 4 / 50e9 + 4 * 8 * 64 / 60e9)
    )
    assert found["dispatch"] == pytest.approx(64 * 40e-6)


def test_a_prefill_by_hand() -> None:
    """126 tokens are 32 tiles of 4 rows; causal attention sees 126 x 127 / 2 pairs; the head
    sees one token."""
    work = graph_work(build_structure(SHAPE, GraphSettings()))
    found = run_seconds(work, KNOWN, new_tokens=126, past_tokens=0)

    assert found["ffn"] == pytest.approx(6 * 3 * (2 * 128 / 500e9 + 0.625 / 50e9) * 1536 * 512)
    assert found["attention"] == pytest.approx(
        6 * (4 * 8 * 64 * 126 * 127 / 2 / 60e9 + 2 * 4 * 64 * 4 * 126 / 50e9)
    )
    assert found["head"] == pytest.approx(4096 * 512 * 0.625 / 50e9)


@pytest.mark.parametrize("window", [None, 1, 100, 150, 10_000])
def test_a_turn_is_the_prefill_and_each_decode_step_at_its_context(
    phone: DeviceProfile, window: int | None
) -> None:
    candidate = replace(SHAPE, sliding_window=window)
    prompt, generate = 90, 120
    found = estimate(candidate, phone, prompt=prompt, generate=generate).speed
    # A generation of 1 or 0 tokens after `context` puts the middle of it at `context`.
    steps = [
        estimate(candidate, phone, prompt=context, generate=1).speed.tpot.value_s
        for context in range(prompt, prompt + generate - 1)
    ]

    assert found.turn.value_s == pytest.approx(found.ttft.value_s + math.fsum(steps), rel=1e-9)


def test_one_generated_token_is_the_prefill_alone(phone: DeviceProfile) -> None:
    speed = estimate(SHAPE, phone, generate=1).speed

    assert speed.turn == speed.ttft


def test_intervals_hold_the_value_by_the_factor_of_the_profile(phone: DeviceProfile) -> None:
    found = estimate(SHAPE, phone)
    engine = phone.engines[found.engine]

    tpot, ttft = found.speed.tpot, found.speed.ttft
    assert tpot.high_s / tpot.value_s == pytest.approx(
        math.exp(engine.decode.interval_log_half_width)
    )
    assert ttft.value_s / ttft.low_s == pytest.approx(
        math.exp(engine.prefill.interval_log_half_width)
    )
    assert found.speed.turn.low_s < found.speed.turn.value_s < found.speed.turn.high_s
    assert found.speed.coverage == phone.coverage


def test_an_estimate_says_what_it_rests_on(phone: DeviceProfile) -> None:
    found = estimate(SHAPE, phone, engine="llamacpp-2024-4bit")

    assert (found.device, found.engine) == ("snapdragon8gen3", "llamacpp-2024-4bit")
    assert found.profile_sha256 == phone.sha256
    assert len(found.profile_sha256) == 64


def test_the_engine_matters(phone: DeviceProfile) -> None:
    default = estimate(SHAPE, phone).speed.tpot.value_s

    assert estimate(SHAPE, phone, engine="llamacpp-2024-4bit").speed.tpot.value_s > default


def test_the_same_graph_gives_the_same_times_to_the_last_digit(phone: DeviceProfile) -> None:
    assert estimate(SHAPE, phone) == estimate(SHAPE, phone)


GROWTH = {
    "vocab_size": st.integers(1, 5000),
    "hidden_size": st.integers(1, 700),
    "intermediate_size": st.integers(1, 3000),
    "num_hidden_layers": st.integers(1, 5),
    "head_dim": st.integers(1, 64).map(lambda half: 2 * half),
}
shapes = st.builds(
    Candidate,
    vocab_size=st.integers(64, 3000),
    hidden_size=st.integers(16, 600),
    intermediate_size=st.integers(16, 2000),
    num_hidden_layers=st.integers(1, 4),
    num_attention_heads=st.sampled_from((4, 8)),
    num_key_value_heads=st.sampled_from((1, 2, 4)),
    head_dim=st.integers(2, 64).map(lambda half: 2 * half),
    ffn_type=st.sampled_from(("gated", "plain")),
    hidden_act=st.sampled_from(("silu", "gelu", "relu", "relu2")),
    tie_word_embeddings=st.booleans(),
    attention_bias=st.booleans(),
    qk_norm=st.booleans(),
    sliding_window=st.none() | st.integers(1, 300),
)


@pytest.mark.parametrize(("device", "engine"), ENGINES)
@settings(max_examples=15, deadline=None)
@given(
    candidate=shapes,
    field=st.sampled_from(sorted(GROWTH)),
    prompt=st.integers(1, 400),
    generate=st.integers(1, 400),
    data=st.data(),
)
def test_growing_any_dimension_never_makes_it_faster(
    device: str, engine: str, candidate: Candidate, field: str, prompt: int, generate: int, data
) -> None:
    profile = profile_of(device)
    grown = replace(
        candidate, **{field: getattr(candidate, field) + data.draw(GROWTH[field], label="growth")}
    )
    turn = {"prompt": prompt, "generate": generate, "engine": engine}
    before = estimate(candidate, profile, **turn).speed
    after = estimate(grown, profile, **turn).speed

    assert after.ttft.value_s >= before.ttft.value_s
    assert after.tpot.value_s >= before.tpot.value_s
    assert after.turn.value_s >= before.turn.value_s


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 16},
        {"num_key_value_heads": 8},
        {"qk_norm": True},
        {"attention_bias": True},
        {"hidden_act": "relu2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_more_work_takes_longer(phone: DeviceProfile, change) -> None:
    before = estimate(replace(SHAPE, hidden_act="relu"), phone).speed
    after = estimate(replace(SHAPE, **{"hidden_act": "relu", **change}), phone).speed

    assert after.ttft.value_s > before.ttft.value_s
    assert after.tpot.value_s > before.tpot.value_s


@settings(max_examples=60, deadline=None)
@given(
    candidate=shapes, prompt=st.integers(1, 600), generate=st.integers(1, 600), more=st.integers(1)
)
def test_a_longer_turn_is_never_faster(
    candidate: Candidate, prompt: int, generate: int, more: int
) -> None:
    profile = profile_of("snapdragon8gen3")
    more = min(more, 10_000)
    speed = estimate(candidate, profile, prompt=prompt, generate=generate).speed
    longer_prompt = estimate(candidate, profile, prompt=prompt + more, generate=generate).speed
    longer_answer = estimate(candidate, profile, prompt=prompt, generate=generate + more).speed

    assert longer_prompt.ttft.value_s > speed.ttft.value_s
    assert longer_prompt.tpot.value_s >= speed.tpot.value_s
    assert longer_answer.turn.value_s > speed.turn.value_s


def test_an_unknown_engine_lists_those_that_there_are(phone: DeviceProfile) -> None:
    with pytest.raises(ProfileError, match="executorch-xnnpack-meta-4bit, llamacpp-2024-4bit"):
        estimate(SHAPE, phone, engine="mlc")


def test_a_measured_device_predicts_nothing() -> None:
    with pytest.raises(ProfileError, match="is measured, not predicted"):
        estimate(SHAPE, read_profile("host"))


def test_the_4_bit_graph_stands_for_its_shape_at_the_width_of_the_engine(
    phone: DeviceProfile,
) -> None:
    """16-bit weights are 2 bytes where 4-bit ones are 0.625, at equal rates."""
    four = phone.engines["executorch-xnnpack-4bit"]
    sixteen = replace(four, weight_bits=16)
    both = replace(phone, engines={"four": four, "sixteen": sixteen}, default_engine="four")
    by_width = {
        name: estimate(SHAPE, both, engine=name).decode_seconds_by_operator for name in both.engines
    }

    for part in ("ffn", "attention projections", "head"):
        assert by_width["sixteen"][part] / by_width["four"][part] == pytest.approx(2 / 0.625)
    for part in ("attention", "embedding", "norms and element-wise", "dispatch"):
        assert by_width["sixteen"][part] == by_width["four"][part]


def test_an_8_bit_graph_meets_an_8_bit_engine(phone: DeviceProfile) -> None:
    eight = replace(phone.engines["executorch-xnnpack-4bit"], weight_bits=8)
    profile = replace(phone, engines={"eight": eight}, default_engine="eight")
    turn = {"engine": None, "prompt_tokens": 64, "generate_tokens": 64}
    as_built = predict(build_structure(SHAPE, GraphSettings(weight_bits=8)), profile, **turn).speed
    as_shape = predict(build_structure(SHAPE, GraphSettings()), profile, **turn).speed

    # One row of the embedding is looked up at the width of the graph.
    assert as_built.tpot.value_s == pytest.approx(as_shape.tpot.value_s, rel=1e-4)
    assert as_built.ttft.value_s == pytest.approx(as_shape.ttft.value_s, rel=1e-4)


@pytest.mark.parametrize(("device", "engine"), ENGINES)
def test_a_hundred_graphs_of_a_known_shape_are_predicted_in_a_second(
    device: str, engine: str
) -> None:
    profile = profile_of(device)
    structure = build_structure(replace(SHAPE, num_hidden_layers=24), GraphSettings())
    predict(structure, profile, engine=engine, prompt_tokens=128, generate_tokens=128)
    start = time.process_time()
    for _ in range(10):
        predict(structure, profile, engine=engine, prompt_tokens=128, generate_tokens=128)

    assert time.process_time() - start < 10 / 100


def test_weights_of_another_width_are_refused(phone: DeviceProfile) -> None:
    with pytest.raises(ProfileError, match="fitted on 4-bit weights and the graph has 8-bit"):
        predict(
            build_structure(SHAPE, GraphSettings(weight_bits=8)),
            phone,
            engine=None,
            prompt_tokens=8,
            generate_tokens=8,
        )


@pytest.mark.parametrize(("prompt", "generate"), [(0, 8), (8, 0)])
def test_a_turn_of_no_tokens_is_refused(phone: DeviceProfile, prompt: int, generate: int) -> None:
    with pytest.raises(ProfileError, match="at least 1"):
        estimate(SHAPE, phone, prompt=prompt, generate=generate)
