"""A phone in use, on the fake one with real adb clients: what is pushed, run, lost, taken away."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fakephone_rig import AdbServer, FakePhone, wait_until
from in_use import OTHER, models, phone_adb, replug_when_lost, runtime_library
from needs import need

from phonesearch.candidate.config import Candidate
from phonesearch.errors import (
    AnotherPhoneError,
    CoresWithheldError,
    IllegalInstructionError,
    PhoneFileError,
    PhoneFullError,
    PhoneMemoryError,
    PhoneUnreachableError,
    RunnerAbortedError,
    RunnerCrashedError,
    RunnerHungError,
    RunnerKilledError,
    RunnerStartError,
    UnauthorisedError,
    WrongLibraryError,
)
from phonesearch.onnx_export.recipe import Parts, RecipeModel, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone import delivery
from phonesearch.phone import session as sessions
from phonesearch.phone.adb import REMOTE_FOLDER
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.pushed import PhoneModel, RunRequest
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.session import Session
from phonesearch.timing.exchange import Stretch
from phonesearch.units import format_bytes

pytestmark = pytest.mark.adb
STRETCHES = (
    Stretch(new_tokens=8, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=8, steps=3, settling_steps=1),
)
REQUEST = RunRequest(stretches=STRETCHES, num_threads=2, cpus=(6, 7), is_plain=True, max_seconds=30)
both_clients = pytest.mark.parametrize("adb_program", ["debian", "adbutils"], indirect=True)


@pytest.fixture
def adb_program(request: pytest.FixtureRequest) -> str:
    """Debian's client; both only where they say different things, as each test takes seconds."""
    if getattr(request, "param", "debian") == "debian":
        need("adb")
        return shutil.which("adb") or ""
    need("adbutils")
    found = importlib.util.find_spec("adbutils")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "binaries" / "adb")


@pytest.fixture(scope="session")
def library(arm_library: Path) -> RuntimeLibrary:
    return runtime_library(arm_library)


@pytest.fixture
def recipe(tiny: Candidate, tmp_path: Path) -> RecipeModel:
    parts = Parts(tmp_path / "parts of $(reboot) ' it")
    return write_recipe(tiny, tmp_path / "a phone; model", GraphSettings(), parts=parts, seed=5)


@pytest.fixture
def model(recipe: RecipeModel) -> PhoneModel:
    return PhoneModel.of_recipe(recipe)


@pytest.fixture
def session(fake_phone: FakePhone, library: RuntimeLibrary) -> Iterator[Session]:
    with Session(phone_adb(fake_phone), library, patience_s=15) as opened:
        yield opened


def place_and_run(session: Session, model: PhoneModel, phone: FakePhone, **changes: Any) -> None:
    """With something changed in between."""
    with session.placed(model, capacity=REQUEST.capacity) as folder:
        phone.update(**changes)
        session.run(folder, replace(REQUEST, max_seconds=3))


@both_clients
def test_a_model_is_written_there_run_and_taken_away(
    session: Session,
    fake_phone: FakePhone,
    model: PhoneModel,
    tiny: Candidate,
    tmp_path: Path,
) -> None:
    exported = export(tiny, tmp_path / "whole", GraphSettings(), seed=5)
    with session.placed(model, capacity=REQUEST.capacity) as folder:
        data = fake_phone.place(f"{folder}/model.onnx.data")
        assert data.read_bytes() == exported.data_path.read_bytes()
        report = session.run(folder, REQUEST, dump=tmp_path / "logits")
    assert report.cpus_granted == (6, 7)
    assert report.has_dot_product
    assert report.is_finite
    assert report.onnxruntime_version == onnxruntime.__version__
    assert [len(report.all_samples_s(stretch)) for stretch in range(2)] == [1, 3]
    expected = expected_output(exported.path, STRETCHES, capacity=REQUEST.capacity)
    found = np.fromfile(tmp_path / "logits", dtype=np.float32)
    assert np.abs(found - expected).max() < 1e-4
    assert models(fake_phone) == []
    assert not fake_phone.processes()


