from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.model.decoder import Decoder
from phonesearch.onnx_export.quantise import as_deployed, dequantise, quantise
from phonesearch.onnx_export.settings import GraphSettings

BITS = pytest.mark.parametrize("bits", [4, 8])


def random_matrix(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3))


def run(node: onnx.NodeProto, inputs: dict[str, np.ndarray], constants: dict[str, torch.Tensor]):
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


@BITS
@pytest.mark.parametrize("columns", [64, 80])
def test_look_up_and_product_dequantise_the_same_values(bits: int, columns: int) -> None:
    quantised = quantise(random_matrix(48, columns), bits=bits, block_size=32)
    expected = dequantise(quantised).numpy()
    shared = {"bits": bits, "block_size": 32}
    gather = helper.make_node(
        "GatherBlockQuantized",
        ["table", "ids", "scales"],
        ["y"],
        domain="com.microsoft",
        gather_axis=0,
        quantize_axis=1,
        **shared,
    )
    rows = quantised.packed.reshape(48, -1)
    ids = np.arange(48, dtype=np.int64)
    looked_up = run(gather, {"ids": ids}, {"table": rows, "scales": quantised.scales})
    assert np.array_equal(looked_up[:, :columns], expected)

    product = helper.make_node(
        "MatMulNBits",
        ["x", "weight", "scales"],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=48,
        accuracy_level=1,
        **shared,
    )
    identity = np.eye(columns, dtype=np.float32)
    constants = {"weight": quantised.packed, "scales": quantised.scales}
    multiplied = run(product, {"x": identity}, constants)
    assert np.allclose(multiplied, expected.T, rtol=0, atol=1e-7)


@BITS
def test_no_value_is_off_by_more_than_its_scale_and_few_by_more_than_half(bits: int) -> None:
    weight = random_matrix(64, 96)
    quantised = quantise(weight, bits=bits, block_size=32)
    scale = quantised.scales.abs().repeat_interleave(32, dim=1)
    off = (dequantise(quantised) - weight).abs() / scale
    assert float(off.max()) <= 1.0
    # Only a value within half a level of the extreme, with the other sign, is cut off.
    assert float((off > 0.5001).float().mean()) < 0.01


@BITS
def test_the_extreme_of_a_block_is_exact(bits: int) -> None:
    weight = random_matrix(8, 32)
    extreme = weight.abs().argmax(dim=1, keepdim=True)
    restored = dequantise(quantise(weight, bits=bits, block_size=32))
    assert torch.allclose(restored.gather(1, extreme), weight.gather(1, extreme), rtol=1e-6)


def test_levels_are_packed_first_value_in_the_low_half() -> None:
    # Largest magnitude -8, so the scale is 1 and a value v is stored as v + 8.
    weight = torch.zeros(1, 16)
    weight[0, :4] = torch.tensor([-8.0, 7.0, 3.0, -1.0])
    quantised = quantise(weight, bits=4, block_size=16)
    assert quantised.scales.tolist() == [[1.0]]
    # 0 | 15 << 4 = 240, 11 | 7 << 4 = 123, then zeros: 8 | 8 << 4 = 136.
    assert quantised.packed.tolist() == [[[240, 123] + [136] * 6]]


@BITS
def test_blocks_of_zeros_and_of_subnormal_values_become_zero(bits: int) -> None:
    weight = torch.zeros(2, 32)
    weight[1] = 1e-42
    quantised = quantise(weight, bits=bits, block_size=32)
    assert dequantise(quantised).abs().max() == 0
    assert quantised.scales.abs().max() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    weight = random_matrix(4, 64)
    weight[2, 40] = value
    with pytest.raises(ExportError, match="must be finite"):
        quantise(weight, bits=4, block_size=32)


def test_deployed_weights_round_matrices_and_keep_the_rest(tiny: Candidate) -> None:
    weights = Decoder(tiny).state_dict()
    deployed = as_deployed(tiny, GraphSettings(), weights)
    assert deployed.keys() == weights.keys()
    for name, weight in weights.items():
        same = torch.equal(deployed[name], weight)
        assert same == (weight.dim() == 1), name
        if weight.dim() == 2:
            error = (deployed[name] - weight).norm() / weight.norm()
            # Uniform rounding in steps of max/8 of some 2.2 standard deviations:
            # 2.2 / 8 / sqrt(12) = 8 % of the standard deviation.
            assert 0.05 < float(error) < 0.12, name
