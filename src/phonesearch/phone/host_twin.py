"""What the runner should have computed: the same runs of the same numbers on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from phonesearch.phone.runner_values import activation, cache, tokens
from phonesearch.timing.exchange import Stretch

_WARMUP_STEPS: Final = 4
_NUMPY_TYPES: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def expected_output(
    model_path: Path,
    stretches: Sequence[Stretch],
    *,
    capacity: int,
    warmup_rounds: int = 0,
    rounds: int = 1,
    num_threads: int = 1,
) -> NDArray[np.float32]:
    """The last output of the last run, flat: what the runner writes with `--dump`.

    Args:
        model_path: The graph, its weights beside it.
        stretches: As given to the runner.
        capacity: Positions in the cache, as given to the runner.
        warmup_rounds: As given to the runner.
        rounds: As given to the runner.
        num_threads: Threads inside an operator.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    options.add_session_config_entry("mlas.disable_kleidiai", "1")  # which ARM hosts have too
    session = ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    pasts = [value for value in inputs if value.name.startswith("past_key_values.")]
    caches = {
        value.name: ort.OrtValue.ortvalue_from_numpy(
            cache(
                number,
                (1, value.shape[1], capacity, value.shape[3]),
                dtype=_NUMPY_TYPES[value.type],
            )
        )
        for number, value in enumerate(pasts)
    }
    fed = _by_position([value for value in inputs if value not in pasts], session, capacity)
    names = [output.name for output in session.get_outputs()]
    results = [name for name in names if not name.startswith("present.")]
    for new, past in _runs(stretches, warmup_rounds=warmup_rounds, rounds=rounds):
        binding = session.io_binding()
        for name, values in fed.items():
            binding.bind_cpu_input(name, _window(name, values, new=new, past=past))
        for name, content in caches.items():
            binding.bind_ortvalue_input(name, content)
            present = name.replace("past_key_values", "present")
            if present in names:
                binding.bind_ortvalue_output(present, content)
        for name in results:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
    output: NDArray[Any] = binding.get_outputs()[-1].numpy()
    return output.astype(np.float32).ravel()


def _runs(
    stretches: Sequence[Stretch], *, warmup_rounds: int, rounds: int
) -> Iterator[tuple[int, int]]:
    """New and past tokens of every run of the runner, in order."""
    for round_number in range(warmup_rounds + rounds):
        for stretch in stretches:
            positions = list(range(min(stretch.steps, _WARMUP_STEPS)))
            if round_number >= warmup_rounds:
                settling = [0] * stretch.settling_steps
                positions = settling + stretch.repeats * list(range(stretch.steps))
            for step in positions:
                yield stretch.new_tokens, stretch.past_tokens + step * stretch.new_tokens


def _by_position(
    values: Sequence[Any], session: ort.InferenceSession, capacity: int
) -> dict[str, NDArray[Any]]:
    """What each input holds, position by position."""
    known: dict[str, NDArray[Any]] = {
        "attention_mask": np.ones(capacity, dtype=np.int64),
        "position_ids": np.arange(capacity, dtype=np.int64),
        "seqlens_k": np.arange(capacity, dtype=np.int32),
        "total_sequence_length": np.arange(1, capacity + 1, dtype=np.int32),
    }
    fed: dict[str, NDArray[Any]] = {}
    num_activations = 0
    for value in values:
        if value.name == "input_ids":
            vocab_size = session.get_outputs()[0].shape[-1]
            fed[value.name] = tokens(capacity, vocab_size=vocab_size)
        elif value.name in known:
            fed[value.name] = known[value.name]
        else:
            width = value.shape[2]
            fed[value.name] = activation(num_activations, capacity=capacity, width=width)
            num_activations += 1
    return fed


def _window(name: str, values: NDArray[Any], *, new: int, past: int) -> NDArray[Any]:
    """The part of an input that one run is given, in its shape."""
    total = past + new
    if name == "attention_mask":
        return values[None, :total].copy()
    if name == "seqlens_k":
        return values[total - 1 : total].copy()
    if name == "total_sequence_length":
        return np.array(values[total - 1])
    return values[None, past:total].copy()
