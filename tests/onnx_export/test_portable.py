from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.graph import OPSET, build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export

WIDTHS = pytest.mark.parametrize(("bits", "tolerance"), [(32, 1e-5), (16, 5e-3)])


def settings(bits: int) -> GraphSettings:
    return GraphSettings(form="portable", weight_bits=16 if bits == 16 else 32, logits="all")


@WIDTHS
def test_the_checker_finds_no_fault_in_shapes_and_types(
    variant: Candidate, bits: int, tolerance: float, tmp_path: Path
) -> None:
    model = export(variant, tmp_path, settings(bits))
    onnx.checker.check_model(str(model.path), full_check=True)


@WIDTHS
def test_only_standard_operators_are_used(variant: Candidate, bits: int, tolerance: float) -> None:
    structure = build_structure(variant, settings(bits))
    assert [(item.domain, item.version) for item in structure.opset_import] == [("", OPSET)]
    for node in structure.graph.node:
        assert node.domain == ""
        onnx.defs.get_schema(node.op_type, OPSET, "")  # raises for an operator it lacks


@WIDTHS
def test_the_reference_evaluator_gives_the_logits_of_onnx_runtime(
    variant: Candidate, bits: int, tolerance: float, tmp_path: Path
) -> None:
    model = export(variant, tmp_path, settings(bits))
    input_ids = np.array([[5, 90, 17, 2, 33, 8]], dtype=np.int64)
    expected = run_in_chunks(model, input_ids, [6])
    evaluator = ReferenceEvaluator(str(model.path))
    element = np.float16 if bits == 16 else np.float32
    empty = np.zeros((1, variant.num_key_value_heads, 0, variant.head_dim), dtype=element)
    cache = {
        f"past_key_values.{layer}.{kind}": empty
        for layer in range(variant.num_hidden_layers)
        for kind in ("key", "value")
    }
    ones = np.ones_like(input_ids)
    first = {"input_ids": input_ids[:, :4], "attention_mask": ones[:, :4], **cache}
    outputs = dict(zip(evaluator.output_names, evaluator.run(None, first), strict=True))
    logits = [outputs.pop("logits")]
    cache = {name.replace("present", "past_key_values"): outputs[name] for name in outputs}
    second = {"input_ids": input_ids[:, 4:], "attention_mask": ones, **cache}
    logits.append(evaluator.run(["logits"], second)[0])
    got = np.concatenate(logits, axis=1)
    assert got.dtype == element
    assert np.abs(got.astype(np.float32) - expected).max() < tolerance * np.abs(expected).max()