def test_a_second_model_brings_nothing_but_graph_and_recipe(
    fake_phone: FakePhone,
    library: RuntimeLibrary,
    recipe: RecipeModel,
    model: PhoneModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "_SAID_WEIGHTS_BYTES", 1)
    monkeypatch.setattr(delivery, "_LARGE_BYTES", 100_000)
    said: list[str] = []
    with Session(phone_adb(fake_phone), library, say=said.append) as first:
        with first.placed(model, capacity=16):
            pass
        pushed = first.pushed_bytes
        with first.placed(model, capacity=16):
            pass
        own = recipe.path.stat().st_size + recipe.recipe_path.stat().st_size
        assert first.pushed_bytes - pushed == own
    kinds = [line.split(",")[0] for line in said]
    version = onnxruntime.__version__
    assert kinds[0] == f"Pushing ONNX Runtime {version} to the phone"
    assert set(kinds[1:-2]) == {"Pushing random numbers for weights to the phone"}
    assert kinds[-2:] == 2 * [f"The phone writes {format_bytes(model.data_bytes)} of weights"]
    with Session(phone_adb(fake_phone), library, say=said.append) as second:
        assert second.pushed_bytes == 0
        with second.placed(model, capacity=16):
            pass
        assert second.pushed_bytes == own
    assert len(said) == len(kinds) + 1  # its weights; what stays is there


def test_what_a_session_left_is_gone_with_the_next(
    fake_phone: FakePhone, library: RuntimeLibrary
) -> None:
    left = fake_phone.place(f"{REMOTE_FOLDER}/models/abc")
    left.mkdir(parents=True)
    with Session(phone_adb(fake_phone), library):
        assert models(fake_phone) == []


def test_a_damaged_library_is_pushed_again(fake_phone: FakePhone, library: RuntimeLibrary) -> None:
    with Session(phone_adb(fake_phone), library):
        pass
    place = fake_phone.place(f"{REMOTE_FOLDER}/bin/libonnxruntime.so")
    place.write_bytes(place.read_bytes()[:-1])
    with Session(phone_adb(fake_phone), library) as again:
        assert again.pushed_bytes == library.size_bytes
    assert place.stat().st_size == library.size_bytes


def test_a_full_phone_is_told_before_anything_is_pushed(
    session: Session, fake_phone: FakePhone, model: PhoneModel
) -> None:
    used = fake_phone.state.read()["disk_bytes"] - fake_phone.state.free_bytes()
    fake_phone.update(disk_bytes=used + (64 << 20))
    pushed = session.pushed_bytes
    with (
        pytest.raises(PhoneFullError, match=r"67 MB free .* phone clean"),
        session.placed(model, capacity=16),
    ):
        pass
    assert session.pushed_bytes == pushed
    assert models(fake_phone) == []


def test_a_model_that_somebody_removed_is_told(
    session: Session, fake_phone: FakePhone, model: PhoneModel
) -> None:
    with session.placed(model, capacity=REQUEST.capacity) as folder:
        shutil.rmtree(fake_phone.place(folder))
        with pytest.raises(PhoneFileError, match="no longer on the phone"):
            session.run(folder, REQUEST)


