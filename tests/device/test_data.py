"""The carried rows, and the known models made from them."""

from __future__ import annotations

from phonesearch.candidate.count import total_parameters
from phonesearch.device.data import model_shapes, published_speeds, soc_facts
from phonesearch.device.known_models import known_models


def test_every_row_names_its_source() -> None:
    assert all(speed.source and speed.confidence in "ABC" for speed in published_speeds())
    assert all(shape.source for shape in model_shapes().values())
    assert all(fact.source for fact in soc_facts("snapdragon8gen3"))


def test_row_ids_are_unique() -> None:
    ids = [speed.id for speed in published_speeds()]

    assert len(set(ids)) == len(ids)


def test_every_fitted_row_has_a_shape_and_a_speed() -> None:
    shapes = model_shapes()
    for speed in published_speeds():
        if not speed.left_out_because:
            assert speed.model_id in shapes
            assert speed.decode_tokens_per_s or speed.prefill_tokens_per_s


def test_parameters_of_known_models_are_the_published_ones() -> None:
    """Published totals, from the model cards; PhoneLM's are exact."""
    found = {model.name: total_parameters(model.candidate) for model in known_models()}

    assert found["PhoneLM-1.5B"] == 1_618_593_280
    assert found["PhoneLM-0.5B"] == 509_658_112
    published = {
        "Qwen2.5-0.5B": 0.494e9,
        "Qwen2.5-1.5B": 1.544e9,
        "Qwen3-0.6B": 0.596e9,
        "Qwen3-1.7B": 1.721e9,
        "SmolLM2-135M": 0.1345e9,
        "SmolLM2-360M": 0.3618e9,
        "SmolLM2-1.7B": 1.711e9,
        "Llama-3.2-1B": 1.236e9,
        "Llama-3.2-3B": 3.213e9,
        "TinyLlama-1.1B": 1.100e9,
        "MobileLLM-125M": 0.1246e9,
    }
    for name, parameters in published.items():
        assert abs(found[name] / parameters - 1) < 0.01, name


def test_known_models_are_named_once() -> None:
    names = [model.name for model in known_models()]

    assert len(set(names)) == len(names)
