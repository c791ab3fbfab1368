"""Times the runs of one probe in this process: JSON request on stdin, JSON result on stdout.

    python -m phonesearch.timing.probe_worker < request.json

Started by `timing/probe_run.py`. The runs are interleaved, so that a slow spell of the machine
falls on all of them.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime as ort

from phonesearch.timing.host_worker import end_with_parent


def _binding(session: Any, feeds: list[Any]) -> Any:
    generator = np.random.default_rng(0)
    binding = session.io_binding()
    for name, kind, shape, value in feeds:
        content = (
            generator.standard_normal(shape).astype(kind)
            if value is None
            else np.full(shape, value, dtype=kind)
        )
        held = ort.OrtValue.ortvalue_from_numpy(content)
        binding.bind_ortvalue_input(name, held)
        if name.startswith("past_key_values"):
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), held)
    for output in session.get_outputs():
        if not output.name.startswith("present"):
            binding.bind_output(output.name)
    return binding


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Samples in seconds of every run, warm-up left out."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = request["num_threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        request["model_path"], options, providers=["CPUExecutionProvider"]
    )
    bindings = [_binding(session, feeds) for feeds in request["runs"]]
    samples: list[list[float]] = [[] for _ in bindings]
    # Each run goes three times in a row, the first of which finds other data in the caches.
    for repetition in range(request["warmup_runs"] + request["repetitions"]):
        for own, binding in zip(samples, bindings, strict=True):
            for turn in range(3):
                start = time.perf_counter()
                session.run_with_iobinding(binding)
                seconds = time.perf_counter() - start
                if repetition >= request["warmup_runs"] and turn:
                    own.append(seconds)
    return {"samples_s": samples, "onnxruntime_version": ort.__version__}


def main() -> None:
    """Answer the request on stdin."""
    end_with_parent()
    result = measure(json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
