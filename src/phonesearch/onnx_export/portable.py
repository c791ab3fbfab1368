"""The same candidate in standard ONNX operators only, float32 or float16.

Runs wherever ONNX runs; every step is spelled out, so that any runtime, converter or the ONNX
reference evaluator can follow it. Norms, rotary angles and softmax are computed in float32 in
both precisions. One graph serves prefill and decode.

`attention_mask` may mark padding (0) at either end of a row: padded positions are not attended
to, and rotary positions count from the first real token, as in transformers.
"""

from __future__ import annotations

from onnx import TensorProto

from phonesearch.candidate.config import Candidate, rope_inverse_frequencies
from phonesearch.onnx_export.fragment import Fragment
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.tensors import FloatTensor, WeightRole

_INT64_MAX = 2**63 - 1
_MASKED = -1e30
"""Added to the scores of positions not to be seen; finite, so that a row of padding alone gives
numbers rather than NaN."""


def _element(settings: GraphSettings) -> int:
    """Element type of weights, activations and cache."""
    return int(TensorProto.FLOAT16 if settings.weight_bits == 16 else TensorProto.FLOAT)


def opening(candidate: Candidate, settings: GraphSettings) -> Fragment:
    """Inputs, embedding, and the rotation and mask that every layer reads."""
    part = Fragment()
    tokens = part.input("input_ids", TensorProto.INT64, ("batch_size", "sequence_length"))
    mask = part.input("attention_mask", TensorProto.INT64, ("batch_size", "total_sequence_length"))
    table = _weight(
        part, settings, "model.embed_tokens.weight", (candidate.vocab_size, candidate.hidden_size)
    )
    part.node("Gather", "embed", (table, tokens), attributes={"axis": 0})
    part.constant("zero", 0)
    part.constant("one", 1)
    for axis in (0, 1, 2, -1):
        part.constant(f"axis.{axis}", (axis,))
    part.scalar("norm.two", 2.0)
    part.scalar("norm.epsilon", candidate.rms_norm_eps)
    part.constant("heads.split", (0, 0, -1, candidate.head_dim))
    part.constant("heads.merge", (0, 0, -1))
    group = candidate.num_attention_heads // candidate.num_key_value_heads
    part.constant("heads.group", (0, candidate.num_key_value_heads, group, -1, candidate.head_dim))
    part.constant("heads.ungroup", (0, candidate.num_attention_heads, -1, candidate.head_dim))
    _scale(part, candidate, settings)
    _positions(part, tokens, mask)
    _rotation(part, candidate, settings)
    _mask(part, candidate, mask)
    return part


def _scale(part: Fragment, candidate: Candidate, settings: GraphSettings) -> None:
    scale = part.scalar("attention.scale_value", candidate.head_dim**-0.5)
    part.node("Cast", "attention.scale", (scale,), attributes={"to": _element(settings)})


def _positions(part: Fragment, tokens: str, mask: str) -> None:
    """Slots of keys and queries in the cache, and rotary positions of the new tokens."""
    tokens_shape = part.node("Shape", "slots.tokens_shape", (tokens,))
    new = part.node("Gather", "slots.new", (tokens_shape, "one"), attributes={"axis": 0})
    mask_shape = part.node("Shape", "slots.mask_shape", (mask,))
    total = part.node("Gather", "slots.total", (mask_shape, "one"), attributes={"axis": 0})
    past = part.node("Sub", "slots.past", (total, new))
    part.node("Range", "slots.keys", ("zero", total, "one"))
    part.node("Range", "slots.queries", (past, total, "one"))
    counted = part.node("CumSum", "positions.count", (mask, "one"))
    index = part.node("Sub", "positions.index", (counted, "one"))
    index = part.node("Max", "positions.clipped", (index, "zero"))
    start = part.node("Unsqueeze", "positions.start", (past, "axis.0"))
    stop = part.node("Unsqueeze", "positions.stop", (total, "axis.0"))
    part.node("Slice", "positions", (index, start, stop, "axis.1"))


