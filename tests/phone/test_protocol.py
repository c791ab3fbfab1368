"""The order of a measurement and what is done anew, on a phone that is made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneNotFitError, RunnerKilledError, UnsteadyPhoneError
from phonesearch.onnx_export.recipe import Parts
from phonesearch.phone import protocol
from phonesearch.phone.clock import Clock
from phonesearch.phone.cores import Core
from phonesearch.phone.device import PhoneReport, read_answers
from phonesearch.phone.judge import Limits
from phonesearch.phone.logits import Agreement
from phonesearch.phone.protocol import Bench, Measured, Reference
from phonesearch.phone.pushed import PhoneModel, RunRequest
from phonesearch.phone.readings import Battery, Heat
from phonesearch.phone.runner_output import RunReport
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.timing.exchange import Stretch

LIBRARY = RuntimeLibrary(
    path="",
    sha256="ab",
    size_bytes=0,
    version="1.29.0",
    api_level=24,
    source="x.aar",
    source_sha256="",
    warnings=(),
)
STRETCHES = (Stretch(new_tokens=4, past_tokens=0), Stretch(new_tokens=1, past_tokens=4, steps=32))


def report(
    decode_s: float, *, last_s: float | None = None, other_s: float | None = None
) -> RunReport:
    """Two rounds; the last quarter may be slower, or the second round."""
    first = (decode_s,) * 32
    second = (other_s or decode_s,) * 16 + (last_s or other_s or decode_s,) * 16
    return RunReport(
        onnxruntime_version="1.29.0",
        num_threads=2,
        cpus_granted=(6, 7),
        has_dot_product=True,
        samples_s=(((1.0,), (1.0,)), (first, second)),
        clocks_hz=(),
        is_finite=True,
        peak_memory_bytes=None,
        cache_bytes=0,
        load_s=1.0,
    )


class MadeUp:
    """A session whose runs give what a test lists, and whose state is what it sets."""

    def __init__(self) -> None:
        self.library = LIBRARY
        self.runner_sha256 = "cd"
        self.link = SimpleNamespace(held=lambda doing: doing(), losses=0)
        self.references: list[RunReport] = []
        self.models: list[RunReport | Exception] = []
        self.asked: list[str] = []
        self.placed_now: list[str] = []
        self.states: list[dict[str, Any]] = []
        self.now_s = 0.0
        self.slept_s: list[float] = []
        self.said: list[str] = []

    @contextmanager
    def placed(self, model: PhoneModel, *, capacity: int) -> Iterator[str]:
        name = "reference" if model.graph.parent.name == "reference" else "model"
        self.placed_now.append(name)
        try:
            yield name
        finally:
            self.placed_now.remove(name)

    def run(self, folder: str, request: RunRequest) -> RunReport:
        self.asked.append(folder)
        if folder == "reference":
            return self.references.pop(0) if self.references else report(1.0)
        found = self.models.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def state(self, _: Any) -> PhoneReport:
        changes = self.states.pop(0) if self.states else {}
        return replace(
            read_answers({}, serial="S1"),
            heat=Heat(status=changes.get("status", 0)),
            battery=Battery(temperature_c=changes.get("battery_c", 30.0)),
            is_low_power=changes.get("is_low_power", False),
            cores=tuple(
                Core(
                    number=number,
                    name="Cortex-X4",
                    is_online=True,
                    max_clock_hz=3_000_000_000,
                    allowed_clock_hz=3_000_000_000,
                    clock_hz=None,
                    governor=None,
                )
                for number in (6, 7)
            ),
        )

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    made_up = MadeUp()
    monkeypatch.setattr(protocol, "survey", made_up.state)
    monkeypatch.setattr(protocol, "glance", made_up.state)

    def check(session: Any, folder: str, *_: Any, **__: Any) -> Agreement:
        made_up.asked.append(f"logits of {folder}")
        return Agreement(largest=1e-6, kernels=0.03)

    monkeypatch.setattr(protocol, "check_logits", check)
    return made_up


@pytest.fixture
def bench(phone: MadeUp, tiny: Candidate, tmp_path: Path) -> Iterator[Bench]:
    with Bench(
        phone,  # type: ignore[arg-type]
        parts=Parts(tmp_path / "parts"),
        folder=tmp_path / "reference",
        reference=Reference(candidate=tiny, stretches=STRETCHES),
        limits=Limits(),
        clock=Clock(now=lambda: phone.now_s, sleep=phone.sleep),
        say=phone.said.append,
    ) as opened:
        yield opened


@pytest.fixture
def measure(bench: Bench, tmp_path: Path) -> Callable[[], Measured]:
    def run() -> Measured:
        request = bench.request(STRETCHES, warmup_rounds=1, rounds=2)
        return bench.measure(
            PhoneModel(graph=tmp_path / "g"), request, host_graph=lambda path: path
        )

    return run


def test_logits_come_before_times_and_a_reference_serves_two_models(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.models = [report(2.0), report(3.0)]
    found = [measure(), measure()]
    assert phone.asked == [
        "logits of reference",
        "reference",
        "logits of model",
        "model",
        "reference",
        "logits of model",
        "model",
        "reference",
    ]
    assert [one.report.all_samples_s(1)[0] for one in found] == [2.0, 3.0]
    assert [one.conditions["tries"] for one in found] == [1, 1]
    assert found[0].conditions["notes"] == []
    assert found[0].conditions["cpus_asked"] == [6, 7]
    assert found[0].conditions["num_threads"] == 2
    assert phone.placed_now == ["reference"]


def test_a_measurement_in_which_the_reference_moved_is_thrown_away(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.references = [report(1.0), report(1.06), report(1.04)]
    phone.models = [report(9.0), report(2.0)]
    found = measure()
    assert found.report.all_samples_s(1)[0] == 2.0
    assert found.conditions["tries"] == 2
    assert found.conditions["notes"] == ["thrown away: the reference moved by +6.0%"]
    assert phone.said == ["Measuring anew (thrown away: the reference moved by +6.0%)"]
    assert found.conditions["reference"]["after"]["decode_s"] == 1.04


def test_a_slow_drift_away_from_the_first_reference_is_an_error(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.references = [report(1.0), report(1.04), report(1.08), report(1.08), report(1.08)]
    phone.models = [report(2.0) for _ in range(4)]
    measure()
    with pytest.raises(UnsteadyPhoneError, match=r"moved by \+8\.0% .*3 times"):
        measure()


def test_a_run_that_slowed_down_is_cooled_and_done_anew(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.models = [report(2.0, last_s=2.3), report(2.0)]
    found = measure()
    assert found.conditions["throttled"] == 1
    assert found.conditions["notes"] == [
        "throttled: its last quarter was 15% slower than its first"
    ]
    assert found.conditions["drift"] == 0.0
    assert phone.said == [
        "Measuring anew (throttled: its last quarter was 15% slower than its first)"
    ]


def test_a_phone_that_always_slows_down_is_an_error(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.models = [report(2.0, last_s=2.3) for _ in range(3)]
    with pytest.raises(UnsteadyPhoneError, match="slows down while it is measured: its last"):
        measure()
    assert len(phone.said) == 2  # the third is the error
    assert phone.placed_now == ["reference"]


def test_rounds_that_scatter_are_repeated_once_and_said(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.models = [report(2.0, other_s=2.15), report(2.0, other_s=2.15)]
    found = measure()
    assert found.conditions["notes"] == ["repeated: rounds 7.2% apart", "kept: rounds 7.2% apart"]
    assert phone.said == ["Measuring anew (repeated: rounds 7.2% apart)"]
    assert found.conditions["spread"][1] == pytest.approx(0.15 / 2.075)


def test_a_hot_phone_is_polled_until_it_is_cool(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.states = [{}, {"status": 2}, {"battery_c": 33.5}, {}]  # survey, then three glances
    phone.models = [report(2.0)]
    measure()
    assert phone.slept_s == [10.0, 10.0]
    assert phone.said == ["Waiting for the phone to cool: its thermal status is 2 of 6"]


def test_a_phone_that_stays_hot_is_an_error_after_five_minutes(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.states = [{}] + 100 * [{"status": 1}]
    with pytest.raises(UnsteadyPhoneError, match="did not cool down within 300 s: its thermal"):
        measure()
    assert phone.now_s == 300.0
    assert len(phone.said) == 10  # one each 30 s
    assert phone.asked == ["logits of reference"]


def test_a_phone_that_saves_power_is_refused(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.states = [{"is_low_power": True}]
    with pytest.raises(PhoneNotFitError, match="Battery saver is on"):
        measure()
    assert phone.asked == []


def test_a_model_that_cannot_be_run_leaves_the_reference_for_the_next(
    phone: MadeUp, measure: Callable[[], Measured]
) -> None:
    phone.models = [RunnerKilledError("killed", exit_code=137), report(2.0)]
    with pytest.raises(RunnerKilledError):
        measure()
    assert phone.placed_now == ["reference"]
    assert measure().conditions["tries"] == 1
