"""A part of a graph under construction, and the stamping of one layer into all layers.

`onnx.helper` takes milliseconds a layer; here a layer is built once, serialised, and its bytes
are repeated with the layer number replaced, then parsed in one go. Names keep their length when
a number takes the place of a placeholder of as many characters, so the bytes stay valid
protobuf; layers are therefore built once for every number of digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import AttributeProto, TensorProto

from phonesearch.onnx_export.tensors import Stored, Tensor

DATA_FILE = "model.onnx.data"
"""Name of the file of weights beside `model.onnx`."""
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

Dim = int | str
Attributes = Mapping[str, int | float | tuple[int, ...]]


class Fragment:
    """Nodes, inputs, outputs and initializers of a part of a graph, in order."""

    def __init__(self) -> None:
        self.proto = onnx.GraphProto()
        self.tensors: list[Tensor] = []

    def node(
        self,
        op_type: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        domain: str = "",
        attributes: Attributes | None = None,
    ) -> str:
        """Add a node; its first output, named `{name}.out` unless `outputs` are given."""
        node = self.proto.node.add()
        node.op_type = op_type
        node.name = name
        if domain:
            node.domain = domain
        node.input.extend(inputs)
        names = outputs if outputs is not None else (f"{name}.out",)
        node.output.extend(names)
        for key, value in (attributes or {}).items():
            attribute = node.attribute.add()
            attribute.name = key
            if isinstance(value, int):
                attribute.type = AttributeProto.INT
                attribute.i = value
            elif isinstance(value, tuple):
                attribute.type = AttributeProto.INTS
                attribute.ints.extend(value)
            else:
                attribute.type = AttributeProto.FLOAT
                attribute.f = value
        return names[0]

    def declare(self, tensor: Tensor) -> None:
        """Add the initializers of a stored tensor: name, type and shape, no bytes."""
        self.tensors.append(tensor)
        for stored in tensor.initializers:
            self._declare(stored)

    def _declare(self, stored: Stored) -> None:
        proto = self.proto.initializer.add()
        proto.dims.extend(stored.dims)
        proto.data_type = stored.data_type
        proto.name = stored.name
        proto.data_location = TensorProto.EXTERNAL
        entry = proto.external_data.add()
        entry.key, entry.value = "location", DATA_FILE

    def constant(self, name: str, values: Sequence[int] | int) -> str:
        """Add an int64 constant that lives in the graph itself, a scalar or a vector."""
        proto = self.proto.initializer.add()
        proto.name = name
        proto.data_type = TensorProto.INT64
        if isinstance(values, int):
            values = (values,)
        else:
            proto.dims.append(len(values))
        proto.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
        return name

    def scalar(self, name: str, value: float) -> str:
        """Add a float32 scalar that lives in the graph itself."""
        proto = self.proto.initializer.add()
        proto.name = name
        proto.data_type = TensorProto.FLOAT
        proto.float_data.append(value)
        return name

    def vector(self, name: str, values: Sequence[float]) -> str:
        """Add a float32 vector that lives in the graph itself."""
        self.scalar(name, 0.0)
        proto = self.proto.initializer[-1]
        proto.dims.append(len(values))
        del proto.float_data[:]
        proto.float_data.extend(values)
        return name

    def input(self, name: str, data_type: int, shape: Sequence[Dim]) -> str:
        """Add a graph input."""
        _value(self.proto.input.add(), name, data_type, shape)
        return name

    def output(self, name: str, data_type: int, shape: Sequence[Dim]) -> str:
        """Add a graph output."""
        _value(self.proto.output.add(), name, data_type, shape)
        return name


def _value(value: onnx.ValueInfoProto, name: str, data_type: int, shape: Sequence[Dim]) -> None:
    value.name = name
    value.type.tensor_type.elem_type = data_type
    for dim in shape:
        proto = value.type.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            proto.dim_value = dim
        else:
            proto.dim_param = dim


def stamp_layers(build: Callable[[str, str], Fragment], *, first: int, stop: int) -> list[bytes]:
    """Serialised graph parts of layers `first` to `stop - 1`.

    `build(here, before)` gives the part of one layer from its number and that of the layer
    before it, as text; the numbers may appear only in names, between two dots. Equal to
    `build(str(i), str(i - 1)).proto.SerializeToString()` for each, in a fraction of the time.
    """
    templates: dict[tuple[int, int], bytes] = {}
    stamped = []
    for index in range(first, stop):
        here, before = str(index), str(index - 1)
        widths = len(here), len(before)
        if widths not in templates:
            part = build("\x01" * len(here), "\x02" * len(before))
            templates[widths] = part.proto.SerializeToString()
        # ".\x01." cannot occur outside a name: "." as a tag has a wire type that does not
        # exist, and a byte of 1 or 2 after it would be field number 0.
        layer = templates[widths].replace(b"." + b"\x01" * widths[0] + b".", f".{here}.".encode())
        stamped.append(layer.replace(b"." + b"\x02" * widths[1] + b".", f".{before}.".encode()))
    return stamped
