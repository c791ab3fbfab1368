"""What the runner said, and what became of it when it said no last word."""

from __future__ import annotations

import pytest

from phonesearch.errors import (
    CoresWithheldError,
    IllegalInstructionError,
    PhoneFullError,
    PhoneMemoryError,
    RunnerAbortedError,
    RunnerCrashedError,
    RunnerError,
    RunnerHungError,
    RunnerKilledError,
    RunnerStartError,
    WrongLibraryError,
)
from phonesearch.phone.runner_output import failure, last_word, read_lines, read_report

START = (
    '{"event": "start", "onnxruntime": "1.29.0", "load_ns": 2000000000, "threads": 2, '
    '"cpus_asked": "6,7", "cpus_granted": [6, 7], "hwcap": 1048576, "hwcap2": 0, '
    '"page_bytes": 4096, "kv_bytes": 64, "khz": [1000, null], "rss_kb": 1, "peak_kb": 2}'
)
SAMPLES = (
    '{{"event": "samples", "round": {0}, "stretch": {1}, "cpu": 7, "khz": [1000, null], '
    '"rss_kb": 1, "peak_kb": 2, "ns": [{2}, {2}]}}'
)
END = '{"event": "end", "ok": true, "finite": true, "runs": 8, "rss_kb": 1, "peak_kb": 3}'
LINES = [
    START,
    '{"event": "warmup", "round": 0}',
    *(SAMPLES.format(number, stretch, 1000 + number) for number in (0, 1) for stretch in (0, 1)),
    END,
]


def test_a_run_that_ended_well_is_read() -> None:
    report = read_report("\n".join(LINES), num_stretches=2, rounds=2)
    assert report is not None
    assert report.samples_s[1][0] == pytest.approx((1e-6, 1e-6))
    assert report.all_samples_s(0) == pytest.approx((1e-6, 1e-6, 1.001e-6, 1.001e-6))
    assert report.clocks_hz == 4 * ((1_000_000, None),)
    assert report.has_dot_product
    assert report.peak_memory_bytes == 3 * 1024
    assert report.load_s == pytest.approx(2.0)


@pytest.mark.parametrize("missing", range(len(LINES)))
def test_a_run_that_lacks_a_line_is_no_run(missing: int) -> None:
    lines = [line for place, line in enumerate(LINES) if place != missing]
    report = read_report("\n".join(lines), num_stretches=2, rounds=2)
    assert (report is None) == (missing != 1)  # a warm-up measures nothing


def test_a_line_that_was_cut_off_is_no_last_word() -> None:
    text = "\n".join(LINES)
    for length in range(len(text) - 1):
        assert last_word(text[:length]) is None
    assert read_lines("noise\n[1]\n{broken\n" + END) == (last_word(END),)


@pytest.mark.parametrize(
    ("exit_code", "kind", "words"),
    [
        (126, RunnerStartError, "arm64-v8a"),
        (127, RunnerStartError, "not for its processor"),
        (132, IllegalInstructionError, "SIGILL"),
        (134, RunnerAbortedError, "SIGABRT"),
        (135, RunnerCrashedError, "SIGBUS"),
        (137, RunnerKilledError, "memory runs out"),
        (139, RunnerCrashedError, "SIGSEGV"),
        (142, RunnerHungError, "in time"),
        (1, RunnerError, "exit code 1"),
    ],
)
def test_each_end_has_its_own_error(exit_code: int, kind: type[Exception], words: str) -> None:
    error = failure(START, "linker: oh\x1b[2J no", exit_code, doing="timing", version="1.29.0")
    assert type(error) is kind
    assert words in str(error)
    assert "It said: linker: oh" in str(error)
    assert "\x1b" not in str(error)


def test_versions_known_to_meet_illegal_instructions_are_named() -> None:
    known = failure("", "", 132, doing="timing", version="1.24.1")
    other = failure("", "", 132, doing="timing", version="1.29.0")
    assert "1.24.4 or later" in str(known)
    assert "another version" in str(other)


@pytest.mark.parametrize(
    ("stage", "said", "kind", "words"),
    [
        (
            "library",
            'dlopen failed: \\"x\\" is 32-bit instead of 64-bit',
            WrongLibraryError,
            "arm64",
        ),
        ("library", "is not ONNX Runtime (no OrtGetApiBase)", WrongLibraryError, "phone setup"),
        ("affinity", "not all of these cores were granted: 6,7", CoresWithheldError, "--cpus"),
        ("weights", "model.onnx.data.part: No space left on device", PhoneFullError, "phone clean"),
        ("memory", "not enough memory for caches and inputs", PhoneMemoryError, "Close apps"),
        ("session", "protobuf parsing failed", RunnerError, "at session"),
    ],
)
def test_each_refusal_has_its_own_error(
    stage: str, said: str, kind: type[Exception], words: str
) -> None:
    line = f'{{"event": "end", "ok": false, "stage": "{stage}", "error": "{said}"}}'
    error = failure(line, "", 3, doing="timing", version=None)
    assert type(error) is kind
    assert words in str(error)
