"""Runs probes, each in a process of its own, and keeps every sample in a JSON Lines file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from phonesearch.errors import TimingError
from phonesearch.timing.exchange import WorkerResult
from phonesearch.timing.probes import Probe

_WARMUP_ROUNDS: Final = 1
_ROUNDS_IN_A_PROCESS: Final = 1


class Timer(Protocol):
    """What runs probes on a machine: `timing.host.HostBackend`, or a phone."""

    @property
    def fingerprint(self) -> str:
        """The machine in words."""
        ...

    def sample_probe(
        self, probe: Probe, *, num_threads: int, warmup_rounds: int, rounds: int
    ) -> WorkerResult:
        """Bring a probe to the machine, in whatever form suits it, and time its stretches.

        Raises:
            TimingError: Rather than return a doubtful number.
            ExportError: If there is no room for the probe.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecord:
    """What one round of one probe gave: raw samples, stretch by stretch."""

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
    timer: Timer,
    num_threads: int,
    rounds: int,
    progress: Callable[[str, int, int], None],
) -> list[ProbeRecord]:
    """Time all probes, round after round, going on from what `record` already holds.

    Each round runs all probes, in an order of its own, before the next begins: a slow spell of
    the machine, or work that comes back at regular times, falls on one round of each.

    Args:
        probes: What to run.
        record: JSON Lines, one finished probe a line; made if it does not exist.
        timer: What runs them.
        num_threads: Threads inside an operator.
        rounds: How often to time each probe, at least 1.
        progress: Told what runs next, how many runs are done, and of how many.

    Raises:
        TimingError: If the record is of another machine or thread count, or a probe fails.
        ExportError: If there is no room for a probe.
    """
    done = {
        (line.probe, line.round): line
        for line in _read(record, num_threads=num_threads, device=timer.fingerprint)
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[ProbeRecord]] = {probe.name: [] for probe in probes}
    total = rounds * len(probes)
    for number in range(rounds):
        for turn, place in enumerate(np.random.default_rng(number).permutation(len(probes))):
            probe = probes[place]
            progress(f"{probe.name}, round {number + 1}", number * len(probes) + turn, total)
            line = done.get((probe.name, number))
            if line is None or len(line.samples_s) != len(probe.stretches):
                line = _run(probe, number, timer=timer, num_threads=num_threads)
                with record.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(line)) + "\n")
            found[probe.name].append(line)
    return [line for lines in found.values() for line in lines]


def round_medians(lines: Sequence[ProbeRecord], stretch: int) -> list[float]:
    """Median seconds of one stretch in each round, ascending."""
    return sorted(statistics.median(line.samples_s[stretch]) for line in lines)


def _run(probe: Probe, number: int, *, timer: Timer, num_threads: int) -> ProbeRecord:
    result = timer.sample_probe(
        probe,
        num_threads=num_threads,
        warmup_rounds=_WARMUP_ROUNDS,
        rounds=_ROUNDS_IN_A_PROCESS,
    )
    if not result.outputs_finite:
        raise TimingError(f"Probe {probe.name} gave numbers that are not finite.")
    return ProbeRecord(
        probe=probe.name,
        round=number,
        num_threads=num_threads,
        device=timer.fingerprint,
        samples_s=tuple(tuple(samples) for samples in result.samples_s),
        onnxruntime_version=result.onnxruntime_version,
    )


def _read(record: Path, *, num_threads: int, device: str) -> Iterator[ProbeRecord]:
    if not record.is_file():
        return
    for text in record.read_text(encoding="utf-8").splitlines():
        try:
            fields = json.loads(text)
            fields["samples_s"] = tuple(map(tuple, fields["samples_s"]))
            line = ProbeRecord(**fields)
        except (ValueError, TypeError, KeyError):
            continue  # the line that was being written when a run was cut off
        if (line.num_threads, line.device) != (num_threads, device):
            raise TimingError(
                f"{record} holds probes of {line.num_threads} threads on {line.device}; this is "
                f"{num_threads} threads on {device}. Give another `--out`, or delete it."
            )
        yield line
