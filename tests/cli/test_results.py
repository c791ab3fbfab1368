"""What a finished run says on stdout, by what its losses come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.cli.results import print_results
from phonesearch.device.profile import read_profile
from phonesearch.front.pareto import front
from phonesearch.proxy.result import ProxyLoss
from phonesearch.report.build import Built
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score, ScoreKind
from phonesearch.study.stopwatch import Turn, predicted


def record(number: int, candidate: Candidate, kind: ScoreKind, log_loss: float) -> TrialRecord:
    """The higher its number, the longer its prompt turn and the slower."""
    profile = read_profile("snapdragon8gen3")
    turn = Turn(prompt_tokens=32 + 64 * number, generate_tokens=32)
    proxy = ProxyLoss(
        bits_per_byte=1.234,
        standard_error=0.01,
        passed_transition=True,
        copy_gap_nats=0.5,
        tokens=1000,
        seconds=1.0,
        proxy={},
        recipe={},
        curve=(),
    )
    return TrialRecord(
        number=number,
        state="complete",
        reason=None,
        candidate=candidate,
        candidate_id=f"id{number}",
        num_parameters=1000,
        num_non_embedding_parameters=900,
        weight_bytes=500,
        peak_memory_bytes=700,
        predicted=predicted(candidate, profile, engine=None, turn=turn).speed,
        measured=None,
        prefill_seconds_by_operator=None,
        decode_seconds_by_operator=None,
        score=Score(
            kind=kind,
            log_loss=log_loss,
            law=log_loss,
            prior=0.0,
            proxy=0.0,
            shared=(0.5,),
            own_sd=0.005,
        ),
        proxy=proxy if kind == "each" else None,
        started_at="2026-11-24T00:00:00+00:00",
        seconds=2.0,
    )


def printed(
    kind: ScoreKind, candidate: Candidate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> str:
    records = [
        record(number, candidate, kind, log_loss)
        for number, log_loss in enumerate((0.05, 0.004, 0.0))
    ]
    found = front(records, "turn")
    assert len(found.members) == 3
    print_results(
        Built(folder=tmp_path, report=tmp_path / "report.html", front=found, quality=None)
    )
    return capsys.readouterr().out


def test_the_table_of_a_run_by_priors_says_that_nothing_was_trained(
    tiny: Candidate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed("prior", tiny, capsys, tmp_path)

    assert "loss: nothing was trained" in text
    assert "bits/byte" not in text


def test_the_table_gives_losses_above_the_lowest_and_names_the_recommended(
    tiny: Candidate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """hypot(0.5 %, 0.5 %) = 0.7 %, so the second is tied with the third and faster."""
    text = printed("anchors", tiny, capsys, tmp_path)
    rows = [line for line in text.splitlines() if " x " in line]

    assert "+5.1 %  0.7 %" in rows[0]
    assert "+0.4 %  0.7 %" in rows[1]
    assert "recommended" in rows[1]
    assert "lowest" in rows[2]
    assert "short trainings of other architectures" in text


def test_the_table_shows_a_training_of_its_own_in_bits_per_byte(
    tiny: Candidate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed("each", tiny, capsys, tmp_path)

    assert "bits/byte" in text
    assert text.count("1.234") == 3
