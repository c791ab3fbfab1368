"""What passes between a measurement and the process that runs it, as JSON.

Apart from `host_worker.py`, so that only the worker loads ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """What to time, as `timing/host.py` sends it."""

    model_path: str
    prompt_tokens: int
    generate_tokens: int
    num_threads: int
    warmup_runs: int
    repetitions: int
    decode_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """What was measured, as `timing/host.py` receives it."""

    prefill_samples_s: list[float]
    decode_samples_s: list[float]
    peak_memory_bytes: int | None
    onnxruntime_version: str
    logits_finite: bool
