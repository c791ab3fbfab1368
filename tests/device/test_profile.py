"""Reading profiles, and that no number in a shipped one stands without a source."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from phonesearch import catalog, files
from phonesearch.device.profile import DeviceProfile, list_profiles, profile_sha256, read_profile
from phonesearch.errors import InvalidFileError, NotInCatalogError, ProfileError

NAMES = catalog.names("device_profiles")


def test_the_promised_devices_are_shipped() -> None:
    assert set(NAMES) == {
        "a15",
        "a19pro",
        "adb",
        "bcm2712",
        "dimensity8400",
        "host",
        "snapdragon888",
        "snapdragon8elite",
        "snapdragon8elitegen5",
        "snapdragon8gen1",
        "snapdragon8gen2",
        "snapdragon8gen3",
        "snapdragon8plusgen1",
        "snapdragonxelite",
        "tensor_g2",
        "tensor_g5",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_coefficient_from_elsewhere_makes_its_phase_a_prior(name: str) -> None:
    for engine in read_profile(name).engines.values():
        numbers = engine.fitted
        calls_from_elsewhere = numbers.seconds_per_call.source.startswith("prior")
        assert (engine.decode.basis == "prior") == calls_from_elsewhere
        matmul_from_elsewhere = numbers.matmul_ops_per_s.source.startswith("prior")
        assert (engine.prefill.basis == "prior") == matmul_from_elsewhere


@pytest.mark.parametrize("name", NAMES)
def test_few_architectures_never_give_a_narrow_interval(name: str) -> None:
    for engine in read_profile(name).engines.values():
        if engine.decode.num_models < 4:
            assert engine.decode.interval_log_half_width > 0.55


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_is_named_as_its_file(name: str) -> None:
    assert read_profile(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_shipped_profile_has_a_source(name: str) -> None:
    """Walks the file itself: whatever mapping holds a number must hold a source, too."""
    settings_without_source = {"coverage", "weight_bits"}
    numbers = 0

    def walk(content: Any, where: str) -> None:
        nonlocal numbers
        if isinstance(content, dict):
            for key, value in content.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number and key not in settings_without_source:
                    numbers += 1
                    assert str(content.get("source", "")).strip(), f"{where}.{key}"
                walk(value, f"{where}.{key}")

    content = files.read_mapping(catalog.resolve(name, "device_profiles"))
    walk(content, name)
    assert numbers or content["measured"]


@pytest.mark.parametrize("name", NAMES)
def test_facts_of_the_hardware_name_a_source(name: str) -> None:
    assert all(fact.source and fact.value for fact in read_profile(name).hardware.values())


def test_the_host_is_measured_and_has_no_model() -> None:
    host = read_profile("host")

    assert host.measured
    assert not host.engines


def test_the_hash_is_that_of_the_file() -> None:
    path = catalog.resolve("snapdragon8gen3", "device_profiles")

    assert read_profile("snapdragon8gen3").sha256 == profile_sha256(path)
    assert profile_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_list_has_a_line_for_every_profile() -> None:
    summaries = list_profiles()

    assert [summary.name for summary in summaries] == NAMES
    phone = next(summary for summary in summaries if summary.name == "snapdragon8gen3")
    assert phone.default_engine == "executorch-xnnpack-4bit"
    assert phone.engines["executorch-xnnpack-16bit"].decode.num_models == 8


def test_a_misspelt_device_suggests_the_nearest() -> None:
    with pytest.raises(NotInCatalogError, match="Did you mean 'snapdragon8gen3'"):
        read_profile("snapdragon8gen4")


@pytest.fixture
def content() -> dict[str, Any]:
    return files.read_mapping(catalog.resolve("tensor_g5", "device_profiles"))


def written(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "tensor_g5.yaml"
    files.write_yaml(path, content)
    return str(path)


def test_a_file_of_the_user_is_read_by_its_path(tmp_path: Path, content: dict[str, Any]) -> None:
    found = read_profile(written(tmp_path, content))

    assert isinstance(found, DeviceProfile)
    assert found.engines == read_profile("tensor_g5").engines


def test_all_mistakes_of_a_file_are_listed_at_once(tmp_path: Path, content: dict[str, Any]) -> None:
    coefficients = content["engines"]["executorch-xnnpack-4bit"]["coefficients"]
    coefficients["memory_bandwidth_bytes_per_s"]["value"] = "fast"
    coefficients["seconds_per_call"] = {"value": -1.0, "source": "guess"}
    del coefficients["matmul_ops_per_s"]["source"]
    content["colour"] = "black"

    with pytest.raises(InvalidFileError) as caught:
        read_profile(written(tmp_path, content))

    said = "\n".join(caught.value.problems)
    assert "memory_bandwidth_bytes_per_s.value" in said
    assert "above 0, got -1.0" in said
    assert "matmul_ops_per_s.source: this field is required" in said
    assert "colour: there is no such field" in said


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"default_engine": "mlc"}, "`default_engine` must be one of executorch-xnnpack-4bit"),
        ({"measured": True}, "`measured: true` has no engines"),
        ({"coverage": 1.5}, "`coverage` must lie between 0 and 1"),
        ({"processor": "TPU"}, "processor"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(
    tmp_path: Path, content: dict[str, Any], change: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidFileError, match=match):
        read_profile(written(tmp_path, {**content, **change}))


def test_an_empty_source_is_no_source(tmp_path: Path, content: dict[str, Any]) -> None:
    engine = content["engines"]["executorch-xnnpack-4bit"]
    engine["coefficients"]["matmul_ops_per_s"]["source"] = "  "

    with pytest.raises(InvalidFileError, match="must name its `source`"):
        read_profile(written(tmp_path, content))


def test_infinite_speed_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    engine = content["engines"]["executorch-xnnpack-4bit"]
    engine["coefficients"]["matmul_ops_per_s"]["value"] = float("inf")

    with pytest.raises(InvalidFileError, match="finite"):
        read_profile(written(tmp_path, content))


def test_asking_for_an_engine_gives_it_with_its_name() -> None:
    profile = read_profile("snapdragon8gen3")

    assert profile.engine(None)[0] == profile.default_engine
    assert profile.engine("llamacpp-2024-4bit")[1] is profile.engines["llamacpp-2024-4bit"]
    with pytest.raises(ProfileError, match="no engine 'x'"):
        profile.engine("x")
