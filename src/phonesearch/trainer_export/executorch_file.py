"""Writes a `model.pte`: our decoder through torch.export, torchao, and ExecuTorch's XNNPACK.

Source: the API as in executorch 1.5.1 and torchao 0.18; the constant methods are those that
ExecuTorch's C++ text runner asks for (`extension/llm/runner/constants.h`).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge_transform_and_lower,
)
from executorch.exir.passes import MemoryPlanningPass
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  # registers them
from torch import Tensor, nn
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_api import (
    Int8DynamicActivationIntxWeightConfig,
    IntxWeightOnlyConfig,
    quantize_,
)

from phonesearch.model.decoder import Decoder
from phonesearch.model.static_cache import StaticCacheDecoder
from phonesearch.trainer_export.request import ExportRequest


def attend(
    q_BLNH: Tensor,
    k_BLKH: Tensor,
    v_BLKH: Tensor,
    keys_BSKH: Tensor,
    values_BSKH: Tensor,
    start: Tensor,
) -> Tensor:
    """Causal attention by ExecuTorch's own operators, which look only at positions in use."""
    first = start[0].item()
    torch._check(first >= 0)  # type: ignore[no-untyped-call]
    torch._check(first < keys_BSKH.shape[1])  # type: ignore[no-untyped-call]
    torch.ops.llama.update_cache(k_BLKH, keys_BSKH, first)
    torch.ops.llama.update_cache(v_BLKH, values_BSKH, first)
    out_BLNH: Tensor = torch.ops.llama.custom_sdpa(
        q_BLNH, keys_BSKH, values_BSKH, first, None, 0.0, True
    )
    return out_BLNH


def rounded_module(request: ExportRequest, *, group: int) -> StaticCacheDecoder:
    """The candidate with its weights as the file has them, ready to be exported."""
    decoder = Decoder(request.candidate, seed=request.seed).eval()
    if request.weights is not None:
        decoder.load_state_dict({n: w.float() for n, w in request.weights.items()})
    module = StaticCacheDecoder(decoder, request.candidate.max_position_embeddings, attend).eval()
    table = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0))
    quantize_(module, table, lambda part, name: isinstance(part, nn.Embedding))
    projections = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4,  # type: ignore[attr-defined]
        weight_granularity=PerGroup(group),
    )
    quantize_(module, projections, lambda part, name: isinstance(part, nn.Linear))
    return module


def write_program(request: ExportRequest, path: Path, *, group: int) -> None:
    """Write the program.

    Args:
        request: Candidate and weights.
        path: File to write.
        group: Weights of one row that share a scale.
    """
    length = request.candidate.max_position_embeddings
    module = rounded_module(request, group=group)
    example = (torch.tensor([[0, 1, 2]]), torch.tensor([0]))
    new_tokens = torch.export.Dim("new_tokens", min=1, max=length)
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecations inside torch and ExecuTorch, of no use to who exports a model.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, example, dynamic_shapes=({1: new_tokens}, None), strict=False
        )
        edge = to_edge_transform_and_lower(
            {"forward": program},
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
            constant_methods=_constants(request),
        )
        lowered = edge.to_executorch(
            ExecutorchBackendConfig(
                extract_delegate_segments=True,
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                do_quant_fusion_and_const_prop=True,
            )
        )
    with path.open("wb") as stream:
        lowered.write_to_file(stream)


def _constants(request: ExportRequest) -> dict[str, Any]:
    candidate, tokens = request.candidate, request.special_tokens
    constants: dict[str, Any] = {
        "get_max_seq_len": candidate.max_position_embeddings,
        "get_max_context_len": candidate.max_position_embeddings,
        "get_vocab_size": candidate.vocab_size,
        "get_n_layers": candidate.num_hidden_layers,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
        "enable_dynamic_shape": True,
    }
    if tokens.bos is not None:
        constants["get_bos_id"] = tokens.bos
    if tokens.eos is not None:
        constants["get_eos_ids"] = [tokens.eos]
    return constants
