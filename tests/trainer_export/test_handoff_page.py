"""The page on the hand-off says what tests saw, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phonesearch.errors import InvalidFileError
from phonesearch.trainer_export.base import TARGETS
from phonesearch.trainer_export.handoff_page import SHORT_OF, WRITTEN, main, page_text

DOCS = Path(__file__).parents[2] / "docs"
LINE = {
    "target": "litgpt",
    "tool": "litgpt pretrain",
    "version": "9.8.7",
    "what": "trained something (5.1 nats)",
    "result": "it fell",
}


def test_the_committed_page_is_what_the_command_gives() -> None:
    assert main(["--check", "--folder", str(DOCS)]) == 0


def test_every_target_is_on_the_page() -> None:
    assert set(WRITTEN) == set(TARGETS)
    text = page_text(())
    assert all(f"| `{target}` | " in text for target in TARGETS)
    assert f"| `{next(iter(TARGETS))}` | not tried with anything that reads it |" in text
    assert set(SHORT_OF) <= set(TARGETS)


def test_the_last_of_what_was_done_with_one_tool_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "handoff").mkdir()
    again = LINE | {"what": "trained something (4.9 nats)", "version": "9.9"}
    other = LINE | {"target": "hf", "what": "built it"}
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in (LINE, again, other)))

    assert main(["--from", str(lines), "--folder", str(tmp_path)]) == 0

    text = (tmp_path / "handoff.md").read_text()
    assert "| `litgpt` | litgpt pretrain 9.9 | trained something (4.9 nats) | it fell |" in text
    assert "5.1 nats" not in text
    assert text.index("built it") < text.index("4.9 nats")  # in the order of the targets
    assert main(["--check", "--folder", str(tmp_path)]) == 0
    (tmp_path / "handoff.md").write_text(text.replace("9.9", "9.8"))
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert "run it again" in capsys.readouterr().err


def test_a_line_that_does_not_fit_is_named(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"target": "hf"}\n')
    with pytest.raises(InvalidFileError, match="lines"):
        main(["--from", str(lines), "--folder", str(tmp_path)])
