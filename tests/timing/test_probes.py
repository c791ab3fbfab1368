"""Probes of a calibration that is bounded."""

from __future__ import annotations

import pytest

from phonesearch.candidate.count import total_parameters
from phonesearch.errors import SettingsError
from phonesearch.timing.probes import (
    BUDGETS,
    NUM_DECODERS,
    decoder_probes,
    operator_probes,
    unseen_probes,
)
from phonesearch.units import MIB


@pytest.mark.parametrize("largest", [300_000, 2_000_000, 30_000_000])
def test_no_model_is_larger_than_the_bound(largest: int) -> None:
    decoders = decoder_probes(largest=largest)
    unseen = unseen_probes(6, seed=3, largest=largest)
    assert len(decoders) > 0.8 * NUM_DECODERS
    assert len(unseen) == 6
    assert not {probe.name for probe in decoders} & {probe.name for probe in unseen}
    sizes = [total_parameters(probe.candidate) for probe in (*decoders, *unseen)]
    assert max(sizes) <= 1.1 * largest
    assert len({probe.candidate.hidden_size for probe in decoders}) > 1
    for probe in operator_probes(8 * MIB, largest=largest):
        if probe.kind == "matmul":
            assert probe.sizes[0] * probe.sizes[1] * probe.copies <= 3 * largest


def test_a_bound_that_is_above_all_changes_nothing() -> None:
    assert unseen_probes(9, seed=0, largest=BUDGETS[-1]) == unseen_probes(9, seed=0)
    assert operator_probes(8 * MIB, largest=10**9) == operator_probes(8 * MIB)


def test_a_bound_below_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="No decoder has 1,000 parameters or less"):
        decoder_probes(largest=1000)
