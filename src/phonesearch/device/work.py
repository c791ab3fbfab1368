"""What an exported deployment graph does, node by node, as counted pieces of work.

Every figure comes from the graph's nodes, attributes and declared shapes; nothing here knows a
`Candidate` or a device. Equal nodes (the layers of a model) are counted, not listed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import onnx

from phonesearch.errors import ProfileError

Category = Literal[
    "attention projections",
    "attention",
    "ffn",
    "head",
    "embedding",
    "norms and element-wise",
    "dispatch",
]
CATEGORIES: Final[tuple[Category, ...]] = (
    "attention projections",
    "attention",
    "ffn",
    "head",
    "embedding",
    "norms and element-wise",
    "dispatch",
)

_ELEMENT_BYTES: Final[dict[int, int]] = {
    int(onnx.TensorProto.FLOAT): 4,
    int(onnx.TensorProto.FLOAT16): 2,
    int(onnx.TensorProto.UINT8): 1,
    int(onnx.TensorProto.INT8): 1,
}
_ACTIVATION_BYTES: Final = 4
"""Activations of the deployment graph are float32."""
_ACTIVATION_RANK: Final = 3
"""Batch, tokens and elements."""
_UNSCALED_BITS: Final = 16
"""Weights of this width or more are floats, without a scale a block."""
_LENGTHS_ONLY: Final = ("Cast", "Gather", "ReduceSum", "Shape", "Sub")
"""Operators that compute lengths from the attention mask: a few integers."""


@dataclass(frozen=True, slots=True)
class MatMul:
    """One product of activations with a weight matrix (`MatMulNBits`)."""

    category: Category
    rows: int
    """Outputs a token, N of the operator."""
    columns: int
    """Inputs a token, K of the operator."""
    weight_bits: int
    weight_bytes: int
    """Packed weights, scales and bias, as declared in the graph."""
    scale_bytes: int
    """The part of these that scales are."""
    last_token_only: bool
    """Whether a prefill computes it for the last position alone (the pruned head)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One `GroupQueryAttention`: scores, softmax and weighted sum over the cache."""

    num_heads: int
    """Query heads."""
    num_key_value_heads: int
    head_dim: int
    local_window_size: int
    """Newest positions a query sees; -1 is all of them."""
    cache_bytes_per_position: int
    """Keys and values of one position, in the element type of the graph's cache inputs."""

    def seen(self, total: int, queries: int) -> int:
        """Positions that the last `queries` of `total` positions see between them."""
        if self.local_window_size < 0:
            return total
        return min(total, self.local_window_size + queries - 1)


@dataclass(frozen=True, slots=True)
class ElementWise:
    """One norm, activation, product, or embedding lookup: bytes in and out of each token."""

    category: Category
    bytes_per_token: int
    last_token_only: bool
    operator: str = ""
    """ONNX operator that does it."""


Work = MatMul | Attention | ElementWise


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWork:
    """All work of one run of a graph, with equal pieces counted."""

    items: tuple[tuple[Work, int], ...]
    """(piece, how many nodes do it)."""
    num_calls: int
    """Nodes that touch activations, reshapes of them included (engines that cannot alias
    memory run those as copies). Left out are the few that compute lengths from the mask, and
    the trim of a padded embedding row, which belongs to its lookup."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight matrices that one token reads, embedding lookup left out."""
        return sum(item.weight_bytes * n for item, n in self.items if isinstance(item, MatMul))

    @property
    def weight_bits(self) -> tuple[int, ...]:
        """Widths of its weight matrices, ascending; one for every graph built here."""
        return tuple(sorted({i.weight_bits for i, _ in self.items if isinstance(i, MatMul)}))


