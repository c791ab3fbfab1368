"""Which engine of a profile a published row is of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phonesearch import catalog
from phonesearch.device.data import published_speeds
from phonesearch.device.engine_match import carried_as, family_of, is_of_device, match_engine
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.speed_table import SpeedFigure

FIGURE = SpeedFigure(
    id=1,
    device="Phone",
    soc_id="chip",
    processor="CPU",
    engine="llama.cpp",
    model_id="llama-3.2-1b",
    model="Llama 3.2 1B",
    quantisation="Q4_0",
    weight_bits=4,
    block_size=32,
    prompt_tokens=128,
    generate_tokens=128,
    prefill_tokens_per_s=None,
    decode_tokens_per_s=12.34567,
    confidence="A",
    source="a table",
    date="2026-05",
)
ENGINES = (
    "executorch-xnnpack-4bit",
    "executorch-xnnpack-meta-4bit",
    "llamacpp-4bit",
    "llamacpp-2024-4bit",
    "llamacpp-2026-4bit",
    "llamacpp-q4_0-4bit",
    "llamacpp-q4_k_m-4bit",
    "mnn-4bit",
)


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    shipped = read_profile("snapdragon8gen3")
    engine = shipped.engines["executorch-xnnpack-4bit"]
    return replace(
        shipped,
        name="chip",
        engines=dict.fromkeys(ENGINES, engine) | {"wide-16bit": replace(engine, weight_bits=16)},
    )


@pytest.mark.parametrize(
    ("printed", "family"),
    [
        ("ExecuTorch XNNPACK (react-native-executorch)", "executorch-xnnpack"),
        ("ExecuTorch XNNPACK + KleidiAI", "executorch-xnnpack"),
        ("ExecuTorch 1.2, XNNPACK", "executorch-xnnpack"),
        ("ExecuTorch QNN (OmniInfer)", "executorch-qnn"),
        ("ExecuTorch Vulkan", None),
        ("llama.cpp b2794", "llamacpp"),
        ("llama.cpp (llama.rn 0.12.0-rc.9, PocketPal) cpu", "llamacpp"),
        ("MNN-LLM (mnn-llm)", "mnn"),
        ("LiteRT XNNPACK (MediaPipe LLM / ai-edge-torch)", "litert-xnnpack"),
        ("LiteRT-LM 0.16", "litert-lm"),
        ("Qualcomm AI Hub / Genie (QNN)", "qnn-genie"),
        ("T-MAC (llama.cpp b2794)", None),
        ("ik_llama.cpp fork", None),
        ("EIE (llama.cpp based)", None),
        ("Ollama", None),
    ],
)
def test_builds_and_apps_are_of_the_family_and_forks_are_not(
    printed: str, family: str | None
) -> None:
    assert family_of(printed) == family


@pytest.mark.parametrize(
    ("changed", "engine"),
    [
        ({}, "llamacpp-q4_0-4bit"),
        ({"quantisation": "Q4_0_4_8"}, "llamacpp-q4_0-4bit"),
        ({"quantisation": "QAT Q4_0"}, "llamacpp-q4_0-4bit"),
        ({"quantisation": "Q4_K_M"}, "llamacpp-q4_k_m-4bit"),
        ({"quantisation": "IQ4_XS"}, "llamacpp-2026-4bit"),
        ({"quantisation": "IQ4_XS", "date": "2025"}, "llamacpp-4bit"),
        ({"quantisation": "INT4", "date": "2024-10"}, "llamacpp-2024-4bit"),
        (
            {"quantisation": "INT4", "engine": "llama.cpp (build not stated, 2024)"},
            "llamacpp-2024-4bit",
        ),
        ({"quantisation": "INT4", "date": "2024..2026"}, "llamacpp-4bit"),
        ({"engine": "ExecuTorch XNNPACK"}, "executorch-xnnpack-4bit"),
        (
            {"engine": "ExecuTorch XNNPACK", "quantisation": "SpinQuant: 8da4w"},
            "executorch-xnnpack-meta-4bit",
        ),
        (
            {"engine": "ExecuTorch XNNPACK", "quantisation": "QAT+LoRA 4-bit g32"},
            "executorch-xnnpack-meta-4bit",
        ),
        ({"engine": "MNN-LLM (mnn-llm)"}, "mnn-4bit"),
        ({"engine": "llamacpp-q4_k_m-4bit"}, "llamacpp-q4_k_m-4bit"),
    ],
)
def test_a_row_finds_its_engine(
    profile: DeviceProfile, changed: dict[str, str], engine: str
) -> None:
    assert match_engine(replace(FIGURE, **changed), profile).engine == engine  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"processor": "GPU"},
        {"weight_bits": 8},
        {"weight_bits": None},
        {"engine": "T-MAC"},
        {"engine": "ExecuTorch XNNPACK", "weight_bits": 16},
    ],
)
def test_a_row_of_no_engine_says_what_it_was_measured_with(
    profile: DeviceProfile, changed: dict[str, object]
) -> None:
    figure = replace(FIGURE, **changed)  # type: ignore[arg-type]
    match = match_engine(figure, profile)
    assert match.engine is None
    assert repr(figure.engine) in match.because
    assert figure.processor in match.because


def test_a_recipe_without_an_engine_of_its_own_is_of_the_plain_one(profile: DeviceProfile) -> None:
    """As on iPhones, where the two are fitted together."""
    figure = replace(FIGURE, engine="ExecuTorch XNNPACK", quantisation="QLoRA")
    engines = {n: e for n, e in profile.engines.items() if "meta" not in n}
    found = match_engine(figure, replace(profile, engines=engines))
    assert found.engine == "executorch-xnnpack-4bit"


def test_one_engine_alone_can_be_asked_for(profile: DeviceProfile) -> None:
    match = match_engine(FIGURE, profile, only="mnn-4bit")
    assert match.engine is None
    assert match.because == "of engine llamacpp-q4_0-4bit, not of mnn-4bit"


def test_a_device_is_known_by_its_chip_or_its_name() -> None:
    assert is_of_device(FIGURE, "Chip")
    assert is_of_device(FIGURE, "phone")
    assert not is_of_device(FIGURE, "chip2")
    assert is_of_device(FIGURE, "other", "p-hone")


def test_a_carried_row_is_recognised_under_any_number() -> None:
    speed = next(one for one in published_speeds() if one.decode_tokens_per_s)
    figure = replace(
        FIGURE,
        id=99999,
        soc_id=speed.soc_id,
        model_id=speed.model_id,
        block_size=speed.block_size,
        prompt_tokens=speed.prompt_tokens,
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        decode_tokens_per_s=speed.decode_tokens_per_s,
    )
    assert carried_as(figure) == speed
    profile = read_profile(speed.soc_id)
    assert match_engine(replace(figure, engine="an app"), profile).engine == speed.engine
    on_gpu = replace(figure, engine="an app", processor="GPU")
    assert match_engine(on_gpu, profile).engine is None
    other = speed.decode_tokens_per_s or 1.0
    assert carried_as(replace(figure, decode_tokens_per_s=other * 1.001)) is None


def test_equal_rates_at_another_width_or_engine_are_another_figure() -> None:
    """Row 182 and its 16-bit twin have the same device, model and rate."""
    speeds = {speed.id: speed for speed in published_speeds()}
    narrow = speeds[182]
    (wide,) = (
        one
        for one in speeds.values()
        if (one.soc_id, one.model_id, one.decode_tokens_per_s)
        == (narrow.soc_id, narrow.model_id, narrow.decode_tokens_per_s)
        and one.id != narrow.id
    )
    figure = replace(
        FIGURE,
        id=99999,
        soc_id=narrow.soc_id,
        engine="ExecuTorch XNNPACK",
        model_id=narrow.model_id,
        prompt_tokens=None,
        decode_tokens_per_s=narrow.decode_tokens_per_s,
    )
    assert carried_as(figure) == narrow
    assert carried_as(replace(figure, weight_bits=16)) == wide
    assert carried_as(replace(figure, engine="MNN")) is None


def test_every_fitted_row_is_found_again_by_the_rules_or_carried() -> None:
    """Each shipped engine finds the rows that it was fitted on, in the table's own words."""
    profiles = {name: read_profile(name) for name in catalog.names("device_profiles")}
    found = 0
    for speed in published_speeds():
        profile = profiles.get(speed.soc_id)
        if profile is None or speed.engine not in profile.engines:
            continue
        figure = SpeedFigure(
            id=speed.id,
            device=speed.device,
            soc_id=speed.soc_id,
            processor=profile.engines[speed.engine].processor,
            engine="something else",
            model_id=speed.model_id,
            model=speed.model_id,
            quantisation="",
            weight_bits=None,
            block_size=speed.block_size,
            prompt_tokens=speed.prompt_tokens,
            generate_tokens=speed.generate_tokens,
            prefill_tokens_per_s=speed.prefill_tokens_per_s,
            decode_tokens_per_s=speed.decode_tokens_per_s,
            confidence=speed.confidence,
            source=speed.source,
            date="",
        )
        assert match_engine(figure, profile).engine == speed.engine, speed.id
        found += 1
    assert found > 100
