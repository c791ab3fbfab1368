"""Runs probes, each in a process of its own, and keeps every sample in a JSON Lines file."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from phonesearch.errors import TimingError
from phonesearch.timing.exchange import Stretch, WorkerResult
from phonesearch.timing.probes import Probe

_WARMUP_ROUNDS: Final = 1
_ROUNDS_IN_A_PROCESS: Final = 1
_TOLERANCE: Final = 0.04
"""Between the round in the middle and one of its neighbours, for a probe not to run again."""


class Timer(Protocol):
    """What runs graphs on a machine: `timing.host.HostBackend`, or a phone."""

    @property
    def fingerprint(self) -> str:
        """The machine in words."""
        ...

    def sample(
        self,
        model_path: Path,
        stretches: Sequence[Stretch],
        *,
        num_threads: int,
        warmup_rounds: int,
        rounds: int,
    ) -> WorkerResult:
        """Time stretches of runs of a graph.

        Raises:
            TimingError: Rather than return a doubtful number.
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
    more_rounds: int,
    progress: Callable[[str, int, int], None],
) -> list[ProbeRecord]:
    """Time all probes, round after round, going on from what `record` already holds.

    Each round runs all probes, in an order of its own, before the next begins: a slow spell of
    the machine, or work that comes back at regular times, falls on one round of each. Probes
    whose rounds do not agree are run again.

    Args:
        probes: What to run.
        record: JSON Lines, one finished probe a line; made if it does not exist.
        timer: What runs them.
        num_threads: Threads inside an operator.
        rounds: How often to time each probe, at least 1.
        more_rounds: How often to come back to those whose rounds differ.
        progress: Told what runs next, how many runs are done and how many there will be.

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
    num_done, expected = 0, rounds * len(probes)
    for number in range(rounds + more_rounds):
        wanted = [
            probe
            for probe in probes
            if number < rounds or not _agree(found[probe.name], len(probe.stretches))
        ]
        if number >= rounds:
            expected = num_done + len(wanted)
        for place in np.random.default_rng(number).permutation(len(wanted)):
            probe = wanted[place]
            progress(f"{probe.name}, round {number + 1}", num_done, expected)
            line = done.get((probe.name, number))
            if line is None or len(line.samples_s) != len(probe.stretches):
                line = _run(probe, number, timer=timer, num_threads=num_threads)
                with record.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(line)) + "\n")
            found[probe.name].append(line)
            num_done += 1
    return [line for lines in found.values() for line in lines]


def round_medians(lines: Sequence[ProbeRecord], stretch: int) -> list[float]:
    """Median seconds of one stretch in each round, ascending."""
    return sorted(statistics.median(line.samples_s[stretch]) for line in lines)


def _agree(lines: Sequence[ProbeRecord], num_stretches: int) -> bool:
    """Whether for every stretch the round in the middle is like one of its neighbours."""
    for stretch in range(num_stretches):
        found = round_medians(lines, stretch)
        middle = (len(found) - 1) // 2
        around = found[max(middle - 1, 0) : middle + 2]
        steps = [after / before - 1 for before, after in pairwise(around)]
        if not steps or min(steps) > _TOLERANCE:
            return False
    return True


def _run(probe: Probe, number: int, *, timer: Timer, num_threads: int) -> ProbeRecord:
    with tempfile.TemporaryDirectory(prefix=".probe-") as folder:
        result = timer.sample(
            probe.write(Path(folder)),
            probe.stretches,
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
