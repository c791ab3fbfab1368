"""Every file that ships is whole, and is found by its name."""

from __future__ import annotations

import pytest

from phonesearch import files
from phonesearch.catalog import fold, names, resolve
from phonesearch.device.profile import read_profile
from phonesearch.errors import NotInCatalogError
from phonesearch.space.schema import SearchSpace


@pytest.mark.parametrize("stem", names("search_spaces"))
def test_a_shipped_space_is_named_as_its_file(stem: str) -> None:
    assert files.read(resolve(stem, "search_spaces"), SearchSpace).name == stem


@pytest.mark.parametrize("stem", names("device_profiles"))
def test_a_shipped_profile_is_named_as_its_file(stem: str) -> None:
    assert read_profile(str(resolve(stem, "device_profiles"))).name == stem


def test_the_issue_s_devices_and_spaces_ship() -> None:
    assert {"decoder", "phonelm", "tiny"} <= set(names("search_spaces"))
    assert {"snapdragon8gen3", "host"} <= set(names("device_profiles"))
    assert len(names("device_profiles")) >= 4


@pytest.mark.parametrize("typed", ["snapdragon8gen2x", "Snapdragon-8-gen3", "snapdragon8g3"])
def test_an_unknown_device_gets_the_nearest_name(typed: str) -> None:
    with pytest.raises(NotInCatalogError, match=r"Did you mean 'snapdragon8gen"):
        resolve(typed, "device_profiles")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("bcm2712", "bcm2712"),
        ("raspberrypi5", "bcm2712"),
        ("raspberry_pi_5", "bcm2712"),
        ("Raspberry Pi 5", "bcm2712"),
        ("pi5", "bcm2712"),
        ("Pixel-10", "tensor_g5"),
    ],
)
def test_a_device_is_found_by_what_people_call_it(typed: str, name: str) -> None:
    assert resolve(typed, "device_profiles").stem == name
    assert read_profile(typed).name == name


def test_an_alias_names_one_device() -> None:
    taken = [
        fold(word)
        for name in names("device_profiles")
        for word in (name, *read_profile(name).aliases)
    ]
    assert len(taken) == len(set(taken))


def test_a_missing_file_of_one_s_own_is_named() -> None:
    with pytest.raises(NotInCatalogError, match=r"no search space file mine\.yaml"):
        resolve("mine.yaml", "search_spaces")
