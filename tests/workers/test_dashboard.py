"""optuna-dashboard shows a run with its objectives by name and in the right direction."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleets import QuickRun, environment
from postgres import free_port, lack

Quick = Callable[..., QuickRun]


def fetched(port: int, path: str) -> Any:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_the_dashboard_names_the_objectives_and_knows_their_directions(
    quick: Quick, any_url: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec("optuna_dashboard") is None:
        lack("needs optuna-dashboard")
    run = quick(any_url, trials=8)
    assert run.worker().work() == 8
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [
                *(sys.executable, "-c", "from optuna_dashboard._cli import main; main()"),
                *(any_url.replace("{", "%7B").replace("}", "%7D"), "--port", str(port)),
            ],
            env=environment(),
            stdout=stream,
            stderr=stream,
        )
    try:
        (study,) = fetched(port, "/api/studies")["study_summaries"]
        assert study["study_name"] == "quick"
        found = fetched(port, f"/api/studies/{study['study_id']}")
    finally:
        server.kill()
        server.wait()
    assert found["directions"] == ["maximize", "minimize"]
    assert found["objective_names"] == ["decode_tokens_per_s", "log_loss"]
    best = run.study().best_trials
    assert {trial["number"] for trial in found["best_trials"]} == {one.number for one in best}
    first = run.study().get_trials(deepcopy=False)[0]
    (shown,) = [trial for trial in found["trials"] if trial["number"] == 0]
    assert [float(value) for value in shown["values"]] == first.values
