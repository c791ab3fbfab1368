"""The graph that phones run: quantised matrices and ONNX Runtime's fused operators.

Every weight matrix is a `MatMulNBits`, attention with its cache and rotation is one
`GroupQueryAttention`, an addition to the residual stream and the norm after it are one
`SkipSimplifiedLayerNormalization`. Input and output names are those of onnxruntime-genai.

Node names are a contract: the cost model and the report sum times by them.
"""

from __future__ import annotations

from typing import Final

from onnx import TensorProto

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.onnx_export.fragment import MICROSOFT, Fragment
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import FloatTensor, QuantisedMatrix, RotaryTable

HEAD_DIM_MULTIPLE: Final = 16
"""Source: `GroupQueryAttention` of ONNX Runtime 1.32 with `do_rotary`, which refuses other head
widths when it runs ("head_size shall be a multiple of 16")."""
_INT64_MAX: Final = 2**63 - 1


def require_runnable(candidate: Candidate) -> None:
    """Refuse a candidate whose graph can be built and timed on paper, but not run.

    Raises:
        ExportError: If ONNX Runtime's attention does not take heads of this width.
    """
    if candidate.head_dim % HEAD_DIM_MULTIPLE:
        raise ExportError(
            "ONNX Runtime runs a deployment graph only if `head_dim` is a multiple of "
            f"{HEAD_DIM_MULTIPLE}, got {candidate.head_dim}. Change it, or export the portable "
            "form."
        )


def opening(candidate: Candidate, settings: GraphSettings) -> Fragment:
    """Inputs, embedding, rotary tables and the lengths that every attention node reads."""
    part = Fragment()
    tokens = part.input("input_ids", TensorProto.INT64, ("batch_size", "sequence_length"))
    mask = part.input("attention_mask", TensorProto.INT64, ("batch_size", "total_sequence_length"))
    table = _table(candidate, settings, multiplied=candidate.tie_word_embeddings)
    part.declare(table)
    padded = table.blocks * table.block_size != table.columns
    embedded = part.node(
        "GatherBlockQuantized",
        "embed",
        (table.packed_rows.name, tokens, table.scales.name),
        ("embed.padded" if padded else "embed.out",),
        domain=MICROSOFT,
        attributes={
            "bits": table.bits,
            "block_size": table.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        },
    )
    if padded:
        start = part.constant("embed.trim.start", (0,))
        stop = part.constant("embed.trim.stop", (candidate.hidden_size,))
        axis = part.constant("embed.trim.axis", (2,))
        part.node("Slice", "embed.trim", (embedded, start, stop, axis), ("embed.out",))
    for function in ("cos", "sin"):
        part.declare(
            RotaryTable(
                name=f"{function}_cache",
                positions=candidate.max_position_embeddings,
                pairs=candidate.head_dim // 2,
                function="cos" if function == "cos" else "sin",
            )
        )
    one = part.constant("one", (1,))
    counted = part.node("ReduceSum", "mask.count", (mask, one), attributes={"keepdims": 0})
    newest = part.node("Sub", "mask.newest", (counted, one))
    int32 = {"to": int(TensorProto.INT32)}
    part.node("Cast", "mask.seqlens_k", (newest,), attributes=int32)
    shape = part.node("Shape", "mask.shape", (mask,))
    total_axis = part.constant("mask.total_axis", 1)
    total = part.node("Gather", "mask.total", (shape, total_axis), attributes={"axis": 0})
    part.node("Cast", "mask.total_sequence_length", (total,), attributes=int32)
    if candidate.qk_norm:
        part.constant("heads.split", (0, 0, -1, candidate.head_dim))
        part.constant("heads.merge", (0, 0, -1))
    return part


def layer(candidate: Candidate, settings: GraphSettings, here: str, before: str | None) -> Fragment:
    """One block; `here` is its number, `before` that of the block before, None for the first."""
    part = Fragment()
    name = f"layers.{here}"
    if before is None:
        residual = "embed.out"
        gain = _gain(part, candidate, f"model.layers.{here}.input_layernorm.weight")
        normed = part.node(
            "SimplifiedLayerNormalization",
            f"{name}.input_norm",
            (residual, gain),
            attributes={"axis": -1, "epsilon": candidate.rms_norm_eps, "stash_type": 1},
        )
    else:
        normed, residual = _skip_norm(
            part,
            candidate,
            f"{name}.input_norm",
            stream=f"layers.{before}.post_norm.sum",
            added=f"layers.{before}.mlp.down_proj.out",
            gain=f"model.layers.{here}.input_layernorm.weight",
        )
    attended = _attention(part, candidate, settings, here, normed)
    normed, _ = _skip_norm(
        part,
        candidate,
        f"{name}.post_norm",
        stream=residual,
        added=attended,
        gain=f"model.layers.{here}.post_attention_layernorm.weight",
    )
    _feed_forward(part, candidate, settings, here, normed)
    return part


