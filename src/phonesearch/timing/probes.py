"""Small graphs of one operator each, over a grid of shapes, to learn what an operator costs.

Several copies with weights of their own stand in one graph, so that the weights of a run are
far more, or far less, than the last cache holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from phonesearch.device.operators import uncached_share, units
from phonesearch.device.work import Attention, ElementWise, MatMul, Work
from phonesearch.errors import TimingError
from phonesearch.onnx_export.fragment import MICROSOFT
from phonesearch.onnx_export.graph import IR_VERSION, OPSET

BLOCK_SIZE: Final = 32
_FLOAT_BYTES: Final = 4
_INT4_DEVIATION: Final = 4.6
"""Of the integers -8 to 7, each as likely: scales of its inverse keep activations near 1."""

ProbeKind = Literal["matmul", "attention", "norm", "silu", "gelu", "copy"]
Feed = tuple[str, str, tuple[int, ...], int | None]
"""Name, NumPy type, shape and value of an input; None is random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One graph, and the runs of it that are timed."""

    kind: ProbeKind
    sizes: tuple[int, ...]
    """matmul: inputs and outputs of the first matrix (the second leads back, and so on).
    attention: query heads, key/value heads, head width. Others: elements a token."""
    copies: int
    runs: tuple[tuple[int, int], ...]
    """(new tokens, tokens in the cache before) of each run."""

    @property
    def name(self) -> str:
        """What it is called in the record."""
        return f"{self.kind}-{'x'.join(map(str, self.sizes))}-{self.copies}"


def designed_probes(cache_bytes: int) -> tuple[Probe, ...]:
    """The grid that a calibration runs: every term of `device/operators.py` in many mixtures.

    Args:
        cache_bytes: Size of the last cache; weights of a graph are twice that, or a quarter.
    """
    rows = ((1, 0), (16, 0), (64, 0), (128, 0))
    bytes_a_weight = 0.5 + _FLOAT_BYTES / BLOCK_SIZE

    def matrices(inputs: int, outputs: int, share: float) -> int:
        return max(round(share * cache_bytes / (inputs * outputs * bytes_a_weight)), 1)

    shapes = ((256, 768), (384, 1536), (512, 512), (768, 2048), (1024, 4096), (1536, 1536))
    probes = [
        Probe(kind="matmul", sizes=shape, copies=matrices(*shape, 2), runs=rows) for shape in shapes
    ]
    probes += [
        Probe(kind="matmul", sizes=shape, copies=matrices(*shape, share), runs=((1, 0),))
        for shape in ((256, 1024), (640, 1920), (1280, 2560))
        for share in (0.25, 1.0)
    ]
    probes.append(Probe(kind="matmul", sizes=(512, 49152), copies=2, runs=((1, 0), (1, 0))))
    contexts = ((1, 32), (1, 128), (1, 512), (1, 1024), (16, 0), (64, 0), (128, 0), (256, 0))
    probes += [
        Probe(kind="attention", sizes=shape, copies=8, runs=contexts)
        for shape in ((4, 4, 64), (8, 2, 64), (12, 1, 96), (8, 8, 128), (16, 4, 64), (6, 3, 128))
    ]
    plain: tuple[ProbeKind, ...] = ("norm", "silu", "gelu", "copy")
    probes += [
        Probe(kind=kind, sizes=(width,), copies=24, runs=rows)
        for kind in plain
        for width in (256, 1024, 3072)
    ]
    return tuple(probes)


def build_probe(probe: Probe) -> onnx.ModelProto:
    """The graph of a probe, weights inside, output `y` or, for attention, `y0`, `y1`, ..."""
    generator = np.random.default_rng(0)
    if probe.kind == "matmul":
        graph = _matmuls(probe, generator)
    elif probe.kind == "attention":
        graph = _attentions(probe)
    else:
        graph = _element_wise(probe)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    assert isinstance(model, onnx.ModelProto)
    return model


def feeds(probe: Probe, new_tokens: int, past_tokens: int) -> list[Feed]:
    """Inputs of one run; caches hold the new tokens too, as past and present share them."""
    if probe.kind != "attention":
        return [("x", "float32", (1, new_tokens, probe.sizes[0]), None)]
    heads, kv_heads, head_dim = probe.sizes
    total = past_tokens + new_tokens
    found: list[Feed] = [
        ("x", "float32", (1, new_tokens, (heads + 2 * kv_heads) * head_dim), None),
        ("seqlens_k", "int32", (1,), total - 1),
        ("total", "int32", (), total),
    ]
    for copy in range(probe.copies):
        for part in ("key", "value"):
            shape = (1, kv_heads, total, head_dim)
            found.append((f"past_key_values.{copy}.{part}", "float32", shape, None))
    return found


def work_of(probe: Probe) -> list[Work]:
    """The nodes of a probe as counted work, as `device.work.graph_work` would count them."""
    if probe.kind == "matmul":
        inputs, outputs = probe.sizes
        there, back = _matrix(inputs, outputs), _matrix(outputs, inputs)
        return [there if copy % 2 == 0 else back for copy in range(probe.copies)]
    if probe.kind == "attention":
        heads, kv_heads, head_dim = probe.sizes
        one: Work = Attention(
            num_heads=heads,
            head_dim=head_dim,
            local_window_size=-1,
            cache_bytes_per_position=2 * kv_heads * head_dim * _FLOAT_BYTES,
        )
        return [one] * probe.copies
    return [
        ElementWise(
            category="norms and element-wise",
            bytes_per_token=probe.sizes[0] * streams * _FLOAT_BYTES,
            last_token_only=False,
            operator=operator,
        )
        for operator, streams in _operators(probe)
    ]


def probe_units(
    probe: Probe, new_tokens: int, past_tokens: int, *, cache_bytes: float
) -> dict[str, float]:
    """Units of each term of `device/operators.py` in one run of the probe."""
    items = work_of(probe)
    weights = sum(item.weight_bytes for item in items if isinstance(item, MatMul))
    uncached = uncached_share(weights, cache_bytes)
    total: dict[str, float] = {"run": 1.0}
    for item in items:
        found = units(item, new_tokens=new_tokens, past_tokens=past_tokens, uncached=uncached)
        for term, amount in found.items():
            total[term] = total.get(term, 0.0) + amount
    return total


def _matrix(inputs: int, outputs: int) -> MatMul:
    scales = inputs * outputs // BLOCK_SIZE * _FLOAT_BYTES
    return MatMul(
        category="ffn",
        rows=outputs,
        columns=inputs,
        weight_bits=4,
        weight_bytes=inputs * outputs // 2 + scales,
        scale_bytes=scales,
        last_token_only=False,
    )


def _operators(probe: Probe) -> list[tuple[str, int]]:
    """Operator of each node and how many tensors it reads and writes."""
    if probe.kind == "copy":  # alternating, as the runtime would fold equal ones
        return [("Relu", 2) if copy % 2 == 0 else ("Mul", 3) for copy in range(probe.copies)]
    chosen = {
        "norm": ("SkipSimplifiedLayerNormalization", 4),
        "silu": ("QuickGelu", 2),
        "gelu": ("Gelu", 2),
    }
    if probe.kind not in chosen:
        raise TimingError(f"There is no probe of kind {probe.kind!r}.")
    return [chosen[probe.kind]] * probe.copies


def _matmuls(probe: Probe, generator: np.random.Generator) -> onnx.GraphProto:
    nodes, constants = [], []
    for copy, item in enumerate(work_of(probe)):
        assert isinstance(item, MatMul)
        blocks = item.columns // BLOCK_SIZE
        packed = generator.bytes(item.rows * item.columns // 2)
        scale = 1 / (_INT4_DEVIATION * item.columns**0.5)
        weights = np.frombuffer(packed, dtype=np.uint8)
        constants += [
            _constant(f"w{copy}", weights.reshape(item.rows, blocks, BLOCK_SIZE // 2)),
            _constant(f"s{copy}", np.full((item.rows, blocks), scale, dtype=np.float32)),
        ]
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [f"x{copy}" if copy else "x", f"w{copy}", f"s{copy}"],
                ["y" if copy == probe.copies - 1 else f"x{copy + 1}"],
                domain=MICROSOFT,
                K=item.columns,
                N=item.rows,
                bits=4,
                block_size=BLOCK_SIZE,
                accuracy_level=4,
            )
        )
    width = probe.sizes[1] if probe.copies % 2 else probe.sizes[0]
    return helper.make_graph(
        nodes, "probe", [_activation("x", probe.sizes[0])], [_activation("y", width)], constants
    )


def _attentions(probe: Probe) -> onnx.GraphProto:
    heads, kv_heads, head_dim = probe.sizes
    longest = max(new + past for new, past in probe.runs)
    angle = np.outer(np.arange(longest), 1 / (1 + np.arange(head_dim // 2)))
    constants = [
        _constant("cos", np.cos(angle).astype(np.float32)),
        _constant("sin", np.sin(angle).astype(np.float32)),
    ]
    inputs = [
        _activation("x", (heads + 2 * kv_heads) * head_dim),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, (1,)),
        helper.make_tensor_value_info("total", TensorProto.INT32, ()),
    ]
    nodes, outputs = [], []
    for copy in range(probe.copies):
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
                ["x", "", "", *past, "seqlens_k", "total", "cos", "sin"],
                [f"y{copy}", *present],
                domain=MICROSOFT,
                num_heads=heads,
                kv_num_heads=kv_heads,
                scale=head_dim**-0.5,
                do_rotary=1,
            )
        )
    return helper.make_graph(nodes, "probe", inputs, outputs, constants)


def _element_wise(probe: Probe) -> onnx.GraphProto:
    width = probe.sizes[0]
    operators = _operators(probe)
    nodes = []
    before, stream = "x", "x"
    for copy, (operator, _) in enumerate(operators):
        after = "y" if copy == len(operators) - 1 else f"x{copy + 1}"
        if operator == "SkipSimplifiedLayerNormalization":
            attributes: dict[str, Any] = {"domain": MICROSOFT, "epsilon": 1e-6}
            nodes.append(
                helper.make_node(
                    operator, [stream, before, "gain"], [after, "", "", f"r{copy}"], **attributes
                )
            )
            stream = f"r{copy}"
        elif operator == "QuickGelu":
            attributes = {"domain": MICROSOFT, "alpha": 1.0}
            nodes.append(helper.make_node(operator, [before], [after], **attributes))
        else:
            read: Sequence[str] = [before, "x"] if operator == "Mul" else [before]
            nodes.append(helper.make_node(operator, read, [after]))
        before = after
    used = any("gain" in node.input for node in nodes)
    constants: Iterable[onnx.TensorProto] = (
        [_constant("gain", np.ones(width, dtype=np.float32))] if used else []
    )
    return helper.make_graph(
        nodes, "probe", [_activation("x", width)], [_activation("y", width)], list(constants)
    )


def _activation(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, "tokens", width))


def _constant(name: str, values: NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)
