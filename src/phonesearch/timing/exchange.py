"""What passes between a measurement and the process that runs it, as JSON.

Apart from `host_worker.py`, so that only the worker loads ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive runs of a graph, each of which is timed."""

    new_tokens: int
    """That go through the graph in each run."""
    past_tokens: int
    """In the cache before the first run."""
    steps: int = 1
    """Runs; each finds `new_tokens` more in the cache than the one before."""
    repeats: int = 1
    """How often the steps are run in a round, from `past_tokens` on each time."""
    settling_steps: int = 0
    """Runs before these that are not timed. What ran before leaves other data in the processor's
    caches: after a prefill, decode steps of models that fit the last cache get faster for about
    ten steps (up to 2 times; AMD EPYC, Zen 5)."""

    @property
    def longest(self) -> int:
        """Tokens in the cache after the last run."""
        return self.past_tokens + self.steps * self.new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """What to time, as `timing/host.py` sends it."""

    model_path: str
    num_threads: int
    warmup_rounds: int
    """Rounds before the clock counts, each of all stretches, shortened."""
    rounds: int
    stretches: Sequence[Stretch]
    """Run in turn in every round, so that a slow spell of the machine falls on all."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From the fields that `dataclasses.asdict` gives."""
        stretches = tuple(Stretch(**fields) for fields in content["stretches"])
        return cls(**{**content, "stretches": stretches})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """What was measured, as `timing/host.py` receives it."""

    samples_s: Sequence[Sequence[float]]
    """By stretch: seconds of each run, in order, warm-up excluded."""
    peak_memory_bytes: int | None
    onnxruntime_version: str
    outputs_finite: bool

    def as_json(self) -> dict[str, Any]:
        """Its fields, for `json.dumps`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
