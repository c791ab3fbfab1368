"""Times one exported graph in this process: JSON request on stdin, JSON result on stdout.

    python -m phonesearch.timing.host_worker < request.json

Started by `timing/host.py`, one process a measurement, so that neither memory nor threads nor
a crash of one candidate reaches the next. The last line of stdout is the result.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from phonesearch.timing.exchange import WorkerRequest, WorkerResult

_SEED: Final = 0
_MAX_STEPS_IN_WARMUP: Final = 4
_PARENT_POLL_S: Final = 0.5


class Turn:
    """A session whose cache lies in buffers that past and present share.

    `GroupQueryAttention` writes new keys and values behind the old ones when its past and
    present are the same memory, as onnxruntime-genai runs it; nothing is copied.

    Besides exported models it runs the graphs of `timing/probe_graphs.py`, which have
    activations for inputs.
    """

    def __init__(self, model_path: str, *, num_threads: int, capacity: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            model_path, options, providers=["CPUExecutionProvider"]
        )
        self._generator = np.random.default_rng(_SEED)
        self._caches: dict[str, Any] = {}
        self._fed: list[Any] = []
        for value in self._session.get_inputs():
            if value.name.startswith("past_key_values."):
                shape = (1, value.shape[1], capacity, value.shape[3])
                content = self._generator.standard_normal(shape, dtype=np.float32)
                self._caches[value.name] = ort.OrtValue.ortvalue_from_numpy(content)
            else:
                self._fed.append(value)
        self._results = [
            value.name
            for value in self._session.get_outputs()
            if not value.name.startswith("present.")
        ]
        vocab_size = self._session.get_outputs()[0].shape[-1]
        self.tokens: NDArray[np.int64] = self._generator.integers(0, vocab_size, (1, capacity))
        """What is fed, by position; shape (1, capacity)."""
        self.output: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        """Last output of the latest run that is no cache; the logits of a model, shape
        (1, positions, vocab_size)."""
        self.outputs_finite = True

    def run(self, *, new_tokens: int, past_tokens: int) -> float:
        """Seconds of one run over `new_tokens` behind `past_tokens` in the cache."""
        binding = self._session.io_binding()
        for value in self._fed:
            binding.bind_cpu_input(value.name, self._input(value, new_tokens, past_tokens))
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), cache)
        for name in self._results:
            binding.bind_output(name)
        start = time.perf_counter()
        self._session.run_with_iobinding(binding)
        seconds = time.perf_counter() - start
        self.output = binding.get_outputs()[-1].numpy()
        self.outputs_finite = self.outputs_finite and bool(np.isfinite(self.output).all())
        return seconds

    def _input(self, value: Any, new_tokens: int, past_tokens: int) -> NDArray[Any]:
        """What one input holds in one run, by its name."""
        total = past_tokens + new_tokens
        if value.name == "input_ids":
            return self.tokens[:, past_tokens:total].copy()
        if value.name == "attention_mask":
            return np.ones((1, total), dtype=np.int64)
        if value.name == "seqlens_k":
            return np.array([total - 1], dtype=np.int32)
        if value.name == "total_sequence_length":
            return np.array(total, dtype=np.int32)
        shape = (1, new_tokens, value.shape[-1])
        return self._generator.standard_normal(shape, dtype=np.float32)


def _peak_memory_bytes() -> int | None:
    """Highest resident memory of this process; of this program alone where Linux tells it."""
    status = Path("/proc/self/status")
    if status.is_file():
        # NOTE not ru_maxrss: a child starts with its parent's on Linux.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def measure(request: WorkerRequest) -> WorkerResult:
    """Time all stretches, warm-up first, in turn within each round."""
    turn = Turn(
        request.model_path,
        num_threads=request.num_threads,
        capacity=max(stretch.longest for stretch in request.stretches),
    )
    samples: list[list[float]] = [[] for _ in request.stretches]
    for round_number in range(request.warmup_rounds + request.rounds):
        is_warmup = round_number < request.warmup_rounds
        for own, stretch in zip(samples, request.stretches, strict=True):
            if is_warmup:
                positions = tuple(range(min(stretch.steps, _MAX_STEPS_IN_WARMUP)))
            else:
                for _ in range(stretch.settling_steps):
                    turn.run(new_tokens=stretch.new_tokens, past_tokens=stretch.past_tokens)
                positions = stretch.repeats * tuple(range(stretch.steps))
            seconds = [
                turn.run(
                    new_tokens=stretch.new_tokens,
                    past_tokens=stretch.past_tokens + step * stretch.new_tokens,
                )
                for step in positions
            ]
            if not is_warmup:
                own.extend(seconds)
    return WorkerResult(
        samples_s=samples,
        peak_memory_bytes=_peak_memory_bytes(),
        onnxruntime_version=ort.__version__,
        outputs_finite=turn.outputs_finite,
    )


def end_with_parent() -> None:
    """End this process soon after its parent, which a `kill -9` gives no chance to do so.

    A worker left behind would take cores from whatever is measured next.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Answer the request on stdin."""
    end_with_parent()
    result = measure(WorkerRequest.from_json(json.load(sys.stdin)))
    sys.stdout.write("\n" + json.dumps(result.as_json()) + "\n")


if __name__ == "__main__":
    main()
