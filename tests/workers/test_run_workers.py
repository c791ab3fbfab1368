"""`phonesearch run --workers`, as somebody types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleets import LINES, environment
from postgres import PASSWORD

from phonesearch.errors import WorkerError
from phonesearch.study.crew import LocalCrew, gpu_of
from phonesearch.study.folder import open_folder
from phonesearch.study.storage import STORAGE_VARIABLE
from phonesearch.study.store import read_records

pytestmark = pytest.mark.crowd

QUICK = ["--space", "tiny", "--budget", "300k", "--proxy", "prior", "--sampler", "random"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for part in range(40):
        (folder / f"{part}.txt").write_text("".join(LINES[part * 150 : (part + 1) * 150]))
    return folder


def start(*arguments: str, cache: str, url: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "phonesearch.cli", "run", *arguments],
        env={**environment(url), "XDG_CACHE_HOME": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, cache: str, url: str | None = None, code: int = 0) -> str:
    process = start(*arguments, cache=cache, url=url)
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert PASSWORD not in out + err
    assert "so%2Fsecret" not in out + err
    return err


def wait_for(what: object, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def tend(crew: LocalCrew) -> None:
    """As a run does whose workers finish nothing."""
    for _ in range(600):
        crew.tend({}, {})
        time.sleep(0.1)


def finished_in(log_folder: Path) -> int:
    return sum(path.read_text().count("tokens/s") for path in log_folder.glob("*.log"))


def child_pids(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in found]


def test_a_run_of_two_workers_in_its_own_folder(cache: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    err = run(*QUICK, "--trials", "12", "--workers", "2", "--out", str(out), cache=cache)
    assert "2 workers" in err
    assert (out / "report.html").is_file()
    assert len(read_records(open_folder(out))) == 12
    run("--resume", str(out), "--trials", "16", "--workers", "3", cache=cache)
    assert len(read_records(open_folder(out))) == 16
    assert (out / "workers" / "3.log").is_file()


@pytest.mark.slow
def test_trainings_in_workers_that_are_killed(cache: str, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "run"
    options = ["--space", "tiny", "--budget", "300k", "--proxy", "each", "--data", str(text)]
    options += ["--proxy-parameters", "20k", "--proxy-tokens", "60k", "--trials", "6"]
    process = start(*options, "--workers", "2", "--out", str(out), cache=cache)
    wait_for(lambda: finished_in(out / "workers") >= 1)
    for pid in child_pids(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    records = read_records(open_folder(out))
    assert len(records) == len({record.candidate_id for record in records}) == 6
    assert all(record.proxy is not None for record in records)
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_the_run_goes_on(cache: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(*QUICK, "--trials", "1500", "--workers", "2", "--out", str(out), cache=cache)
    wait_for(lambda: finished_in(out / "workers") >= 3)
    pids = child_pids(process.pid)
    assert len(pids) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "Go on with: phonesearch run --resume" in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    done = len(read_records(open_folder(out)))
    assert done >= 3
    process = start("--resume", str(out), cache=cache)
    wait_for(lambda: finished_in(out / "workers") >= done + 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert f"{done} of 1500 trials are finished already" in err


@pytest.mark.slow
def test_workers_of_a_run_that_is_killed_end_themselves(cache: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(*QUICK, "--trials", "1500", "--workers", "2", "--out", str(out), cache=cache)
    wait_for(lambda: finished_in(out / "workers") >= 1)
    pids = child_pids(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(_is_running(pid) for pid in pids), seconds=20)


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_a_run_in_a_database_and_workers_from_elsewhere(
    cache: str, tmp_path: Path, postgres_url: str
) -> None:
    out = tmp_path / "my run"
    process = start(
        *QUICK, "--trials", "10", "--workers", "0", "--out", str(out), cache=cache, url=postgres_url
    )
    wait_for(lambda: (out / "study.id").is_file())
    time.sleep(1)
    worker = [sys.executable, "-m", "phonesearch.cli", "worker", "--study", "my run"]
    done = subprocess.run(
        worker, env=environment(postgres_url), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "waiting for workers started elsewhere" in err
    settings = (out / "settings.yaml").read_text()
    assert "secret" not in settings
    assert "***" in settings
    # Reports need neither the server nor the password.
    assert len(read_records(open_folder(out))) == 10
    problem = run("--resume", str(out), "--trials", "12", cache=cache, code=1)
    assert "is not kept" in problem
    assert STORAGE_VARIABLE in problem
    run(
        "--resume",
        str(out),
        "--trials",
        "12",
        "--storage",
        postgres_url,
        "--workers",
        "1",
        cache=cache,
    )
    assert len(read_records(open_folder(out))) == 12


def test_a_worker_whose_error_is_its_own_ends_the_run_with_it(
    tmp_path: Path,
) -> None:
    crew = LocalCrew(
        1, tmp_path, url="sqlite:///" + str(tmp_path / "no.db"), study="nothing", num_gpus=0
    )
    with crew, pytest.raises(WorkerError, match=r"ended with an error(.|\n)*holds no studies"):
        tend(crew)


def test_one_that_dies_again_and_again_ends_the_run_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = LocalCrew(1, tmp_path, url="sqlite:///no.db", study="nothing", num_gpus=0)
    monkeypatch.setattr(
        crew, "_command", ["sh", "-c", "echo about to die >&2; kill -9 $$"], raising=True
    )
    with crew, pytest.raises(WorkerError, match=r"5 times in a row(.|\n)*-9(.|\n)*about to die"):
        tend(crew)


def test_cores_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("phonesearch.study.crew.num_cores", lambda: 8)
    crew = LocalCrew(3, tmp_path, url="sqlite:///no.db", study="nothing", num_gpus=0)
    assert crew._command[-2:] == ["--threads", "2"]
    assert crew._places[0].environment["OMP_NUM_THREADS"] == "2"
    assert "sqlite" not in " ".join(crew._command)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu_of(place, 2)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [gpu_of(place, 2)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["3", "5", "3"]
    assert gpu_of(0, 0) == {}


@pytest.mark.slow
def test_options_that_do_not_go_with_a_run_without_workers_are_refused(
    cache: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(*QUICK, "--trials", "2", "--out", str(out), cache=cache)
    assert json.loads((out / "environment.json").read_text())
    problem = run("--resume", str(out), "--workers", "2", cache=cache, code=1)
    assert "not in a database that workers share" in " ".join(problem.split())
