"""What is tried again and what is not, without a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from phonesearch.errors import IllegalInstructionError, RunnerHungError, RunnerKilledError
from phonesearch.phone.pushed import RunRequest
from phonesearch.phone.runner_output import RunReport
from phonesearch.phone.runtime import RuntimeLibrary
from phonesearch.phone.session import Session
from phonesearch.timing.exchange import Stretch

if TYPE_CHECKING:
    from tests.conftest import StubAdb

REQUEST = RunRequest(
    stretches=(Stretch(new_tokens=1, past_tokens=0),), num_threads=1, cpus=(7,), max_seconds=5
)
REPORT = RunReport(
    onnxruntime_version="1.29.0",
    num_threads=1,
    cpus_granted=(7,),
    has_dot_product=True,
    samples_s=(((1.0,),),),
    clocks_hz=(),
    is_finite=True,
    peak_memory_bytes=None,
    cache_bytes=0,
    load_s=0.1,
)


class Runs:
    """Stands in for one run: gives or raises what is listed."""

    def __init__(self, *ends: RunReport | Exception) -> None:
        self.ends = list(ends)
        self.plain: list[bool] = []

    def __call__(self, folder: str, graph: str, request: RunRequest, dump: Any) -> RunReport:
        self.plain.append(request.is_plain)
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def session(stub: StubAdb, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Session:
    library = RuntimeLibrary(
        path="",
        sha256="ab",
        size_bytes=0,
        version="1.29.0",
        api_level=24,
        source="x.aar",
        source_sha256="",
        warnings=(),
    )
    opened = Session(stub.phone, library)
    monkeypatch.setattr(opened, "_run", runs)
    stub.has("getprop", "echo x")
    stub.has("pgrep", "exit 1")
    return opened


def sigill() -> IllegalInstructionError:
    return IllegalInstructionError("SIGILL.", exit_code=132)


def test_an_illegal_instruction_is_traced_to_kleidiai(
    stub_adb: StubAdb, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(sigill(), REPORT)
    with pytest.raises(IllegalInstructionError, match="Without the kernels of KleidiAI it runs"):
        session(stub_adb, runs, monkeypatch).run("x", REQUEST)
    assert runs.plain == [False, True]


def test_or_not(stub_adb: StubAdb, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(sigill(), sigill())
    with pytest.raises(IllegalInstructionError, match=r"^SIGILL\.$"):
        session(stub_adb, runs, monkeypatch).run("x", REQUEST)


def test_a_hang_is_tried_once_more(stub_adb: StubAdb, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = RunnerHungError("hung", exit_code=142)
    assert session(stub_adb, Runs(hung, REPORT), monkeypatch).run("x", REQUEST) is REPORT
    with pytest.raises(RunnerHungError):
        session(stub_adb, Runs(hung, hung), monkeypatch).run("x", REQUEST)


def test_a_runner_that_was_killed_is_not_tried_again(
    stub_adb: StubAdb, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(RunnerKilledError("killed", exit_code=137))
    with pytest.raises(RunnerKilledError):
        session(stub_adb, runs, monkeypatch).run("x", REQUEST)
    assert runs.plain == [False]
