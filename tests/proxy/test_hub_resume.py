"""A dataset of the hub whose streaming is stopped: what is kept, and how it is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from fakehub import FakeHub
from hubtexts import ALL, MOST, NAME, add_in_four_files, file_of, parquet, read, rows_kept

from phonesearch.errors import CorpusError
from phonesearch.proxy import hub
from phonesearch.proxy.hub import hub_text
from phonesearch.proxy.hub_rows import open_rows


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_any_row_can_be_gone_on_from(fake: FakeHub, kind: str) -> None:
    """What a state means is for the library to say; it must be the row after the last one.

    Files end with rows 25, 50, 75 and 100, groups of rows in them with 10, 20, 25, 35 and so on.
    """
    add_in_four_files(fake, kind)
    with open_rows(
        NAME, revision=None, config=None, split="train", field="text", say=lambda _: None
    ) as rows:
        states = []
        for _ in rows:
            states.append(json.loads(json.dumps(rows.state())))
        assert len(states) == len(ALL)
        for position in (1, 9, 10, 11, 24, 25, 26, 35, 50, 51, 99, 100):
            rows.go_on(states[position - 1])
            assert list(rows) == ALL[position:]


def wait_for(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_killed_half_way_is_gone_on_with(fake: FakeHub, tmp_path: Path) -> None:
    """Killed while it waits for the last of four files, in the middle of writing a line."""
    commit = add_in_four_files(fake)
    fake.held.add("data/train-3.parquet")
    code = (
        "import sys\nfrom pathlib import Path\nfrom phonesearch.proxy import hub\n"
        "hub._CHECKPOINT_BYTES = 1\n"
        f"hub.hub_text('hf:{NAME}', 'text', most_bytes={MOST}, "
        "cache_dir=Path(sys.argv[1]), say=print)\n"
    )
    variables = {**os.environ, "HF_ENDPOINT": fake.url, "HF_HOME": str(tmp_path / "home")}
    broken = tmp_path / "broken"
    process = subprocess.Popen([sys.executable, "-c", code, str(broken)], env=variables)
    wait_for(lambda: rows_kept(broken) == 75, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with file_of(broken).open("ab") as file:
        file.write(b'{"text": "half a l')
    fake.held.clear()
    fake.released.set()
    fake.sent_bytes.clear()
    fake.add(NAME, {"train.parquet": parquet(["something else by now"])})
    said: list[str] = []
    text, _ = hub_text(f"hf:{NAME}", "text", most_bytes=MOST, cache_dir=broken, say=said.append)
    assert said == [f"Going on with hf:{NAME} after 75 rows"]
    # The first is asked what columns there are, and the third was not known to be finished.
    assert sorted(fake.sent_bytes) == [f"data/train-{part}.parquet" for part in (0, 2, 3)]
    whole, documents = read(tmp_path / "whole", f"hf:{NAME}@{commit}")
    assert text == whole
    assert file_of(broken).read_bytes() == file_of(tmp_path / "whole").read_bytes()
    assert [told for _, told in documents] == ALL


def test_a_hub_that_fails_half_way_is_one_clear_error(fake: FakeHub, tmp_path: Path) -> None:
    commit = add_in_four_files(fake)
    fake.broken["data/train-2.parquet"] = 403
    with pytest.raises(CorpusError, match=rf"answered 403 for hf:{NAME}.*same command goes on"):
        read(tmp_path / "broken")
    fake.broken.clear()
    text, documents = read(tmp_path / "broken")
    assert [told for _, told in documents] == ALL
    assert text == read(tmp_path / "whole", f"hf:{NAME}@{commit}")[0]


def test_text_once_streamed_is_used_without_the_hub_or_the_library(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = add_in_four_files(fake)
    first = read(tmp_path)
    fake.add(NAME, {"train.parquet": parquet(["something else by now"])})
    fake.stop()
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert read(tmp_path) == first
    assert first[0].commit == commit


@pytest.mark.parametrize("damage", ["shorter", "other", "gone"])
def test_damaged_text_is_streamed_again_from_the_same_commit(
    fake: FakeHub, tmp_path: Path, damage: str
) -> None:
    add_in_four_files(fake)
    first = read(tmp_path)
    fake.add(NAME, {"train.parquet": parquet(["something else by now"])})
    whole = file_of(tmp_path).read_bytes()
    if damage == "gone":
        file_of(tmp_path).unlink()
    else:
        file_of(tmp_path).write_bytes(whole[:-9] + (b"" if damage == "shorter" else b"x" * 9))
    assert read(tmp_path) == first
    assert file_of(tmp_path).read_bytes() == whole


def test_a_state_of_another_version_of_the_library_is_not_used(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_CHECKPOINT_BYTES", 1)
    add_in_four_files(fake)
    fake.broken["data/train-2.parquet"] = 403
    with pytest.raises(CorpusError, match="answered 403"):
        read(tmp_path)
    fake.broken.clear()
    path = file_of(tmp_path, "source.json")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["num_rows"] == 50
    path.write_text(json.dumps({**kept, "library": "5.1.0", "iterator": {"unknown": 1}}))
    assert [told for _, told in read(tmp_path)[1]] == ALL


def test_another_that_streams_the_same_is_waited_for(fake: FakeHub, tmp_path: Path) -> None:
    add_in_four_files(fake)
    read(tmp_path)
    lock = filelock.FileLock(file_of(tmp_path).with_name("lock"), thread_local=False)
    # Taken in another thread, as one thread may not wait for itself.
    holder = threading.Thread(target=lock.acquire)
    holder.start()
    holder.join()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        threading.Timer(0.2, lock.release).start()

    hub_text(f"hf:{NAME}", "text", most_bytes=MOST, cache_dir=tmp_path, say=say)
    assert said == [f"Waiting for another phonesearch, which is streaming hf:{NAME}"]