def _rotation(part: Fragment, candidate: Candidate, settings: GraphSettings) -> None:
    """Cosine and sine of the new tokens' angles, shape (batch, 1, length, head_dim / 2)."""
    frequencies = part.vector("rotary.frequencies", rope_inverse_frequencies(candidate))
    position = part.node("Unsqueeze", "rotary.column", ("positions.out", "axis.-1"))
    position = part.node(
        "Cast", "rotary.position", (position,), attributes={"to": int(TensorProto.FLOAT)}
    )
    angle = part.node("Mul", "rotary.angle", (position, frequencies))
    angle = part.node("Unsqueeze", "rotary.heads", (angle, "axis.1"))
    for function in ("Cos", "Sin"):
        name = f"rotary.{function.lower()}"
        value = part.node(function, f"{name}_float", (angle,))
        part.node("Cast", name, (value,), attributes={"to": _element(settings)})


def _mask(part: Fragment, candidate: Candidate, mask: str) -> None:
    """What is added to the scores, float32, shape (batch, 1, 1, length, total length)."""
    queries = part.node("Unsqueeze", "visible.queries", ("slots.queries.out", "axis.1"))
    distance = part.node("Sub", "visible.distance", (queries, "slots.keys.out"))
    visible = part.node("GreaterOrEqual", "visible.causal", (distance, "zero"))
    if candidate.sliding_window is not None:
        window = part.constant("visible.window_size", candidate.sliding_window)
        near = part.node("Less", "visible.window", (distance, window))
        visible = part.node("And", "visible.near", (visible, near))
    real = part.node("Cast", "visible.real", (mask,), attributes={"to": int(TensorProto.BOOL)})
    axes = part.constant("visible.axes", (1, 2, 3))
    real = part.node("Unsqueeze", "visible.keys", (real, axes))
    visible = part.node("And", "visible", (visible, real))
    shown = part.scalar("visible.shown", 0.0)
    hidden = part.scalar("visible.hidden", _MASKED)
    part.node("Where", "mask", (visible, shown, hidden))


def layer(candidate: Candidate, settings: GraphSettings, here: str, before: str | None) -> Fragment:
    """One block; `here` is its number, `before` that of the block before, None for the first."""
    part = Fragment()
    name, module = f"layers.{here}", f"model.layers.{here}"
    stream = "embed.out" if before is None else f"layers.{before}.mlp.residual.out"
    gain = f"{module}.input_layernorm.weight"
    normed = _norm(part, candidate, settings, f"{name}.input_norm", stream, gain)
    attended = _attention(part, candidate, settings, here, normed)
    stream = part.node("Add", f"{name}.attn.residual", (stream, attended))
    gain = f"{module}.post_attention_layernorm.weight"
    normed = _norm(part, candidate, settings, f"{name}.post_norm", stream, gain)
    fed = _feed_forward(part, candidate, settings, here, normed)
    part.node("Add", f"{name}.mlp.residual", (stream, fed))
    return part


def closing(candidate: Candidate, settings: GraphSettings) -> Fragment:
    """The last norm and the head."""
    part = Fragment()
    stream = f"layers.{candidate.num_hidden_layers - 1}.mlp.residual.out"
    if settings.logits == "last":
        stop = part.constant("last_token.stop", (_INT64_MAX,))
        stream = part.node("Slice", "last_token", (stream, "axis.-1", stop, "axis.1"))
    normed = _norm(part, candidate, settings, "final_norm", stream, "model.norm.weight")
    if candidate.tie_word_embeddings:
        turned = {"perm": (1, 0)}
        table = ("model.embed_tokens.weight",)
        weight = part.node("Transpose", "head.table", table, attributes=turned)
    else:
        weight = _weight(
            part,
            settings,
            "lm_head.weight",
            (candidate.hidden_size, candidate.vocab_size),
            transposed=True,
        )
    part.node("MatMul", "head", (normed, weight), ("logits",))
    positions = 1 if settings.logits == "last" else "sequence_length"
    part.output("logits", _element(settings), ("batch_size", positions, candidate.vocab_size))
    return part


