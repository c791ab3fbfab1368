"""Two fake phones that measure as one."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakephone_rig import AdbServer, FakePhone
from in_use import models, phone_adb, runtime_library

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneError, PhonesDifferError, PhoneUnreachableError
from phonesearch.phone.backend import PhoneBackend, PhoneSettings
from phonesearch.phone.judge import Limits, ReferenceTime
from phonesearch.phone.pool import PhonePool
from phonesearch.phone.protocol import Bench, Reference
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.study.meter import PhoneMeter
from phonesearch.study.stopwatch import Turn
from phonesearch.study.together import together
from phonesearch.timing.base import Measurement
from phonesearch.timing.exchange import Stretch

pytestmark = pytest.mark.adb
ANY = 1e9
TURN = Turn(prompt_tokens=8, generate_tokens=4)


@pytest.fixture(scope="session")
def adb_program() -> str:
    """One client: what differs between them is tested in `test_session_lost.py`."""
    return shutil.which("adb") or pytest.skip("needs adb")


@pytest.fixture(scope="session")
def library(arm_library: Path) -> RuntimeLibrary:
    return runtime_library(arm_library)


@pytest.fixture
def phones(make_phone: Callable[..., FakePhone], adb: AdbServer) -> tuple[FakePhone, FakePhone]:
    first, second = make_phone(), make_phone()
    adb.connect(first)
    adb.connect(second)
    return first, second


@pytest.fixture
def backend(library: RuntimeLibrary, tiny: Candidate) -> Callable[[FakePhone], PhoneBackend]:
    def make(phone: FakePhone) -> PhoneBackend:
        reference = Reference(
            candidate=replace(tiny, num_hidden_layers=1),
            stretches=(
                Stretch(new_tokens=4, past_tokens=0),
                Stretch(new_tokens=1, past_tokens=4, steps=2),
            ),
            rounds=1,
            warmup_rounds=0,
        )
        limits = Limits(drift=ANY, spread=ANY, reference=ANY, cool_poll_s=0.1, cool_patience_s=2)
        settings = PhoneSettings(
            reference=reference, limits=limits, max_seconds=60, patience_s=2, check="once"
        )
        return PhoneBackend(phone_adb(phone), library, settings)

    return make


def test_both_phones_measure_and_the_record_says_which(
    phones: tuple[FakePhone, FakePhone],
    backend: Callable[[FakePhone], PhoneBackend],
    tiny: Candidate,
) -> None:
    with PhonePool([backend(phone) for phone in phones]) as pool:
        meter = PhoneMeter(phones=pool)
        assert meter.num_at_once == 2
        barrier = threading.Barrier(2, timeout=60)
        real = pool._take

        def take() -> int:
            """Only once both threads want a phone: else the first may do all the work."""
            place = real()
            barrier.wait()
            return place

        pool._take = take  # type: ignore[method-assign]

        def measure(seed: int) -> Measurement:
            return meter.measure(tiny, TURN, seed=seed)

        with together(measure, [0, 1], at_once=2, stop=meter.stop) as results:
            found = list(results)
    told = [measurement.conditions["pool"] for measurement in found]
    assert {one["phone"] for one in told} == {1, 2}
    assert all(len(one["reference_decode_s"]) == 2 for one in told)
    assert {measurement.device for measurement in found} == {meter.fingerprint}
    assert [models(phone) for phone in phones] == [[], []]


def test_a_lost_phone_leaves_the_pool_and_its_candidate_is_measured_on_the_other(
    phones: tuple[FakePhone, FakePhone],
    backend: Callable[[FakePhone], PhoneBackend],
    tiny: Candidate,
) -> None:
    said: list[str] = []
    with PhonePool([backend(phone) for phone in phones], say=said.append) as pool:
        meter = PhoneMeter(phones=pool)
        phones[0].lose_cable()

        first = meter.measure(tiny, TURN)
        second = meter.measure(tiny, TURN)

        assert first.conditions["pool"]["phone"] == second.conditions["pool"]["phone"] == 2
        assert len(said) == 1
        assert said[0].startswith("Phone 1 leaves the pool of 2: ")
        phones[1].lose_cable()
        with pytest.raises(PhoneUnreachableError):
            meter.measure(tiny, TURN)
        with pytest.raises(PhoneUnreachableError):  # at once, with nobody to wait for
            meter.measure(tiny, TURN)


def test_phones_of_two_models_are_refused(
    make_phone: Callable[..., FakePhone],
    adb: AdbServer,
    backend: Callable[[FakePhone], PhoneBackend],
) -> None:
    first, second = make_phone(), make_phone(properties={"ro.product.model": "Other Phone 6"})
    adb.connect(first)
    adb.connect(second)
    with (
        pytest.raises(PhonesDifferError, match=r"phone 2 is Phonemaker Other Phone 6.*one run for"),
        PhonePool([backend(first), backend(second)]),
    ):
        pass
    assert models(first) == models(second) == []


def test_phones_of_one_model_that_are_not_equally_fast_are_refused(
    phones: tuple[FakePhone, FakePhone],
    backend: Callable[[FakePhone], PhoneBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([ReferenceTime(prefill_s=1.0, decode_s=decode_s) for decode_s in (0.1, 0.12)])
    monkeypatch.setattr(Bench, "time_reference", lambda _: next(times))
    pair = [backend(phone) for phone in phones]
    for one in pair:
        one.settings = replace(one.settings, limits=replace(one.settings.limits, reference=0.05))
    with (
        pytest.raises(PhonesDifferError, match=r"on phone 2 is \+20.0% off that on phone 1"),
        PhonePool(pair),
    ):
        pass


def test_stopped_it_begins_nothing_more(
    phones: tuple[FakePhone, FakePhone],
    backend: Callable[[FakePhone], PhoneBackend],
    tiny: Candidate,
) -> None:
    with PhonePool([backend(phone) for phone in phones]) as pool:
        meter = PhoneMeter(phones=pool)

        def measure(seed: int) -> Measurement:
            return meter.measure(tiny, TURN, seed=seed)

        def broken_off() -> None:
            with together(measure, range(8), at_once=2, stop=meter.stop) as results:
                next(results)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            broken_off()
        with pytest.raises(PhoneError, match="broken off"):
            meter.measure(tiny, TURN)
    assert [models(phone) for phone in phones] == [[], []]