def closing(candidate: Candidate, settings: GraphSettings) -> Fragment:
    """The last norm and the head."""
    part = Fragment()
    last = candidate.num_hidden_layers - 1
    gain = _gain(part, candidate, "model.norm.weight")
    normed = part.node(
        "SkipSimplifiedLayerNormalization",
        "final_norm",
        (f"layers.{last}.post_norm.sum", f"layers.{last}.mlp.down_proj.out", gain),
        domain=MICROSOFT,
        attributes={"epsilon": candidate.rms_norm_eps},
    )
    if settings.logits == "last":
        start = part.constant("last_token.start", (-1,))
        stop = part.constant("last_token.stop", (_INT64_MAX,))
        normed = part.node("Slice", "last_token", (normed, start, stop, "one"))
    if candidate.tie_word_embeddings:
        head = _table(candidate, settings, multiplied=True)
    else:
        head = QuantisedMatrix(
            name="lm_head.weight",
            rows=candidate.vocab_size,
            columns=candidate.hidden_size,
            bits=settings.weight_bits,
            block_size=settings.block_size,
            sources=("lm_head.weight",),
        )
        part.declare(head)
    _multiply(part, settings, "head", normed, head, bias=None, output="logits")
    positions = 1 if settings.logits == "last" else "sequence_length"
    part.output("logits", TensorProto.FLOAT, ("batch_size", positions, candidate.vocab_size))
    return part


def _table(candidate: Candidate, settings: GraphSettings, *, multiplied: bool) -> QuantisedMatrix:
    return QuantisedMatrix(
        name="model.embed_tokens.weight",
        rows=candidate.vocab_size,
        columns=candidate.hidden_size,
        bits=settings.weight_bits,
        block_size=settings.block_size,
        sources=("model.embed_tokens.weight",),
        gathered=True,
        multiplied=multiplied,
    )


def _gain(part: Fragment, candidate: Candidate, name: str, *, size: int | None = None) -> str:
    dims = (candidate.hidden_size if size is None else size,)
    part.declare(
        FloatTensor(name=name, dims=dims, data_type=TensorProto.FLOAT, sources=(name,), role="gain")
    )
    return name


def _skip_norm(
    part: Fragment, candidate: Candidate, name: str, *, stream: str, added: str, gain: str
) -> tuple[str, str]:
    """Norm of `stream + added`, and that sum."""
    _gain(part, candidate, gain)
    part.node(
        "SkipSimplifiedLayerNormalization",
        name,
        (stream, added, gain),
        (f"{name}.out", "", "", f"{name}.sum"),
        domain=MICROSOFT,
        attributes={"epsilon": candidate.rms_norm_eps},
    )
    return f"{name}.out", f"{name}.sum"


def _linear(
    part: Fragment,
    settings: GraphSettings,
    name: str,
    x: str,
    *,
    module: str,
    projections: tuple[str, ...],
    rows: int,
    columns: int,
    bias: bool,
) -> str:
    """Declare the stacked weights of `projections` in `module` and multiply `x` by them."""
    stacked = projections[0] if len(projections) == 1 else "qkv_proj"
    matrix = QuantisedMatrix(
        name=f"{module}.{stacked}.weight",
        rows=rows,
        columns=columns,
        bits=settings.weight_bits,
        block_size=settings.block_size,
        sources=tuple(f"{module}.{projection}.weight" for projection in projections),
    )
    part.declare(matrix)
    bias_name = None
    if bias:
        bias_name = f"{module}.{stacked}.bias"
        part.declare(
            FloatTensor(
                name=bias_name,
                dims=(rows,),
                data_type=TensorProto.FLOAT,
                sources=tuple(f"{module}.{projection}.bias" for projection in projections),
                role="bias",
            )
        )
    return _multiply(part, settings, name, x, matrix, bias=bias_name)


def _multiply(
    part: Fragment,
    settings: GraphSettings,
    name: str,
    x: str,
    matrix: QuantisedMatrix,
    *,
    bias: str | None,
    output: str | None = None,
) -> str:
    inputs: tuple[str, ...] = (x, matrix.packed.name, matrix.scales.name)
    if bias is not None:
        inputs = (*inputs, "", "", bias)
    return part.node(
        "MatMulNBits",
        name,
        inputs,
        (output,) if output is not None else None,
        domain=MICROSOFT,
        attributes={
            "K": matrix.columns,
            "N": matrix.rows,
            "bits": matrix.bits,
            "block_size": matrix.block_size,
            "accuracy_level": settings.accuracy_level,
        },
    )


