from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from graph_parameters import deployment_parameters
from hypothesis import given
from hypothesis import strategies as st

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import ExportError
from phonesearch.onnx_export import deployment, portable
from phonesearch.onnx_export.fragment import stamp_layers
from phonesearch.onnx_export.graph import build_structure, stored_tensors, write_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export

DEPLOYMENT = GraphSettings()
PORTABLE = GraphSettings(form="portable", weight_bits=32)
FORMS = pytest.mark.parametrize("settings", [DEPLOYMENT, PORTABLE], ids=["deployment", "portable"])


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    named = {node.name: node for node in model.graph.node}
    assert len(named) == len(model.graph.node), "two nodes share a name"
    return named


def portable_parameters(model: onnx.ModelProto) -> int:
    count = 0
    for item in model.graph.initializer:
        if item.data_location == onnx.TensorProto.EXTERNAL:
            product = 1
            for dim in item.dims:
                product *= dim
            count += product
    return count


def test_the_deployment_graph_holds_exactly_the_counted_parameters(variant: Candidate) -> None:
    structure = build_structure(variant, DEPLOYMENT)
    assert deployment_parameters(structure) == total_parameters(variant)


def test_the_portable_graph_holds_exactly_the_counted_parameters(variant: Candidate) -> None:
    assert portable_parameters(build_structure(variant, PORTABLE)) == total_parameters(variant)


@given(
    heads=st.integers(1, 6),
    group=st.integers(1, 3),
    head_dim=st.sampled_from([16, 32, 100]),
    hidden_size=st.integers(33, 200),
    intermediate_size=st.integers(33, 200),
    layers=st.integers(1, 12),
    gated=st.booleans(),
    tied=st.booleans(),
    biases=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    qk_norm=st.booleans(),
)
def test_any_shape_keeps_its_parameters_in_both_forms(
    heads: int,
    group: int,
    head_dim: int,
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    gated: bool,
    tied: bool,
    biases: tuple[bool, bool, bool],
    qk_norm: bool,
) -> None:
    candidate = Candidate(
        vocab_size=50,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads * group,
        num_key_value_heads=heads,
        head_dim=head_dim,
        ffn_type="gated" if gated else "plain",
        tie_word_embeddings=tied,
        attention_bias=biases[0],
        attention_out_bias=biases[1],
        mlp_bias=biases[2],
        qk_norm=qk_norm,
    )
    expected = total_parameters(candidate)
    assert deployment_parameters(build_structure(candidate, DEPLOYMENT)) == expected
    assert portable_parameters(build_structure(candidate, PORTABLE)) == expected


@FORMS
def test_stamped_layers_equal_layers_built_one_by_one(settings: GraphSettings) -> None:
    # 101 layers have numbers of one, two and three digits, and both changes of width.
    candidate = Candidate(
        # Sizes of 46, 1 and 2, the bytes of the placeholders and the dots around them.
        vocab_size=46,
        hidden_size=46,
        intermediate_size=2,
        num_hidden_layers=101,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=46,
    )
    form = deployment if settings.form == "deployment" else portable
    stamped = stamp_layers(
        lambda here, before: form.layer(candidate, settings, here, before), first=1, stop=101
    )
    for index, layer in enumerate(stamped, start=1):
        alone = form.layer(candidate, settings, str(index), str(index - 1))
        assert onnx.GraphProto.FromString(layer) == alone.proto


@FORMS
def test_every_input_of_a_node_is_made_before_it(
    variant: Candidate, settings: GraphSettings
) -> None:
    graph = build_structure(variant, settings).graph
    known = {"", *(item.name for item in graph.input), *(item.name for item in graph.initializer)}
    for node in graph.node:
        assert set(node.input) <= known, node.name
        known |= set(node.output)
    assert {item.name for item in graph.output} <= known


@FORMS
def test_every_initializer_is_read(variant: Candidate, settings: GraphSettings) -> None:
    graph = build_structure(variant, settings).graph
    read = {name for node in graph.node for name in node.input}
    assert {item.name for item in graph.initializer} - read == set()


@FORMS
def test_inputs_and_outputs_have_the_names_and_symbolic_shapes_of_genai(
    tiny: Candidate, settings: GraphSettings
) -> None:
    graph = build_structure(tiny, settings).graph

    def shapes(values: object) -> dict[str, list[object]]:
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in values  # type: ignore[attr-defined]
        }

    past = ["batch_size", 2, "past_sequence_length", 16]
    present = ["batch_size", 2, "total_sequence_length", 16]
    layers = [(layer, kind) for layer in range(2) for kind in ("key", "value")]
    assert shapes(graph.input) == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        **{f"past_key_values.{layer}.{kind}": past for layer, kind in layers},
    }
    outputs = shapes(graph.output)
    assert next(iter(outputs)) == "logits"
    assert outputs == {
        "logits": ["batch_size", 1, 256],
        **{f"present.{layer}.{kind}": present for layer, kind in layers},
    }
    all_positions = build_structure(tiny, replace(settings, logits="all")).graph
    assert shapes(all_positions.output)["logits"] == ["batch_size", "sequence_length", 256]


