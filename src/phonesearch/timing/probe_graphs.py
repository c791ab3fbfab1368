"""Graphs of one operator over and over, to time it alone.

Nodes, attributes and input names are those of the deployment form, so that `device.work` counts
them as it counts a model; the input `x` takes the place of what ran before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from phonesearch.onnx_export.contents import levels_deviation, symmetric_levels
from phonesearch.onnx_export.fragment import MICROSOFT
from phonesearch.onnx_export.graph import IR_VERSION, OPSET

BLOCK_SIZE: Final = 32
_BITS: Final = 4

OperatorKind = Literal["matmul", "attention", "norm", "silu", "gelu", "copy"]


def operator_graph(
    kind: OperatorKind,
    sizes: Sequence[int],
    copies: int,
    *,
    longest: int,
    with_weights: bool = True,
) -> onnx.ModelProto:
    """One operator `copies` times.

    Args:
        kind: `matmul`: a chain, the first matrix leading from `sizes[0]` to `sizes[1]` elements
            a token, the second back, and so on. `attention`: side by side, each with a cache of
            its own; `sizes` are query heads, key/value heads and head width. Others: a chain on
            `sizes[0]` elements a token; `copy` is Relu and Mul by turns, as the runtime would
            fold equal ones.
        sizes: See there.
        copies: Nodes.
        longest: Positions of the rotary tables.
        with_weights: Whether matrices have their bytes; without, work can be counted all the same.
    """
    if kind == "matmul":
        graph = _matmuls(sizes[0], sizes[1], copies, with_weights)
    elif kind == "attention":
        graph = _attentions(sizes[0], sizes[1], sizes[2], copies, longest)
    else:
        graph = _element_wise(kind, sizes[0], copies)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    assert isinstance(model, onnx.ModelProto)
    return model


def _matmuls(inputs: int, outputs: int, copies: int, with_weights: bool) -> onnx.GraphProto:
    generator = np.random.default_rng(0)
    nodes, constants = [], []
    columns, rows = inputs, outputs
    for copy in range(copies):
        blocks = columns // BLOCK_SIZE
        shapes = {f"w{copy}": (rows, blocks, BLOCK_SIZE // 2), f"s{copy}": (rows, blocks)}
        types = {f"w{copy}": TensorProto.UINT8, f"s{copy}": TensorProto.FLOAT}
        if with_weights:
            drawn = np.frombuffer(generator.bytes(rows * columns // 2), dtype=np.uint8)
            scale = 1 / (levels_deviation(_BITS) * columns**0.5)
            packed = symmetric_levels(drawn, _BITS).reshape(shapes[f"w{copy}"])
            constants.append(_constant(f"w{copy}", packed))
            constants.append(
                _constant(f"s{copy}", np.full((rows, blocks), scale, dtype=np.float32))
            )
        else:
            constants += [
                TensorProto(name=name, data_type=types[name], dims=dims)
                for name, dims in shapes.items()
            ]
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [f"x{copy}" if copy else "x", f"w{copy}", f"s{copy}"],
                ["y" if copy == copies - 1 else f"x{copy + 1}"],
                name=f"layers.{copy}.mlp.up_proj",
                domain=MICROSOFT,
                K=columns,
                N=rows,
                bits=_BITS,
                block_size=BLOCK_SIZE,
                accuracy_level=4,
            )
        )
        columns, rows = rows, columns
    return helper.make_graph(
        nodes, "probe", [_activation("x", inputs)], [_activation("y", columns)], constants
    )


def _attentions(
    heads: int, kv_heads: int, head_dim: int, copies: int, longest: int
) -> onnx.GraphProto:
    frequencies = 10000.0 ** -(np.arange(head_dim // 2) / (head_dim // 2))
    angle = np.outer(np.arange(longest), frequencies)
    constants = [
        _constant("cos_cache", np.cos(angle).astype(np.float32)),
        _constant("sin_cache", np.sin(angle).astype(np.float32)),
    ]
    inputs = [
        _activation("x", (heads + 2 * kv_heads) * head_dim),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, (1,)),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, ()),
    ]
    nodes, outputs = [], []
    for copy in range(copies):
        past = [f"past_key_values.{copy}.{part}" for part in ("key", "value")]
        present = [name.replace("past_key_values", "present") for name in past]
        shape = (1, kv_heads, "length", head_dim)
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in past]
        outputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in present
        ]
        outputs.append(_activation(f"y{copy}", heads * head_dim))
        nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [
                    *("x", "", "", *past, "seqlens_k", "total_sequence_length"),
                    *("cos_cache", "sin_cache"),
                ],
                [f"y{copy}", *present],
                name=f"layers.{copy}.attn.attention",
                domain=MICROSOFT,
                num_heads=heads,
                kv_num_heads=kv_heads,
                scale=head_dim**-0.5,
                do_rotary=1,
            )
        )
    return helper.make_graph(nodes, "probe", inputs, outputs, constants)


def _element_wise(kind: OperatorKind, width: int, copies: int) -> onnx.GraphProto:
    nodes = []
    before, stream = "x", "x"
    for copy in range(copies):
        after = "y" if copy == copies - 1 else f"x{copy + 1}"
        name = f"layers.{copy}.{kind}"
        if kind == "norm":
            nodes.append(
                helper.make_node(
                    "SkipSimplifiedLayerNormalization",
                    [stream, before, "gain"],
                    [after, "", "", f"r{copy}"],
                    name=name,
                    domain=MICROSOFT,
                    epsilon=1e-6,
                )
            )
            stream = f"r{copy}"
        elif kind == "silu":
            nodes.append(
                helper.make_node(
                    "QuickGelu", [before], [after], name=name, domain=MICROSOFT, alpha=1.0
                )
            )
        elif kind == "gelu":
            nodes.append(helper.make_node("Gelu", [before], [after], name=name))
        elif copy % 2:
            nodes.append(helper.make_node("Mul", [before, "x"], [after], name=name))
        else:
            nodes.append(helper.make_node("Relu", [before], [after], name=name))
        before = after
    constants = [_constant("gain", np.ones(width, dtype=np.float32))] if kind == "norm" else []
    return helper.make_graph(
        nodes, "probe", [_activation("x", width)], [_activation("y", width)], constants
    )


def _activation(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, "tokens", width))


def _constant(name: str, values: NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)