def _attention(
    part: Fragment, candidate: Candidate, settings: GraphSettings, here: str, x: str
) -> str:
    """Projections, rotary attention over the cache and output projection."""
    module, name = f"model.layers.{here}.self_attn", f"layers.{here}.attn"
    heads, kv_heads = candidate.num_attention_heads, candidate.num_key_value_heads
    query_size = heads * candidate.head_dim
    kv_size = kv_heads * candidate.head_dim
    if candidate.qk_norm:
        parts = []
        for short, size in (("q", query_size), ("k", kv_size), ("v", kv_size)):
            parts.append(
                _linear(
                    part,
                    settings,
                    f"{name}.{short}_proj",
                    x,
                    module=module,
                    projections=(f"{short}_proj",),
                    rows=size,
                    columns=candidate.hidden_size,
                    bias=candidate.attention_bias,
                )
            )
        query, key, value = parts
        query = _head_norm(part, candidate, f"{name}.q_norm", query, f"{module}.q_norm.weight")
        key = _head_norm(part, candidate, f"{name}.k_norm", key, f"{module}.k_norm.weight")
        projected: tuple[str, ...] = (query, key, value)
    else:
        packed = _linear(
            part,
            settings,
            f"{name}.qkv_proj",
            x,
            module=module,
            projections=("q_proj", "k_proj", "v_proj"),
            rows=query_size + 2 * kv_size,
            columns=candidate.hidden_size,
            bias=candidate.attention_bias,
        )
        projected = (packed, "", "")
    cache = "batch_size", kv_heads, "past_sequence_length", candidate.head_dim
    present = "batch_size", kv_heads, "total_sequence_length", candidate.head_dim
    past_key = part.input(f"past_key_values.{here}.key", TensorProto.FLOAT, cache)
    past_value = part.input(f"past_key_values.{here}.value", TensorProto.FLOAT, cache)
    part.output(f"present.{here}.key", TensorProto.FLOAT, present)
    part.output(f"present.{here}.value", TensorProto.FLOAT, present)
    lengths = "mask.seqlens_k.out", "mask.total_sequence_length.out"
    attributes: dict[str, int | float] = {
        "num_heads": heads,
        "kv_num_heads": kv_heads,
        "scale": candidate.head_dim**-0.5,
        "do_rotary": 1,
        "rotary_interleaved": 0,
        "local_window_size": -1 if candidate.sliding_window is None else candidate.sliding_window,
    }
    attended = part.node(
        "GroupQueryAttention",
        f"{name}.attention",
        (*projected, past_key, past_value, *lengths, "cos_cache", "sin_cache"),
        (f"{name}.attention.out", f"present.{here}.key", f"present.{here}.value"),
        domain=MICROSOFT,
        attributes=attributes,
    )
    return _linear(
        part,
        settings,
        f"{name}.o_proj",
        attended,
        module=module,
        projections=("o_proj",),
        rows=candidate.hidden_size,
        columns=query_size,
        bias=candidate.attention_out_bias,
    )


def _head_norm(part: Fragment, candidate: Candidate, name: str, x: str, gain: str) -> str:
    """RMSNorm over each head of `x`, shape (batch, length, heads * head_dim)."""
    _gain(part, candidate, gain, size=candidate.head_dim)
    split = part.node("Reshape", f"{name}.split", (x, "heads.split"))
    normed = part.node(
        "SimplifiedLayerNormalization",
        name,
        (split, gain),
        attributes={"axis": -1, "epsilon": candidate.rms_norm_eps, "stash_type": 1},
    )
    return part.node("Reshape", f"{name}.merge", (normed, "heads.merge"))


def _feed_forward(
    part: Fragment, candidate: Candidate, settings: GraphSettings, here: str, x: str
) -> str:
    module, name = f"model.layers.{here}.mlp", f"layers.{here}.mlp"
    hidden, inner = candidate.hidden_size, candidate.intermediate_size

    def project(projection: str, value: str, *, rows: int, columns: int) -> str:
        return _linear(
            part,
            settings,
            f"{name}.{projection}",
            value,
            module=module,
            projections=(projection,),
            rows=rows,
            columns=columns,
            bias=candidate.mlp_bias,
        )

    if candidate.ffn_type == "gated":
        gate = project("gate_proj", x, rows=inner, columns=hidden)
        up = project("up_proj", x, rows=inner, columns=hidden)
        activated = _activate(part, candidate, name, gate)
        activated = part.node("Mul", f"{name}.mul", (activated, up))
    else:
        up = project("up_proj", x, rows=inner, columns=hidden)
        activated = _activate(part, candidate, name, up)
    return project("down_proj", activated, rows=hidden, columns=inner)


def _activate(part: Fragment, candidate: Candidate, name: str, x: str) -> str:
    if candidate.hidden_act == "silu":
        # What ONNX Runtime fuses Sigmoid and Mul into; written fused, as it will run.
        return part.node(
            "QuickGelu", f"{name}.act", (x,), domain=MICROSOFT, attributes={"alpha": 1.0}
        )
    if candidate.hidden_act == "gelu":
        return part.node("Gelu", f"{name}.act", (x,))
    rectified = part.node("Relu", f"{name}.act", (x,))
    if candidate.hidden_act == "relu":
        return rectified
    return part.node("Mul", f"{name}.act_mul", (rectified, rectified))
