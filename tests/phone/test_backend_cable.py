"""What both adb clients make of a timed candidate and of a lost cable.

Times mean nothing here, so only what is done with them is looked at.
"""

from __future__ import annotations

import pytest
from backend_rig import SETTINGS, TINY, Start, left
from fakephone_rig import AdbServer, FakePhone

from phonesearch.errors import PhoneGoneError

pytestmark = pytest.mark.adb


def test_a_candidate_is_timed_and_nothing_of_it_stays(fake_phone: FakePhone, start: Start) -> None:
    backend = start()

    found = backend.time(TINY, SETTINGS, seed=3)

    assert len(found.prefill_samples_s) == 2
    assert len(found.decode_samples_s) == 2 * 4
    assert min(found.prefill_samples_s + found.decode_samples_s) > 0
    assert found.num_threads == 2
    assert found.device.startswith("Phonemaker Fake Phone 5, Fake FK8350")
    assert "FAKE0001" not in found.device
    assert found.engine.startswith("onnxruntime 1.")
    assert found.conditions["cores"] == [4, 5]
    assert found.conditions["thrown_away"] == []
    assert found.conditions["logits_distance"] < 1e-4
    assert found.conditions["kernel_distance"] < 0.1
    assert found.conditions["before"]["heat"]["status"] == 0
    assert len(found.conditions["reference_decode_s"]) == 2
    assert left(fake_phone) == {"runner", "lib", "parts"}
    assert not [line for line in fake_phone.processes().values() if "--model" in line]


def test_a_cable_that_comes_back_costs_one_more_try(
    fake_phone: FakePhone, adb: AdbServer, start: Start
) -> None:
    backend = start()
    said: list[str] = []
    backend.say = said.append
    fake_phone.update(faults={"lose_on_output": '"event": "samples"', "replug_after_s": 0.5})

    found = backend.time(TINY, SETTINGS)

    assert found.conditions["cable_losses"] == 1
    assert len(found.decode_samples_s) == 8
    assert any("cable was lost" in line for line in said)
    assert left(fake_phone) == {"runner", "lib", "parts"}


def test_a_cable_that_stays_lost_is_an_error(fake_phone: FakePhone, start: Start) -> None:
    backend = start()
    backend.session._patience_s = 1.0
    fake_phone.update(faults={"lose_on_output": '"event": "samples"'})
    with pytest.raises(PhoneGoneError, match="did not come back within 1 s"):
        backend.time(TINY, SETTINGS)
