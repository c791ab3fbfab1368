"""What can be wrong with a dataset of the hub, or on the way to it: one message each."""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path

import pytest
from fakehub import FakeHub
from hubtexts import NAME, add_in_four_files, json_lines, parquet, read

from phonesearch.errors import CorpusError
from phonesearch.proxy.hub_rows import open_rows


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        (
            "hf:nobody/nothing",
            "text",
            r"hub has no dataset 'nobody/nothing', or it is private.*HF_",
        ),
        (f"hf:{NAME}@v9", "text", "no revision 'v9'"),
        (f"hf:{NAME}:large", "text", "no configuration 'large'; it has default"),
        (f"hf:{NAME}::test", "text", "no split 'test' in configuration default; it has train"),
        (f"hf:{NAME}", "body", r"no field 'body'; it has text, stars\. Name the one.*--data-field"),
        (f"hf:{NAME}", "stars", "Field 'stars' of hf:.* holds int64, not text.*--data-field"),
    ],
)
def test_what_is_not_there_is_one_clear_error(
    fake: FakeHub, tmp_path: Path, given: str, field: str, message: str
) -> None:
    add_in_four_files(fake)
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, given, field)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.parquet": parquet([])}, "Split 'train' of .* holds no text: its 0 rows"),
        ({"train.parquet": parquet(["", " "])}, "holds no text: its 2 rows have none in field"),
        ({"train.jsonl": b""}, "holds no text|cannot be read"),
        ({"README.md": b"# Nothing yet"}, "holds no files of a kind"),
        ({"model.bin": b"0"}, "holds no files of a kind"),
        ({"train.parquet": b"no table at all"}, "cannot be read.*(parquet|Parquet)"),
        ({"train.json": b'[{"body": "x"}]'}, "no field 'text'; it has body"),
        ({"train.jsonl": b'{"text": {"en": "x"}}'}, "Field 'text' of .* holds .*, not text"),
    ],
)
def test_a_dataset_without_text_is_one_clear_error(
    fake: FakeHub, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    fake.add(NAME, files)
    with pytest.raises(CorpusError, match=message):
        read(tmp_path)


def test_a_gated_dataset_says_how_to_get_in(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(NAME, {"train.parquet": parquet(["secret"])}, is_gated=True)
    with pytest.raises(CorpusError, match=r"is gated.*huggingface\.co/datasets/.*HF_TOKEN"):
        read(tmp_path)


def test_without_a_network_it_says_so(fake: FakeHub, tmp_path: Path) -> None:
    add_in_four_files(fake)
    fake.stop()
    with pytest.raises(CorpusError, match=r"hub cannot be reached.*Check the connection"):
        read(tmp_path)


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r'not installed.*pip install "phonesearch\[data\]"'):
        read(tmp_path)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(fake: FakeHub, tmp_path: Path) -> None:
    """The most that a file may have stands in for the room on the disk."""
    fake.add(NAME, {f"train-{part}.jsonl": json_lines(["word " * 20_000]) for part in range(9)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, hard))
    try:
        with pytest.raises(CorpusError, match=r"cannot be kept in .*too large.*Free some space"):
            read(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text, documents = read(tmp_path)
    assert (text.num_texts, len(documents)) == (9, 9)


def test_a_lost_connection_is_told_and_nothing_else_is_printed(
    fake: FakeHub, capfd: pytest.CaptureFixture[str]
) -> None:
    """What `datasets` logs when it tries again after five seconds is logged by hand here."""
    add_in_four_files(fake)
    libraries = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    before = [list(library.handlers) for library in libraries]
    said: list[str] = []
    with open_rows(
        NAME, revision=None, config=None, split="train", field="text", say=said.append
    ) as rows:
        assert len(list(rows)) == 100
        logging.getLogger("datasets.utils.file_utils").warning("Got disconnected [1/20]")
        logging.getLogger("datasets.load").error("raised as well")
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5]")
    assert said == [f"hf:{NAME}: Got disconnected [1/20]"]
    assert [library.handlers for library in libraries] == before
    assert capfd.readouterr() == ("", "")
