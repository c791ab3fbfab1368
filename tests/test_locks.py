"""A lock goes with its holder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from phonesearch.errors import RunFolderError
from phonesearch.locks import exclusive

HOLD = """
import sys, time
from pathlib import Path
from phonesearch.errors import RunFolderError
from phonesearch.locks import exclusive
with exclusive(Path(sys.argv[1]), taken=RunFolderError("taken")):
    print("held", flush=True)
    time.sleep(60)
"""
TAKEN = RunFolderError("Taken, wait for it.")


def test_one_at_a_time_in_a_process(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with exclusive(path, taken=TAKEN):
        with pytest.raises(RunFolderError, match="Taken"), exclusive(path, taken=TAKEN):
            pass
        with exclusive(tmp_path / "y.lock", taken=TAKEN):
            pass
    with exclusive(path, taken=TAKEN):
        pass


def test_a_holder_that_is_killed_holds_no_more(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError), exclusive(path, taken=TAKEN):
            pass
        holder.kill()
        holder.wait()
        with exclusive(path, taken=TAKEN):
            pass


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), exclusive(tmp_path / "file" / "x", taken=TAKEN):
        pass