def _weight(
    part: Fragment,
    settings: GraphSettings,
    source: str,
    dims: tuple[int, ...],
    *,
    transposed: bool = False,
) -> str:
    """Declare a stored tensor made from `source`; its name in the graph."""
    name = f"{source}.transposed" if transposed else source
    role: WeightRole = "matrix"
    if len(dims) == 1:
        role = "bias" if source.endswith(".bias") else "gain"
    part.declare(
        FloatTensor(
            name=name,
            dims=dims,
            data_type=_element(settings),
            sources=(source,),
            transposed=transposed,
            role=role,
        )
    )
    return name


def _norm(
    part: Fragment,
    candidate: Candidate,
    settings: GraphSettings,
    name: str,
    x: str,
    gain: str,
    *,
    size: int | None = None,
) -> str:
    """RMSNorm over the last dimension, in float32, the gain in the element type."""
    half = settings.weight_bits == 16
    dims = (candidate.hidden_size if size is None else size,)
    gain = _weight(part, settings, gain, dims)
    if half:
        x = part.node("Cast", f"{name}.up", (x,), attributes={"to": int(TensorProto.FLOAT)})
    square = part.node("Pow", f"{name}.square", (x, "norm.two"))
    mean = part.node("ReduceMean", f"{name}.mean", (square, "axis.-1"), attributes={"keepdims": 1})
    mean = part.node("Add", f"{name}.epsilon", (mean, "norm.epsilon"))
    root = part.node("Sqrt", f"{name}.root", (mean,))
    normed = part.node("Div", f"{name}.scaled", (x, root))
    if half:
        down = {"to": int(TensorProto.FLOAT16)}
        normed = part.node("Cast", f"{name}.down", (normed,), attributes=down)
    return part.node("Mul", name, (normed, gain))


def _linear(
    part: Fragment,
    settings: GraphSettings,
    name: str,
    x: str,
    module: str,
    *,
    rows: int,
    columns: int,
    bias: bool,
) -> str:
    weight = _weight(part, settings, f"{module}.weight", (columns, rows), transposed=True)
    product = part.node("MatMul", name, (x, weight))
    if not bias:
        return product
    offset = _weight(part, settings, f"{module}.bias", (rows,))
    return part.node("Add", f"{name}.bias", (product, offset))


def _attention(
    part: Fragment, candidate: Candidate, settings: GraphSettings, here: str, x: str
) -> str:
    module, name = f"model.layers.{here}.self_attn", f"layers.{here}.attn"
    heads, kv_heads = candidate.num_attention_heads, candidate.num_key_value_heads
    by_head = {"perm": (0, 2, 1, 3)}
    states = {}
    for short, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        state = _linear(
            part,
            settings,
            f"{name}.{short}_proj",
            x,
            f"{module}.{short}_proj",
            rows=count * candidate.head_dim,
            columns=candidate.hidden_size,
            bias=candidate.attention_bias,
        )
        state = part.node("Reshape", f"{name}.{short}_split", (state, "heads.split"))
        if candidate.qk_norm and short != "v":
            gain = f"{module}.{short}_norm.weight"
            state = _norm(
                part,
                candidate,
                settings,
                f"{name}.{short}_norm",
                state,
                gain,
                size=candidate.head_dim,
            )
        state = part.node("Transpose", f"{name}.{short}_heads", (state,), attributes=by_head)
        states[short] = state if short == "v" else _rotate(part, f"{name}.{short}_rotary", state)
    key = _cached(part, candidate, settings, here, "key", states["k"])
    value = _cached(part, candidate, settings, here, "value", states["v"])
    query = part.node("Mul", f"{name}.scale", (states["q"], "attention.scale.out"))
    query = part.node("Reshape", f"{name}.group", (query, "heads.group"))
    turned = {"perm": (0, 1, 3, 2)}
    key = part.node("Transpose", f"{name}.key_turned", (key,), attributes=turned)
    key = part.node("Unsqueeze", f"{name}.key_group", (key, "axis.2"))
    value = part.node("Unsqueeze", f"{name}.value_group", (value, "axis.2"))
    scores = part.node("MatMul", f"{name}.scores", (query, key))
    if settings.weight_bits == 16:
        up = {"to": int(TensorProto.FLOAT)}
        scores = part.node("Cast", f"{name}.scores_float", (scores,), attributes=up)
    scores = part.node("Add", f"{name}.masked", (scores, "mask.out"))
    share = part.node("Softmax", f"{name}.softmax", (scores,), attributes={"axis": -1})
    if settings.weight_bits == 16:
        down = {"to": int(TensorProto.FLOAT16)}
        share = part.node("Cast", f"{name}.softmax_half", (share,), attributes=down)
    mixed = part.node("MatMul", f"{name}.attention", (share, value))
    mixed = part.node("Reshape", f"{name}.ungroup", (mixed, "heads.ungroup"))
    mixed = part.node("Transpose", f"{name}.tokens", (mixed,), attributes=by_head)
    mixed = part.node("Reshape", f"{name}.merge", (mixed, "heads.merge"))
    return _linear(
        part,
        settings,
        f"{name}.o_proj",
        mixed,
        f"{module}.o_proj",
        rows=candidate.hidden_size,
        columns=heads * candidate.head_dim,
        bias=candidate.attention_out_bias,
    )