def graph_work(structure: onnx.ModelProto) -> GraphWork:
    """Count the work of a deployment graph, with or without its weights.

    Args:
        structure: What `onnx_export.graph.build_structure` gives for the deployment form.

    Raises:
        ProfileError: If a node is not one that the deployment form uses, or is misnamed.
    """
    graph = structure.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    caches = {
        value.name: value.type.tensor_type for value in graph.input if value.name.endswith(".key")
    }
    # Elements a token of every activation; a graph that is no whole model is fed some.
    width: dict[str, int] = {
        value.name: value.type.tensor_type.shape.dim[2].dim_value
        for value in graph.input
        if len(value.type.tensor_type.shape.dim) == _ACTIVATION_RANK
    }
    pruned: set[str] = set()  # activations of the last position alone
    counts: Counter[tuple[Any, ...]] = Counter()
    num_views = 0
    for node in graph.node:
        kind, inputs = node.op_type, node.input
        elements = width.get(inputs[0], 0)
        last = inputs[0] in pruned
        if kind == "MatMulNBits":
            attributes = _integers(node)
            size = sum(_stored_bytes(weights[name]) for name in inputs[1:] if name)
            scales = _stored_bytes(weights[inputs[2]])
            elements, columns, bits = attributes["N"], attributes["K"], attributes["bits"]
            counts[MatMul, _category(node.name), elements, columns, bits, size, scales, last] += 1
        elif kind == "GroupQueryAttention":
            attributes = _integers(node)
            heads, kv_heads = attributes["num_heads"], attributes["kv_num_heads"]
            cache = caches[inputs[3]]
            head_dim = cache.shape.dim[3].dim_value
            position_bytes = 2 * kv_heads * head_dim * _ELEMENT_BYTES[cache.elem_type]
            window = attributes.get("local_window_size", -1)
            counts[Attention, heads, kv_heads, head_dim, window, position_bytes] += 1
            elements = heads * head_dim
        elif kind == "GatherBlockQuantized":
            table = weights[inputs[0]]
            row_bytes = (_stored_bytes(table) + _stored_bytes(weights[inputs[2]])) // table.dims[0]
            elements = math.prod(table.dims[1:]) * 8 // _integers(node)["bits"]
            moved = row_bytes + elements * _ACTIVATION_BYTES
            counts[ElementWise, "embedding", moved, False, kind] += 1
        elif kind == "Slice" and elements:
            start, stop, axis = (_constant(weights[name]) for name in inputs[1:4])
            if axis == 1 and start == -1:
                last = True
                num_views += 1
            else:
                elements = stop - start
        elif kind == "Reshape" and elements:
            num_views += 1
        elif not elements:
            if kind not in _LENGTHS_ONLY:
                raise ProfileError(
                    f"Node {node.name!r} ({kind}) cannot be timed: the cost model knows the "
                    "operators of the deployment form only. Build the graph with "
                    "`onnx_export.graph.build_structure(candidate, GraphSettings())`."
                )
        else:  # a norm, an activation, a product: read the inputs, write the outputs
            streams = sum(name in width for name in inputs) + sum(map(bool, node.output))
            moved = elements * streams * _ACTIVATION_BYTES
            counts[ElementWise, "norms and element-wise", moved, last, kind] += 1
        if elements:
            for name in node.output:
                width[name] = elements
            if last:
                pruned.update(node.output)
    items = tuple((kind(*fields), count) for (kind, *fields), count in counts.items())
    return GraphWork(items=items, num_calls=sum(counts.values()) + num_views)


def at_width(work: GraphWork, weight_bits: int) -> GraphWork:
    """The same work with its weight matrices at another width.

    A matrix of N x K weights at b bits is N K (b - b') / 8 bytes more than at the graph's b'.
    Scales stay those of the graph, unless the new width is 16 or more, which has none.

    Args:
        work: Work of a graph.
        weight_bits: Width to price at, for instance 16 for float16.
    """
    items: list[tuple[Work, int]] = []
    for item, count in work.items:
        if isinstance(item, MatMul) and item.weight_bits != weight_bits:
            more = item.rows * item.columns * (weight_bits - item.weight_bits) // 8
            scales = item.scale_bytes if weight_bits < _UNSCALED_BITS else 0
            item = replace(
                item,
                weight_bits=weight_bits,
                weight_bytes=item.weight_bytes + more - item.scale_bytes + scales,
                scale_bytes=scales,
            )
        items.append((item, count))
    return GraphWork(items=tuple(items), num_calls=work.num_calls)


def _category(name: str) -> Category:
    """Which matrix a `MatMulNBits` multiplies by, from its name.

    Raises:
        ProfileError: If the name is none that `onnx_export.deployment` gives.
    """
    if ".mlp." in name:
        return "ffn"
    if ".attn." in name:
        return "attention projections"
    if name == "head":
        return "head"
    raise ProfileError(
        f"MatMulNBits node {name!r} cannot be timed: names must be those of the deployment form "
        "(`layers.N.attn...`, `layers.N.mlp...`, `head`). Build the graph with "
        "`onnx_export.graph.build_structure(candidate, GraphSettings())`."
    )


def _integers(node: onnx.NodeProto) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    count: int = math.prod(tensor.dims)
    return count * _ELEMENT_BYTES[tensor.data_type]


def _constant(tensor: onnx.TensorProto) -> int:
    """First value of an int64 constant stored in the graph."""
    return int.from_bytes(tensor.raw_data[:8], "little", signed=True)
