"""Runs exported graphs in ONNX Runtime and holds their logits against the torch model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.quantise import as_deployed
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import OnnxModel, export


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Largest differences of one exported graph's logits from the torch model's.

    The torch model computes in float32, for a deployment graph with the very weights that the
    graph has after rounding. What is left is the order of additions (about 1e-6 of the largest
    logit), in float16 its precision (about 1e-3), and at `accuracy_level` 4 the rounding of
    activations to int8 inside `MatMulNBits` (about 1e-2 a product, more in deep models).
    """

    settings: GraphSettings
    prefill_error: float
    """Largest absolute difference when all tokens are given at once."""
    step_error: float
    """The same when half of the tokens are given at once and the others one by one."""
    largest_logit: float
    """Largest absolute logit of the torch model, the scale of the two errors."""

    @property
    def relative_error(self) -> float:
        """The larger error over the largest logit."""
        return max(self.prefill_error, self.step_error) / self.largest_logit


def compare(
    candidate: Candidate,
    folder: Path,
    settings: GraphSettings,
    *,
    weights: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    num_tokens: int = 12,
) -> Agreement:
    """Export `candidate` into `folder` and compare its logits with the torch model's.

    Args:
        candidate: Architecture.
        folder: Where the graph is written, replacing an earlier one.
        settings: With `logits="all"`, so that every position is compared.
        weights: By Hugging Face name; None takes those of a fresh `Decoder` of `seed`.
        seed: Of fresh weights and of the tokens.
        num_tokens: Length of the sequence, at least 2.

    Raises:
        ExportError: If `settings` give the logits of the last position only, or the export
            fails.
    """
    if settings.logits != "all":
        raise ExportError('A comparison needs `logits="all"`, got "last".')
    decoder = Decoder(candidate, seed=seed, device="cpu", dtype=torch.float32)
    if weights is None:
        weights = decoder.state_dict()
    model = export(candidate, folder, settings, weights=weights)
    computed = dict(weights)
    if settings.form == "deployment":
        computed = as_deployed(candidate, settings, weights)
    if candidate.tie_word_embeddings:
        computed.pop("lm_head.weight", None)
    decoder.load_state_dict(computed)
    generator = np.random.default_rng(seed)
    input_ids = generator.integers(0, candidate.vocab_size, (1, num_tokens), dtype=np.int64)
    with torch.no_grad():
        expected = decoder(torch.from_numpy(input_ids)).numpy()
    half = num_tokens // 2
    prefill = run_in_chunks(model, input_ids, [num_tokens])
    steps = run_in_chunks(model, input_ids, [half] + [1] * (num_tokens - half))
    return Agreement(
        settings=settings,
        prefill_error=float(np.abs(prefill - expected).max()),
        step_error=float(np.abs(steps - expected).max()),
        largest_logit=float(np.abs(expected).max()),
    )


def run_in_chunks(
    model: OnnxModel,
    input_ids: NDArray[np.int64],
    chunks: Sequence[int],
    *,
    attention_mask: NDArray[np.int64] | None = None,
    num_threads: int = 1,
) -> NDArray[np.float32]:
    """Logits from ONNX Runtime on the CPU, the tokens given in chunks with the cache between.

    Args:
        model: What to run.
        input_ids: Shape (batch, length).
        chunks: New tokens of each call; they add up to `length`.
        attention_mask: Shape (batch, length); None is all ones.
        num_threads: Threads inside an operator.

    Returns:
        float32, shape (batch, length, vocab_size); with `logits="last"` one position a chunk.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(
        str(model.path), options, providers=["CPUExecutionProvider"]
    )
    candidate = model.candidate
    half = model.settings.weight_bits == 16
    shape = (input_ids.shape[0], candidate.num_key_value_heads, 0, candidate.head_dim)
    empty = np.zeros(shape, dtype=np.float16 if half else np.float32)
    cache: dict[str, Any] = {
        f"past_key_values.{layer}.{kind}": empty
        for layer in range(candidate.num_hidden_layers)
        for kind in ("key", "value")
    }
    if attention_mask is None:
        attention_mask = np.ones_like(input_ids)
    names = [output.name for output in session.get_outputs()]
    logits = []
    position = 0
    for chunk in chunks:
        stop = position + chunk
        inputs = {
            "input_ids": input_ids[:, position:stop],
            "attention_mask": attention_mask[:, :stop],
            **cache,
        }
        outputs = dict(zip(names, session.run(names, inputs), strict=True))
        logits.append(outputs.pop("logits").astype(np.float32))
        cache = {name.replace("present", "past_key_values"): outputs[name] for name in outputs}
        position = stop
    return np.concatenate(logits, axis=1)