def _cached(
    part: Fragment, candidate: Candidate, settings: GraphSettings, here: str, kind: str, new: str
) -> str:
    """The cache with the new states behind it, also a graph output."""
    kv_heads, element = candidate.num_key_value_heads, _element(settings)
    shape = "batch_size", kv_heads, "past_sequence_length", candidate.head_dim
    past = part.input(f"past_key_values.{here}.{kind}", element, shape)
    shape = "batch_size", kv_heads, "total_sequence_length", candidate.head_dim
    present = part.output(f"present.{here}.{kind}", element, shape)
    name = f"layers.{here}.attn.{kind}_cache"
    return part.node("Concat", name, (past, new), (present,), attributes={"axis": 2})


def _rotate(part: Fragment, name: str, x: str) -> str:
    """Turn pairs (i, i + head_dim / 2) of `x`, shape (batch, heads, length, head_dim)."""
    halves = f"{name}.first", f"{name}.second"
    part.node("Split", f"{name}.split", (x,), halves, attributes={"axis": -1, "num_outputs": 2})
    products = [
        part.node("Mul", f"{name}.{half}_{function}", (halves[index], f"rotary.{function}.out"))
        for index, half in enumerate(("first", "second"))
        for function in ("cos", "sin")
    ]
    first = part.node("Sub", f"{name}.turned_first", (products[0], products[3]))
    second = part.node("Add", f"{name}.turned_second", (products[2], products[1]))
    return part.node("Concat", name, (first, second), attributes={"axis": -1})


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
            f"{module}.{projection}",
            rows=rows,
            columns=columns,
            bias=candidate.mlp_bias,
        )

    if candidate.ffn_type == "gated":
        gate = project("gate_proj", x, rows=inner, columns=hidden)
        up = project("up_proj", x, rows=inner, columns=hidden)
        activated = part.node("Mul", f"{name}.mul", (_activate(part, candidate, name, gate), up))
    else:
        up = project("up_proj", x, rows=inner, columns=hidden)
        activated = _activate(part, candidate, name, up)
    return project("down_proj", activated, rows=hidden, columns=inner)


def _activate(part: Fragment, candidate: Candidate, name: str, x: str) -> str:
    if candidate.hidden_act == "silu":
        gate = part.node("Sigmoid", f"{name}.act", (x,))
        return part.node("Mul", f"{name}.act_mul", (x, gate))
    if candidate.hidden_act == "gelu":
        return part.node("Gelu", f"{name}.act", (x,))
    rectified = part.node("Relu", f"{name}.act", (x,))
    if candidate.hidden_act == "relu":
        return rectified
    return part.node("Mul", f"{name}.act_mul", (rectified, rectified))