@pytest.mark.parametrize("missing_bytes", [1, 20_000])
def test_a_phone_that_fills_up_meanwhile_is_told_and_left_clean(
    session: Session,
    fake_phone: FakePhone,
    model: PhoneModel,
    missing_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the weights are written, and while graph and recipe are pushed."""
    with session.placed(model, capacity=16):
        used = fake_phone.state.read()["disk_bytes"] - fake_phone.state.free_bytes()
    monkeypatch.setattr("phonesearch.phone.delivery.parse_free", lambda text: None)
    before = sorted(fake_phone.place(REMOTE_FOLDER).rglob("*"))
    fake_phone.update(disk_bytes=used - missing_bytes)
    with (
        pytest.raises(PhoneFullError, match="storage was full while"),
        session.placed(model, capacity=16),
    ):
        pass
    assert sorted(fake_phone.place(REMOTE_FOLDER).rglob("*")) == before


def test_too_little_memory_is_told_before_anything_is_pushed(
    session: Session, fake_phone: FakePhone, model: PhoneModel
) -> None:
    fake_phone.update(memory_available_kb=100)
    with (
        pytest.raises(PhoneMemoryError, match="Close apps"),
        session.placed(replace(model, data_bytes=10 << 20), capacity=16),
    ):
        pass


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (signal.SIGKILL, RunnerKilledError, "memory runs out"),
        (signal.SIGABRT, RunnerAbortedError, "SIGABRT"),
        (signal.SIGSEGV, RunnerCrashedError, "crashed"),
        (signal.SIGILL, IllegalInstructionError, "set up another version"),
        ("hang", RunnerHungError, "did not end in time"),
    ],
)
def test_a_runner_that_dies_is_told_and_leaves_nothing(
    session: Session,
    fake_phone: FakePhone,
    model: PhoneModel,
    fault: int | str,
    kind: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        place_and_run(
            session, model, fake_phone, runner_fault=fault if isinstance(fault, str) else int(fault)
        )
    assert models(fake_phone) == []
    assert not fake_phone.processes()


@both_clients
def test_a_cable_pulled_in_a_push_is_waited_for(
    session: Session, fake_phone: FakePhone, adb: AdbServer, model: PhoneModel, tmp_path: Path
) -> None:
    fake_phone.update(faults={"lose_push_after_bytes": 500})
    replug_when_lost(fake_phone, after_s=0.5)
    with session.placed(model, capacity=REQUEST.capacity) as folder:
        assert session.run(folder, REQUEST).is_finite
    assert session.link.losses == 1
    assert models(fake_phone) == []


@both_clients
def test_a_run_that_a_lost_cable_broke_is_done_anew(
    session: Session, fake_phone: FakePhone, adb: AdbServer, model: PhoneModel
) -> None:
    with session.placed(model, capacity=REQUEST.capacity) as folder:
        fake_phone.update(faults={"lose_on_output": '"samples", "round": 0'})
        replug_when_lost(fake_phone)
        report = session.run(folder, REQUEST)
    assert [len(report.all_samples_s(stretch)) for stretch in range(2)] == [1, 3]
    assert session.link.losses == 1
    assert models(fake_phone) == []


@both_clients
def test_a_phone_that_stays_away_is_told_and_cleaned_when_it_is_back(
    fake_phone: FakePhone, adb: AdbServer, library: RuntimeLibrary, model: PhoneModel
) -> None:
    with Session(phone_adb(fake_phone), library, patience_s=0.5) as session:
        with pytest.raises(PhoneUnreachableError):
            place_and_run(session, model, fake_phone, faults={"lose_on_output": '"start"'})
        assert models(fake_phone) != []
        fake_phone.replug()
        wait_until(lambda: "connected" in adb("connect", fake_phone.serial).stdout)
        adb.wait_for(fake_phone, "device")
        session.link.contact()
        assert models(fake_phone) == []
        assert not fake_phone.processes()


def test_another_phone_in_its_place_is_an_error_and_is_left_alone(
    fake_phone: FakePhone, adb: AdbServer, library: RuntimeLibrary, model: PhoneModel
) -> None:
    with Session(phone_adb(fake_phone), library, patience_s=15) as session:
        with pytest.raises(AnotherPhoneError, match="'Other Phone 6' in place of 'Fake Phone 5'"):
            place_and_run(session, model, fake_phone, properties=OTHER)
        assert models(fake_phone) != []  # on a phone that is not ours
        with pytest.raises(AnotherPhoneError):
            session.link.contact()


def test_another_phone_after_a_replug_is_an_error(
    session: Session, fake_phone: FakePhone, adb: AdbServer, model: PhoneModel
) -> None:
    changes = OTHER | {"ro.build.fingerprint": "x';reboot;'"}
    replug_when_lost(fake_phone, properties=changes)
    with pytest.raises(AnotherPhoneError):
        place_and_run(session, model, fake_phone, faults={"lose_on_output": '"start"'})


@both_clients
def test_a_phone_that_asks_again_whether_it_may_is_told(
    fake_phone: FakePhone, adb: AdbServer, library: RuntimeLibrary
) -> None:
    with Session(phone_adb(fake_phone), library, patience_s=0.5) as session:
        adb("disconnect", fake_phone.serial)
        fake_phone.update(authorised=False)
        adb.connect(fake_phone, state="unauthorized")
        with pytest.raises(UnauthorisedError, match="accept the dialog"):
            session.link.held(session.link.contact)


def test_cores_that_are_not_granted_are_an_error(
    session: Session, fake_phone: FakePhone, model: PhoneModel
) -> None:
    with session.placed(model, capacity=16) as folder:
        fake_phone.update(allowed_cpus=[0, 1, 2, 3])
        with pytest.raises(CoresWithheldError, match="--cpus"):
            session.run(folder, REQUEST)


def test_a_library_for_another_processor_is_told(
    fake_phone: FakePhone, library: RuntimeLibrary, model: PhoneModel, tmp_path: Path
) -> None:
    path = tmp_path / "lib of mine.so"
    path.write_bytes(b"\x7fELF\x01\x01" + bytes(200))
    wrong = replace(library, path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with (
        Session(phone_adb(fake_phone), wrong) as session,
        session.placed(model, capacity=16) as folder,
        pytest.raises(WrongLibraryError, match="phone setup"),
    ):
        session.run(folder, REQUEST)


def test_a_runner_that_cannot_be_started_is_told(
    session: Session, fake_phone: FakePhone, model: PhoneModel
) -> None:
    with session.placed(model, capacity=16) as folder:
        fake_phone.place(f"{REMOTE_FOLDER}/bin/runner").chmod(0o644)
        with pytest.raises(RunnerStartError, match="arm64-v8a"):
            session.run(folder, REQUEST)
