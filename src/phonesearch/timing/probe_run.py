"""Runs probes, each in a process of its own, and keeps every sample in a JSON Lines file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from phonesearch.errors import TimingError
from phonesearch.timing.host import fingerprint
from phonesearch.timing.probes import Probe, build_probe, feeds

_TIMEOUT_S: Final = 300.0
_WARMUP_RUNS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """What one round of one probe gave: raw samples, run by run."""

    probe: str
    round: int
    num_threads: int
    device: str
    samples_s: tuple[tuple[float, ...], ...]
    onnxruntime_version: str


def run_probes(
    probes: Sequence[Probe],
    record: Path,
    *,
    num_threads: int,
    rounds: int,
    repetitions: int,
    progress: Callable[[str], None],
) -> list[ProbeRecord]:
    """Time all probes, round after round, going on from what `record` already holds.

    Args:
        probes: What to run; every round runs all of them before the next begins.
        record: JSON Lines, one finished probe a line; made if it does not exist.
        num_threads: Threads inside an operator.
        rounds: How often to come back to each probe.
        repetitions: Samples a round, times two.
        progress: Told of every probe before it runs.

    Raises:
        TimingError: If the record is of another machine or thread count, or a probe fails.
    """
    done = {(line.probe, line.round): line for line in _read(record, num_threads)}
    record.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(rounds):
        for place, probe in enumerate(probes):
            line = done.get((probe.name, number))
            if line is None:
                progress(
                    f"probes, round {number + 1} of {rounds}: {place + 1} of {len(probes)}, "
                    f"{probe.name}"
                )
                line = _run(probe, number, num_threads=num_threads, repetitions=repetitions)
                with record.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(line)) + "\n")
            found.append(line)
    return found


def _run(probe: Probe, number: int, *, num_threads: int, repetitions: int) -> ProbeRecord:
    with tempfile.TemporaryDirectory(prefix=".probe-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(build_probe(probe).SerializeToString())
        request = {
            "model_path": str(path),
            "num_threads": num_threads,
            "warmup_runs": _WARMUP_RUNS,
            "repetitions": repetitions,
            "runs": [feeds(probe, new, past) for new, past in probe.runs],
        }
        result = _ask(probe.name, request)
    return ProbeRecord(
        probe=probe.name,
        round=number,
        num_threads=num_threads,
        device=fingerprint(),
        samples_s=tuple(map(tuple, result["samples_s"])),
        onnxruntime_version=result["onnxruntime_version"],
    )


def _ask(name: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "phonesearch.timing.probe_worker"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimingError(
            f"Probe {name} took longer than {_TIMEOUT_S:.0f} s and was given up. Leave the "
            "machine quiet, or use more threads, and run the same command again."
        ) from error
    if finished.returncode:
        tail = "\n".join(finished.stderr.strip().splitlines()[-4:])
        raise TimingError(f"Probe {name} failed with exit code {finished.returncode}:\n{tail}")
    result: dict[str, Any] = json.loads(finished.stdout.strip().rpartition("\n")[2])
    return result


def _read(record: Path, num_threads: int) -> list[ProbeRecord]:
    if not record.is_file():
        return []
    lines = []
    for text in record.read_text(encoding="utf-8").splitlines():
        try:
            fields = json.loads(text)
            fields["samples_s"] = tuple(map(tuple, fields["samples_s"]))
            line = ProbeRecord(**fields)
        except (ValueError, TypeError, KeyError):
            continue  # the line that was being written when a run was cut off
        if (line.num_threads, line.device) != (num_threads, fingerprint()):
            raise TimingError(
                f"{record} holds probes of {line.num_threads} threads on {line.device}; this is "
                f"{num_threads} threads on {fingerprint()}. Give another `--out`, or delete it."
            )
        lines.append(line)
    return lines
