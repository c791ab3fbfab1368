"""The structure of a candidate's graph: every node and shape, and not one byte of weights.

Milliseconds a candidate, since every candidate of a study is timed from its exported graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx

from phonesearch import __version__
from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.files import write_bytes
from phonesearch.onnx_export import deployment, portable
from phonesearch.onnx_export.fragment import MICROSOFT, Fragment, stamp_layers
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import Tensor

OPSET: Final = 21
"""Version of the standard operators in both forms."""
IR_VERSION: Final = 10
"""Version of the file format that came with opset 21."""


def build_structure(candidate: Candidate, settings: GraphSettings) -> onnx.ModelProto:
    """The candidate's graph without weights, symbolic dimensions kept.

    Weights are initializers with name, type and shape whose bytes are declared to be in
    `model.onnx.data`, at no offset yet; `export` writes that file and fills the offsets in.
    Candidates that no runtime would run (`deployment.require_runnable`) have a structure too,
    so that they can be timed on paper; `export` refuses them.
    """
    form = deployment if settings.form == "deployment" else portable
    parts = [
        form.opening(candidate, settings).proto.SerializeToString(),
        form.layer(candidate, settings, "0", None).proto.SerializeToString(),
        *stamp_layers(
            lambda here, before: form.layer(candidate, settings, here, before),
            first=1,
            stop=candidate.num_hidden_layers,
        ),
        form.closing(candidate, settings).proto.SerializeToString(),
    ]
    model = onnx.ModelProto()
    model.ir_version = IR_VERSION
    model.producer_name = "phonesearch"
    model.producer_version = __version__
    standard = model.opset_import.add()
    standard.domain, standard.version = "", OPSET
    if settings.form == "deployment":
        microsoft = model.opset_import.add()
        microsoft.domain, microsoft.version = MICROSOFT, 1
    # Joined serialised messages parse as the merged message.
    model.graph.ParseFromString(b"".join(parts))
    model.graph.name = "decoder"
    _outputs_in_order(model.graph)
    return model


def _outputs_in_order(graph: onnx.GraphProto) -> None:
    """Put `logits`, which the last part declares, before the caches."""
    outputs = list(graph.output)
    del graph.output[:]
    graph.output.append(outputs[-1])
    graph.output.extend(outputs[:-1])


def stored_tensors(candidate: Candidate, settings: GraphSettings) -> list[Tensor]:
    """What `build_structure`'s initializers are made from, in the order of the data file."""
    form = deployment if settings.form == "deployment" else portable
    layers: list[Fragment] = [form.opening(candidate, settings)]
    for index in range(candidate.num_hidden_layers):
        before = str(index - 1) if index else None
        layers.append(form.layer(candidate, settings, str(index), before))
    layers.append(form.closing(candidate, settings))
    return [tensor for part in layers for tensor in part.tensors]


def write_structure(candidate: Candidate, path: Path, settings: GraphSettings) -> None:
    """Write the structure to `path`, whole or not at all.

    It opens in any ONNX viewer, and with `onnx.load(path, load_external_data=False)`.

    Raises:
        ExportError: If the file cannot be written.
    """
    content = build_structure(candidate, settings).SerializeToString()
    try:
        write_bytes(path, content)
    except OSError as error:
        raise ExportError(
            f"The graph could not be written to {path} ({len(content):,} bytes): "
            f"{error.strerror}. Free space or choose another folder."
        ) from error
