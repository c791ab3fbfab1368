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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from phonesearch.timing.exchange import WorkerRequest, WorkerResult

_SEED: Final = 0
_MAX_DECODE_STEPS_IN_WARMUP: Final = 4
_PARENT_POLL_S: Final = 0.5


class Turn:
    """A session whose cache lies in buffers that past and present share.

    `GroupQueryAttention` writes new keys and values behind the old ones when its past and
    present are the same memory, as onnxruntime-genai runs it; nothing is copied.
    """

    def __init__(self, request: WorkerRequest, *, capacity: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = request.num_threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            request.model_path, options, providers=["CPUExecutionProvider"]
        )
        generator = np.random.default_rng(_SEED)
        self._caches: dict[str, Any] = {}
        for value in self._session.get_inputs():
            if value.name.startswith("past_key_values."):
                shape = (1, value.shape[1], capacity, value.shape[3])
                content = generator.standard_normal(shape, dtype=np.float32)
                self._caches[value.name] = ort.OrtValue.ortvalue_from_numpy(content)
        vocab_size = self._session.get_outputs()[0].shape[-1]
        self.tokens: NDArray[np.int64] = generator.integers(0, vocab_size, (1, capacity))
        """What is fed, by position; shape (1, capacity)."""
        self.logits: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        """Of the latest run, shape (1, positions, vocab_size)."""
        self.logits_finite = True

    def run(self, *, new_tokens: int, past_tokens: int) -> float:
        """Seconds of one run over `new_tokens` behind `past_tokens` in the cache."""
        total = past_tokens + new_tokens
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", self.tokens[:, past_tokens:total].copy())
        binding.bind_cpu_input("attention_mask", np.ones((1, total), dtype=np.int64))
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), cache)
        binding.bind_output("logits")
        start = time.perf_counter()
        self._session.run_with_iobinding(binding)
        seconds = time.perf_counter() - start
        self.logits = binding.get_outputs()[-1].numpy()
        self.logits_finite = self.logits_finite and bool(np.isfinite(self.logits).all())
        return seconds


def _decode_contexts(request: WorkerRequest) -> Iterator[int]:
    """Tokens in the cache at each timed step, centred on the middle of the generation."""
    middle = request.prompt_tokens + request.generate_tokens // 2
    first = max(middle - request.decode_steps // 2, 1)
    yield from range(first, first + request.decode_steps)


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
    """Time prefills and decode steps, warm-up first, interleaved within each repetition."""
    contexts = list(_decode_contexts(request))
    turn = Turn(request, capacity=max(request.prompt_tokens, contexts[-1] + 1))
    for _ in range(request.warmup_runs):
        turn.run(new_tokens=request.prompt_tokens, past_tokens=0)
        for context in contexts[:_MAX_DECODE_STEPS_IN_WARMUP]:
            turn.run(new_tokens=1, past_tokens=context)
    prefill: list[float] = []
    decode: list[float] = []
    for _ in range(request.repetitions):
        prefill.append(turn.run(new_tokens=request.prompt_tokens, past_tokens=0))
        decode.extend(turn.run(new_tokens=1, past_tokens=context) for context in contexts)
    return WorkerResult(
        prefill_samples_s=prefill,
        decode_samples_s=decode,
        peak_memory_bytes=_peak_memory_bytes(),
        onnxruntime_version=ort.__version__,
        logits_finite=turn.logits_finite,
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
    request = WorkerRequest(**json.load(sys.stdin))
    result = measure(request)
    fields = {name: getattr(result, name) for name in WorkerResult.__slots__}
    sys.stdout.write("\n" + json.dumps(fields) + "\n")


if __name__ == "__main__":
    main()
