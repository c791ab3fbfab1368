from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.check import compare, run_in_chunks
from phonesearch.onnx_export.quantise import as_deployed
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export

# The largest difference allowed, as a share of the largest logit. Measured over all variants:
# 1.2e-6 in float32, 1.9e-3 in float16, 2.8e-2 with activations rounded to int8 (1 in 127 of a
# block's largest value, in every product).
CASES = {
    "int4": (GraphSettings(accuracy_level=1, logits="all"), 1e-5),
    "int4 in blocks of 128": (GraphSettings(accuracy_level=1, logits="all", block_size=128), 1e-5),
    "int4, int8 activations": (GraphSettings(logits="all"), 6e-2),
    "int8": (GraphSettings(weight_bits=8, accuracy_level=1, logits="all"), 1e-5),
    "int8, int8 activations": (GraphSettings(weight_bits=8, logits="all"), 6e-2),
    "portable float32": (GraphSettings(form="portable", weight_bits=32, logits="all"), 1e-5),
    "portable float16": (GraphSettings(form="portable", weight_bits=16, logits="all"), 5e-3),
}


def spread_weights(candidate: Candidate) -> dict[str, torch.Tensor]:
    """Weights large enough that every part of the model shows in the logits."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, weight in Decoder(candidate).state_dict().items():
        drawn = torch.randn(weight.shape, generator=generator)
        if name.endswith(".bias"):
            weights[name] = 0.3 * drawn
        elif weight.dim() == 1:
            weights[name] = 1 + 0.3 * drawn
        else:
            weights[name] = drawn * 0.1
    return weights


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_agree_with_torch_in_prefill_and_step_by_step(
    variant: Candidate, case: str, tmp_path: Path
) -> None:
    settings, tolerance = CASES[case]
    agreement = compare(variant, tmp_path, settings, weights=spread_weights(variant))
    assert agreement.largest_logit > 1
    assert agreement.relative_error < tolerance
    if case.endswith("int8 activations"):
        # Otherwise the kernel did not do what phones do, and the tolerance hides nothing.
        assert agreement.relative_error > 1e-4


def test_weights_in_bfloat16_export_as_the_values_they_hold(
    tiny: Candidate, tmp_path: Path
) -> None:
    weights = {name: value.bfloat16() for name, value in spread_weights(tiny).items()}
    settings = GraphSettings(form="portable", weight_bits=32, logits="all")
    assert compare(tiny, tmp_path, settings, weights=weights).relative_error < 1e-5


def test_a_tied_head_given_twice_is_accepted_and_a_different_one_is_not(
    tiny: Candidate, tmp_path: Path
) -> None:
    weights = spread_weights(tiny)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    settings = GraphSettings(accuracy_level=1, logits="all")
    assert compare(tiny, tmp_path, settings, weights=weights).relative_error < 1e-5
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    with pytest.raises(ExportError, match="differs from the table it is tied to"):
        export(tiny, tmp_path, settings, weights=weights)


@pytest.mark.parametrize("case", ["int4", "portable float32"])
def test_last_logits_are_the_last_of_all_logits(tiny: Candidate, case: str, tmp_path: Path) -> None:
    settings, _ = CASES[case]
    input_ids = np.arange(10, dtype=np.int64)[None] * 7 % 256
    everywhere = run_in_chunks(export(tiny, tmp_path / "all", settings), input_ids, [10])
    settings = replace(settings, logits="last")
    model = export(tiny, tmp_path / "last", settings)
    last = run_in_chunks(model, input_ids, [6, 1, 3])
    assert last.shape == (1, 3, 256)
    np.testing.assert_allclose(last[0], everywhere[0, [5, 6, 9]], atol=1e-5)


@pytest.mark.parametrize("case", ["int4", "portable float32"])
def test_padding_on_the_right_does_not_change_the_real_positions(
    tiny: Candidate, case: str, tmp_path: Path
) -> None:
    model = export(tiny, tmp_path, CASES[case][0], weights=spread_weights(tiny))
    input_ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], dtype=np.int64)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=np.int64)
    padded = run_in_chunks(model, input_ids, [5], attention_mask=mask)
    full = run_in_chunks(model, input_ids[:1], [5])
    short = run_in_chunks(model, input_ids[1:, :3], [3])
    np.testing.assert_allclose(padded[:1], full, atol=1e-4)
    np.testing.assert_allclose(padded[1:, :3], short, atol=1e-4)


def test_padding_on_the_left_does_not_change_the_portable_graph(
    tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, sliding_window=3)
    model = export(candidate, tmp_path, CASES["portable float32"][0])
    input_ids = np.array([[0, 0, 9, 2, 6, 5]], dtype=np.int64)
    mask = np.array([[0, 0, 1, 1, 1, 1]], dtype=np.int64)
    padded = run_in_chunks(model, input_ids, [4, 1, 1], attention_mask=mask)
    alone = run_in_chunks(model, input_ids[:, 2:], [2, 1, 1])
    assert np.isfinite(padded).all()
    np.testing.assert_allclose(padded[:, 2:], alone, atol=1e-4)


def test_both_forms_keep_the_same_keys_and_values_in_the_cache(
    tiny: Candidate, tmp_path: Path
) -> None:
    # Logits alone would not show rotary positions that are all shifted alike.
    settings = CASES["int4"][0]
    weights = as_deployed(tiny, settings, spread_weights(tiny))
    input_ids = np.array([[9, 2, 6, 5]], dtype=np.int64)
    caches = []
    for case in ("int4", "portable float32"):
        model = export(tiny, tmp_path / case, CASES[case][0], weights=weights)
        session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
        empty = np.zeros((1, 2, 0, 16), dtype=np.float32)
        past = {item.name: empty for item in session.get_inputs() if "past" in item.name}
        inputs = {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids), **past}
        caches.append(session.run(["present.0.key", "present.1.value"], inputs))
    for deployed, portable in zip(*caches, strict=True):
        assert deployed.shape == (1, 2, 4, 16)
        np.testing.assert_allclose(portable, deployed, atol=1e-4)


def test_a_comparison_of_last_logits_only_is_refused(tiny: Candidate, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='needs `logits="all"`'):
        compare(tiny, tmp_path, GraphSettings())
