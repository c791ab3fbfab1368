"""Parameters of a deployment graph, as a reader of the graph alone counts them."""

from __future__ import annotations

import onnx


def deployment_parameters(model: onnx.ModelProto) -> int:
    """A table that is the head too counts once."""
    dims = {item.name: list(item.dims) for item in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    count = 0
    for node in products:
        sizes = {item.name: item.i for item in node.attribute}
        count += sizes["K"] * sizes["N"]
    (embed,) = (node for node in model.graph.node if node.name == "embed")
    if embed.input[2] not in {node.input[2] for node in products}:
        count += dims[embed.input[0]][0] * dims["model.norm.weight"][0]
    small = [name for name in dims if name.endswith((".bias", "norm.weight"))]
    return count + sum(dims[name][0] for name in small)