def test_the_names_that_the_cost_model_reads_are_there(tiny: Candidate) -> None:
    named = nodes(build_structure(tiny, DEPLOYMENT))
    expected = {
        "embed": "GatherBlockQuantized",
        "layers.0.input_norm": "SimplifiedLayerNormalization",
        "layers.1.input_norm": "SkipSimplifiedLayerNormalization",
        "layers.1.attn.qkv_proj": "MatMulNBits",
        "layers.1.attn.attention": "GroupQueryAttention",
        "layers.1.attn.o_proj": "MatMulNBits",
        "layers.1.post_norm": "SkipSimplifiedLayerNormalization",
        "layers.1.mlp.gate_proj": "MatMulNBits",
        "layers.1.mlp.up_proj": "MatMulNBits",
        "layers.1.mlp.act": "QuickGelu",
        "layers.1.mlp.mul": "Mul",
        "layers.1.mlp.down_proj": "MatMulNBits",
        "final_norm": "SkipSimplifiedLayerNormalization",
        "head": "MatMulNBits",
    }
    assert {name: named[name].op_type for name in expected} == expected
    packed = attributes(named["layers.1.attn.qkv_proj"])
    # 4 query heads and 2 of keys and of values, of width 16: 8 x 16 = 128 rows.
    assert packed == {"K": 64, "N": 128, "bits": 4, "block_size": 32, "accuracy_level": 4}
    attention = attributes(named["layers.1.attn.attention"])
    assert (attention["num_heads"], attention["kv_num_heads"]) == (4, 2)
    assert attention["local_window_size"] == -1


def test_normed_queries_and_keys_are_projected_apart(tiny: Candidate) -> None:
    named = nodes(build_structure(replace(tiny, qk_norm=True, sliding_window=9), DEPLOYMENT))
    assert "layers.0.attn.qkv_proj" not in named
    assert {f"layers.0.attn.{part}" for part in ("q_proj", "k_proj", "v_proj")} <= set(named)
    assert named["layers.0.attn.k_norm"].op_type == "SimplifiedLayerNormalization"
    assert attributes(named["layers.0.attn.attention"])["local_window_size"] == 9


@FORMS
def test_the_structure_is_the_exported_graph_without_places(
    variant: Candidate, settings: GraphSettings, tmp_path: Path
) -> None:
    exported = onnx.load(export(variant, tmp_path, settings).path, load_external_data=False)
    structure = build_structure(variant, settings)
    assert [*exported.graph.node] == [*structure.graph.node]
    for item in exported.graph.initializer:
        del item.external_data[1:]  # offset and length
    assert exported == structure


@FORMS
def test_stored_tensors_are_the_initializers_in_order(
    variant: Candidate, settings: GraphSettings
) -> None:
    graph = build_structure(variant, settings).graph
    declared = [
        (stored.name, list(stored.dims), stored.data_type)
        for tensor in stored_tensors(variant, settings)
        for stored in tensor.initializers
    ]
    external = [
        (item.name, list(item.dims), item.data_type)
        for item in graph.initializer
        if item.data_location == onnx.TensorProto.EXTERNAL
    ]
    assert declared == external


def test_a_structure_of_48_layers_takes_milliseconds() -> None:
    candidate = Candidate(
        vocab_size=49152,
        hidden_size=1536,
        intermediate_size=4096,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=96,
        qk_norm=True,
    )
    best_s = float("inf")
    for _ in range(20):
        start_s = time.perf_counter()
        build_structure(candidate, DEPLOYMENT)
        best_s = min(best_s, time.perf_counter() - start_s)
    # Measured 1.6 ms; the best of 20 leaves room for a slower, busy machine.
    assert best_s < 0.008


def test_a_written_structure_loads_without_its_weights(tiny: Candidate, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onnx"
    write_structure(tiny, path, DEPLOYMENT)
    assert onnx.load(path, load_external_data=False) == build_structure(tiny, DEPLOYMENT)
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]


def test_a_structure_that_cannot_be_written_is_one_error(tiny: Candidate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ExportError, match=r"could not be written to .*model\.onnx"):
        write_structure(tiny, tmp_path / "file" / "model.onnx", DEPLOYMENT)


def test_head_widths_that_no_kernel_takes_have_a_structure_but_no_export(
    tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, head_dim=100)
    assert nodes(build_structure(candidate, DEPLOYMENT))
    with pytest.raises(ExportError, match="multiple of 16, got 100"):
        export(candidate, tmp_path, DEPLOYMENT)
    assert list(tmp_path.iterdir()) == []
    assert export(candidate, tmp_path, PORTABLE).path.exists()
