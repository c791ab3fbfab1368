"""What a run keeps of each measurement, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.candidate.config import candidate_id
from phonesearch.errors import InvalidFileError, RunFolderError
from phonesearch.study.folder import RunFolder, locked
from phonesearch.study.measurements import (
    MEASUREMENTS_FILE,
    Kept,
    keep_measurement,
    read_measurements,
    require_same_machine,
)
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.run import search
from phonesearch.study.settings import Constraints, RunSettings, without_serial
from phonesearch.study.store import read_records
from phonesearch.timing.base import Measurement

NewRun = Callable[[Path, RunSettings], RunFolder]


def measurement(step_s: float = 0.01, device: str = "a phone") -> Measurement:
    return Measurement(
        prompt_tokens=8,
        generate_tokens=8,
        prefill_samples_s=(0.2, 0.21),
        decode_samples_s=(step_s, step_s * 1.1, step_s),
        warmup_runs=1,
        num_threads=2,
        device=device,
        engine="onnxruntime 1.32.0 int4",
        peak_memory_bytes=None,
        conditions={"cpus_granted": [4, 5]},
    )


def kept(number: int, **changes: object) -> Kept:
    return Kept(number=number, candidate_id="c", measurement=measurement(**changes))  # type: ignore[arg-type]


def test_what_was_kept_is_read_back_and_the_last_of_a_trial_counts(tmp_path: Path) -> None:
    for one in (kept(0), kept(1), kept(0, step_s=0.5)):
        keep_measurement(tmp_path, one)
    assert read_measurements(tmp_path) == {0: kept(0, step_s=0.5), 1: kept(1)}


@pytest.mark.parametrize("line", ["{", "3", '{"number": 1}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    keep_measurement(tmp_path, kept(0))
    with (tmp_path / MEASUREMENTS_FILE).open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(InvalidFileError, match=MEASUREMENTS_FILE):
        read_measurements(tmp_path)


def test_times_of_another_machine_are_refused(tmp_path: Path) -> None:
    require_same_machine(tmp_path, "a phone")
    keep_measurement(tmp_path, kept(0))
    require_same_machine(tmp_path, "a phone")
    with pytest.raises(RunFolderError, match="holds times of a phone; this is another"):
        require_same_machine(tmp_path, "another")


def test_a_constraint_that_the_prediction_met_can_be_broken_by_the_measurement(
    settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    wanted = replace(settings, trials=2, constraints=Constraints(min_speed_tokens_per_s=50.0))
    folder = new_run(tmp_path / "run", wanted)
    made = prepare(wanted, folder.space, folder.profile, cache_dir=cache, observer=Silent())
    first, second = search(folder, made)
    for record, step_s in ((first, 0.001), (second, 1.0)):
        name = candidate_id(record.candidate)
        keep_measurement(
            folder.path,
            Kept(number=record.number, candidate_id=name, measurement=measurement(step_s)),
        )

    with locked(folder):
        fast, slow = read_records(folder)

    assert fast.state == "complete"
    assert fast.measured is not None
    assert fast.predicted == first.predicted
    assert slow.state == "infeasible"
    assert slow.reason is not None
    assert slow.reason.startswith("as measured, reaches 1 tokens/s")


def test_a_serial_number_is_left_out() -> None:
    assert [
        without_serial(device)
        for device in ("adb", "adb:R5CT1", "adb:A,adb:B", "host", "C:/x.yaml")
    ] == [
        "adb",
        "adb",
        "adb, 2 phones",
        "host",
        "C:/x.yaml",
    ]
