"""The whole loop on real, tiny candidates."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from phonesearch.candidate.count import total_parameters
from phonesearch.errors import RunFolderError, SettingsError
from phonesearch.study.folder import RunFolder, locked, open_folder, raise_trials
from phonesearch.study.meter import HostMeter
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.record import TrialRecord
from phonesearch.study.run import search
from phonesearch.study.settings import Constraints, RunSettings
from phonesearch.study.store import open_study, read_records

NewRun = Callable[[Path, RunSettings], RunFolder]


def run(folder: RunFolder, cache: Path) -> tuple[TrialRecord, ...]:
    prepared = prepare(
        folder.settings, folder.space, folder.profile, cache_dir=cache, observer=Silent()
    )
    meter = HostMeter(folder=folder.path) if folder.profile.measured else None
    return search(folder, prepared, meter=meter)


@pytest.fixture(scope="module")
def finished(
    settings: RunSettings, cache: Path, tmp_path_factory: pytest.TempPathFactory, new_run: NewRun
) -> RunFolder:
    folder = new_run(tmp_path_factory.mktemp("runs") / "first", settings)
    run(folder, cache)
    return folder


def test_every_candidate_has_both_objectives_and_meets_the_budget(finished: RunFolder) -> None:
    records = read_records(finished)
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert len({record.candidate_id for record in records}) == 4
    for record in records:
        assert record.state == "complete", record.reason
        assert record.measured is None
        assert record.predicted is not None
        assert record.proxy is not None
        assert np.isfinite(record.proxy.bits_per_byte)
        assert abs(total_parameters(record.candidate) / 300_000 - 1) <= 0.01


def test_optuna_holds_the_same_objectives(finished: RunFolder) -> None:
    for trial, record in zip(open_study(finished).trials, read_records(finished), strict=True):
        assert trial.state == TrialState.COMPLETE
        assert record.predicted is not None
        assert record.score is not None
        assert trial.values == [
            record.predicted.decode_tokens_per_s,
            record.score.log_loss,
        ]


def test_the_same_seed_gives_the_same_candidates_and_speeds_to_the_last_digit(
    finished: RunFolder, settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    again = run(new_run(tmp_path / "again", settings), cache)
    for first, second in zip(read_records(finished), again, strict=True):
        assert first.candidate == second.candidate
        assert first.predicted == second.predicted
        assert first.proxy is not None
        assert second.proxy is not None
        assert first.proxy.bits_per_byte == second.proxy.bits_per_byte


def test_a_finished_run_can_be_asked_for_more_trials(finished: RunFolder, cache: Path) -> None:
    before = read_records(finished)
    more = raise_trials(finished, 6)
    after = run(open_folder(finished.path), cache)
    assert more.settings.trials == 6
    assert after[:4] == before
    assert len({record.candidate_id for record in after}) == 6


def test_a_run_that_another_process_holds_is_left_alone(
    settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    folder = new_run(tmp_path / "busy", settings)
    with locked(folder), pytest.raises(RunFolderError, match="Another process"):
        run(folder, cache)


def test_a_candidate_that_fails_is_recorded_and_the_study_goes_on(
    settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    """A learning rate that no proxy survives: every trial fails, with its reason."""
    hopeless = replace(settings.proxy, matrix_lr=1e30, other_lr=1e30)
    records = run(new_run(tmp_path / "failing", replace(settings, proxy=hopeless)), cache)
    assert [record.state for record in records] == ["failed"] * 4
    for record in records:
        assert record.reason
        assert record.predicted is not None


def test_constraints_hold_for_every_candidate(
    finished: RunFolder, settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    """The limit is the median of an unconstrained run, so that it bites."""
    memory = sorted(record.peak_memory_bytes for record in read_records(finished))
    limit = memory[len(memory) // 2]
    limited = replace(settings, constraints=Constraints(max_memory_bytes=limit))
    records = run(new_run(tmp_path / "limited", limited), cache)
    assert max(record.peak_memory_bytes for record in records) <= limit
    assert {record.state for record in records} == {"complete"}


def test_constraints_that_nothing_meets_are_refused_before_the_run(
    settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    impossible = replace(settings, constraints=Constraints(min_speed_tokens_per_s=1e9))
    with pytest.raises(SettingsError, match=r"None of .* --min-speed is 1e\+09"):
        run(new_run(tmp_path / "impossible", impossible), cache)


def test_on_the_host_speeds_are_measured(
    settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    short = replace(settings, device="host", trials=1, jobs=1, prompt_tokens=8, generate_tokens=8)
    (record,) = run(new_run(tmp_path / "host", short), cache)
    assert record.predicted is None
    assert record.measured is not None
    assert record.measured.ttft.value_s > 0
    assert not list((tmp_path / "host").glob(".timing-*"))


KILLED = """
import sys
from pathlib import Path
from phonesearch.study.folder import open_folder
from phonesearch.study.meter import HostMeter
from phonesearch.study.observer import Silent
from phonesearch.study.prepare import prepare
from phonesearch.study.run import search

if __name__ == "__main__":
    folder = open_folder(Path(sys.argv[1]))
    made = prepare(
        folder.settings, folder.space, folder.profile, cache_dir=Path(sys.argv[2]),
        observer=Silent(),
    )
    print("prepared", flush=True)
    search(folder, made)
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_it_never_was(
    finished: RunFolder, settings: RunSettings, cache: Path, tmp_path: Path, new_run: NewRun
) -> None:
    """`kill -9` of the whole process, ten times, then to the end: what is finished is kept."""
    folder = new_run(tmp_path / "killed", replace(settings, trials=6))
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder.path), str(cache)]
    generator = np.random.default_rng(0)
    seen: tuple[TrialRecord, ...] = ()
    numbers: set[int] = set()
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "prepared\n"
            time.sleep(float(generator.uniform(0, 9)))
            os.kill(process.pid, signal.SIGKILL)
        records = read_records(folder) if (folder.path / "study.db").is_file() else ()
        assert {record.number: record for record in seen} == {
            record.number: record for record in records if record.number in numbers
        }
        seen, numbers = records, {record.number for record in records}
    records = run(folder, cache)
    assert [record.number for record in records] == list(range(6))
    assert len({record.candidate_id for record in records}) == 6
    assert all(record.state == "complete" for record in records)
    assert len(open_study(folder).trials) == 6
    for record, undisturbed in zip(records, read_records(finished), strict=False):
        assert record.candidate == undisturbed.candidate
