"""Measuring on the fake phone, with the real client and the runner that ships.

Times mean nothing under emulation, so the limits of what must agree are wide open here; decisions
by them are tested in `test_protocol.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
from fakephone_rig import AdbServer, FakePhone
from in_use import models, phone_adb, replug_when_lost, runtime_library

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneNotFitError, TimingError
from phonesearch.phone.backend import LAST_CACHE_BYTES, PhoneBackend, PhoneSettings
from phonesearch.phone.judge import Limits
from phonesearch.phone.protocol import Reference
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.sweep import choices, keep_best, sweep
from phonesearch.timing.base import TimingSettings
from phonesearch.timing.exchange import Stretch
from phonesearch.timing.probe_run import run_probes
from phonesearch.timing.probes import DecoderProbe, OperatorProbe

pytestmark = pytest.mark.adb
ANY = 1e9
LIMITS = Limits(drift=ANY, spread=ANY, reference=ANY, cool_poll_s=0.1, cool_patience_s=2)
SETTINGS = TimingSettings(
    prompt_tokens=8,
    generate_tokens=8,
    warmup_runs=1,
    repetitions=2,
    decode_steps=3,
    settling_steps=1,
)


@pytest.fixture(scope="session")
def adb_program() -> str:
    """One client: what differs between them is tested in `test_session_lost.py`."""
    return shutil.which("adb") or pytest.skip("needs adb")


@pytest.fixture(scope="session")
def library(arm_library: Path) -> RuntimeLibrary:
    return runtime_library(arm_library)


def quick(tiny: Candidate, **changes: object) -> PhoneSettings:
    reference = Reference(
        candidate=replace(tiny, num_hidden_layers=1),
        stretches=(
            Stretch(new_tokens=4, past_tokens=0),
            Stretch(new_tokens=1, past_tokens=4, steps=2),
        ),
        rounds=1,
        warmup_rounds=0,
    )
    settings = PhoneSettings(reference=reference, limits=LIMITS, max_seconds=30, patience_s=15)
    return replace(settings, **changes)  # type: ignore[arg-type]


@pytest.fixture
def backend(
    fake_phone: FakePhone, library: RuntimeLibrary, tiny: Candidate
) -> Iterator[PhoneBackend]:
    with PhoneBackend(phone_adb(fake_phone), library, quick(tiny)) as opened:
        yield opened


def test_a_candidate_is_timed_and_all_that_was_done_is_told(
    backend: PhoneBackend, fake_phone: FakePhone, tiny: Candidate
) -> None:
    measured = backend.time(tiny, SETTINGS, seed=3)
    assert len(measured.prefill_samples_s) == 2
    assert len(measured.decode_samples_s) == 2 * 3
    assert min(measured.prefill_samples_s + measured.decode_samples_s) > 0
    assert measured.engine == f"onnxruntime {onnxruntime.__version__} int4"
    assert "Fake Phone 5" in measured.device
    assert measured.num_threads == len(backend.bench.cpus)
    told = json.loads(json.dumps(measured.conditions))
    assert told["cpus_asked"] == told["cpus_granted"] == list(backend.report.default_cores)
    assert told["phone"]["model"] == "Fake Phone 5"
    assert told["library"]["version"] == onnxruntime.__version__
    assert 0 < told["logits"]["largest"] < 1e-4
    assert 1e-5 < told["logits"]["kernels"] < 0.1
    assert told["reference"]["logits"]["largest"] < 1e-4
    assert told["reference"]["first"]["decode_s"] > 0
    assert told["tries"] == 1
    assert told["before"]["battery_c"] == 27.1
    assert told["after"]["thermal_status"] == 0
    assert told["before"]["cores"][7]["governor"] == "walt"
    assert "FAKE0001" not in json.dumps(told)
    assert len(models(fake_phone)) == 1  # the reference stays for the next


def test_nothing_is_left_but_what_is_pushed_once(
    fake_phone: FakePhone, library: RuntimeLibrary, tiny: Candidate
) -> None:
    with PhoneBackend(phone_adb(fake_phone), library, quick(tiny, check="once")) as backend:
        measured = backend.time(tiny, SETTINGS)
        assert measured.conditions["logits"] is None
        assert measured.conditions["reference"]["logits"]["largest"] < 1e-4
    assert models(fake_phone) == []
    assert not fake_phone.processes()
    assert not fake_phone.calls()


def test_a_hot_phone_is_waited_for_and_a_saving_one_refused(
    fake_phone: FakePhone, library: RuntimeLibrary, tiny: Candidate
) -> None:
    fake_phone.update(thermal={"status": 2})
    with PhoneBackend(phone_adb(fake_phone), library, quick(tiny)) as backend:
        with pytest.raises(TimingError, match="did not cool down within 2 s: its thermal status"):
            backend.time(tiny, SETTINGS)
        fake_phone.update(thermal={"status": 0}, settings={"global/low_power": "1"})
        with pytest.raises(PhoneNotFitError, match="Battery saver is on"):
            backend.time(tiny, SETTINGS)
    assert models(fake_phone) == []


def test_a_cable_lost_while_timing_spoils_nothing(
    fake_phone: FakePhone, adb: AdbServer, library: RuntimeLibrary, tiny: Candidate
) -> None:
    with PhoneBackend(phone_adb(fake_phone), library, quick(tiny, check="once")) as backend:
        fake_phone.update(faults={"lose_on_output": '"samples", "round": 1'})
        replug_when_lost(fake_phone)
        measured = backend.time(tiny, SETTINGS)
    assert len(measured.decode_samples_s) == 2 * 3
    assert measured.conditions["cable_losses"] == 1
    assert models(fake_phone) == []


def test_probes_of_a_calibration_go_to_the_phone_each_in_its_form(
    backend: PhoneBackend, tiny: Candidate, tmp_path: Path
) -> None:
    stretches = (
        Stretch(new_tokens=1, past_tokens=4, steps=2),
        Stretch(new_tokens=4, past_tokens=0),
    )
    probes = (
        OperatorProbe(kind="matmul", sizes=(64, 96), copies=2, stretches=stretches),
        OperatorProbe(kind="attention", sizes=(4, 2, 16), copies=1, stretches=stretches),
        DecoderProbe(candidate=tiny, stretches=stretches),
    )

    def run() -> list[int]:
        records = run_probes(
            probes,
            tmp_path / "probes.jsonl",
            timer=backend,
            num_threads=2,
            rounds=1,
            progress=lambda *_: None,
        )
        return [len(samples) for record in records for samples in record.samples_s]

    assert run() == 3 * [2, 1]
    pushed = backend.bench.session.pushed_bytes
    assert run() == 3 * [2, 1]  # from the record
    assert backend.bench.session.pushed_bytes == pushed
    assert backend.last_cache_bytes() == LAST_CACHE_BYTES


def test_a_sweep_finds_cores_that_are_used_from_then_on(
    fake_phone: FakePhone, library: RuntimeLibrary, tiny: Candidate, tmp_path: Path
) -> None:
    with PhoneBackend(phone_adb(fake_phone), library, quick(tiny)) as backend:
        few = choices(backend.report.cores)[:2]
        ranked = sweep(backend.bench, few, progress=lambda _: None)
        assert {swept.choice for swept in ranked} == set(few)
        assert ranked[0].turn_s <= ranked[1].turn_s
        assert backend.bench.cpus == ranked[0].choice.cpus
        best = replace(ranked[0].choice, cpus=(5, 6), num_threads=1)
        keep_best(best, backend.report.identity, cache=tmp_path)
    settings = quick(tiny)
    with PhoneBackend(phone_adb(fake_phone), library, settings, cache=tmp_path) as again:
        assert (again.bench.cpus, again.num_threads) == ((5, 6), 1)
    named = replace(settings, cpus=(7,))
    with PhoneBackend(phone_adb(fake_phone), library, named, cache=tmp_path) as other:
        assert (other.bench.cpus, other.num_threads) == ((7,), 1)
