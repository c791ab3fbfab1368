"""The page on the hand-off says what tests saw, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from phonesearch.trainer_export.base import TARGETS
from phonesearch.trainer_export.handoff_page import (
    SHORT_OF,
    WRITTEN,
    Rounding,
    Scored,
    main,
    page_text,
)

DOCS = Path(__file__).parents[2] / "docs"
LINE = {
    "target": "litgpt",
    "tool": "litgpt pretrain",
    "version": "9.8.7",
    "what": "trained something (5.1 nats)",
    "result": "it fell",
}

ROUNDING = Rounding(
    parameters=1234,
    tokens=5678,
    windows=9,
    context_length=128,
    corpus="old letters",
    command="python benchmarks/int4_quality.py",
    rows=(
        Scored(form="float32", runtime="transformers 5", bits_per_byte=2.0),
        Scored(form="int4", runtime="onnxruntime 1", bits_per_byte=2.05),
    ),
)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with what the page is made of, but for what was tried."""
    (tmp_path / "handoff").mkdir()
    (tmp_path / "handoff" / "rounding.json").write_text(json.dumps(asdict(ROUNDING)))
    return tmp_path


def test_the_committed_page_is_what_the_command_gives() -> None:
    assert main(["--check", "--folder", str(DOCS)]) == 0


def test_every_target_is_on_the_page() -> None:
    assert set(WRITTEN) == set(TARGETS)
    text = page_text((), ROUNDING)
    assert all(f"| `{target}` | " in text for target in TARGETS)
    assert f"| `{next(iter(TARGETS))}` | not tried with anything that reads it |" in text
    assert set(SHORT_OF) <= set(TARGETS)


def test_what_rounding_costs_is_held_against_the_checkpoint() -> None:
    text = page_text((), ROUNDING)
    assert "One model of 1,234 parameters" in text
    assert "| float32 | transformers 5 | 2.0000 | +0.00 % |" in text
    assert "| int4 | onnxruntime 1 | 2.0500 | +2.50 % |" in text


def test_the_last_of_what_was_done_with_one_tool_is_kept(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = LINE | {"what": "trained something (4.9 nats)", "version": "9.9"}
    other = LINE | {"target": "hf", "what": "built it"}
    lines = docs / "lines"
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in (LINE, again, other)))

    assert main(["--from", str(lines), "--folder", str(docs)]) == 0

    text = (docs / "handoff.md").read_text()
    assert "| `litgpt` | litgpt pretrain 9.9 | trained something (4.9 nats) | it fell |" in text
    assert "5.1 nats" not in text
    assert text.index("built it") < text.index("4.9 nats")  # in the order of the targets
    assert main(["--check", "--folder", str(docs)]) == 0
    (docs / "handoff.md").write_text(text.replace("9.9", "9.8"))
    assert main(["--check", "--folder", str(docs)]) == 1
    assert "run it again" in capsys.readouterr().err


def test_what_is_missing_is_named_with_what_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "rounding.json" in told
    assert "make it with: python benchmarks/int4_quality.py" in told


def test_a_line_that_does_not_fit_is_named(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = docs / "lines"
    lines.write_text('{"target": "hf"}\n')
    assert main(["--from", str(lines), "--folder", str(docs)]) == 1
    assert str(lines) in capsys.readouterr().err
