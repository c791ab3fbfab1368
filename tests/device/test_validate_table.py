"""Tables of others: what is read, what is refused, and which models are of unknown shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from phonesearch.device.data import model_shapes
from phonesearch.device.speed_table import carried_models, read_model_table, read_speed_table
from phonesearch.errors import InvalidFileError

SPEED_HEADER = (
    "id,device,soc_id,processor,engine,model_id,quant,weight_bits,prompt_len,gen_len,"
    "prefill_tok_s,decode_tok_s,confidence,source,date,notes"
)
SPEED_ROW = "7,Phone,chip,CPU,llama.cpp,llama-3.2-1b,Q4_0,4,128,64,100.5,20,A,a table,2026-05,"
MODEL_HEADER = (
    "model_id,name,n_layers,hidden,intermediate,n_heads,n_kv_heads,head_dim,vocab,"
    "tied_embeddings,activation,ffn_gated,norm,rope_theta,layer_pattern"
)
MODEL_ROW = "m,M,16,2048,8192,32,8,64,128256,yes,silu,yes,RMSNorm,500000.0,all attention"


def table(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def speed_row(**changed: str) -> str:
    cells = dict(zip(SPEED_HEADER.split(","), SPEED_ROW.split(","), strict=True))
    return ",".join((cells | changed).values())


def model_row(**changed: str) -> str:
    cells = dict(zip(MODEL_HEADER.split(","), MODEL_ROW.split(","), strict=True))
    return ",".join((cells | changed).values())


def test_a_row_is_read_as_it_stands(tmp_path: Path) -> None:
    (figure,) = read_speed_table(table(tmp_path, SPEED_HEADER, SPEED_ROW))

    assert (figure.id, figure.soc_id, figure.processor) == (7, "chip", "CPU")
    assert (figure.engine, figure.weight_bits, figure.block_size) == ("llama.cpp", 4, 32)
    assert (figure.prompt_tokens, figure.generate_tokens) == (128, 64)
    assert figure.tokens_per_s("prefill") == 100.5
    assert figure.tokens_per_s("decode") == 20


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", None), ("~200", 200), ("128..4096", None), ("short question", None), ("256.0", 256)],
)
def test_lengths_that_are_no_number_are_unknown(
    tmp_path: Path, text: str, tokens: int | None
) -> None:
    (figure,) = read_speed_table(table(tmp_path, SPEED_HEADER, speed_row(prompt_len=text)))
    assert figure.prompt_tokens == tokens


@pytest.mark.parametrize(
    ("quant", "block"),
    [
        ("8da4w groupwise 4-bit (group 128)", 128),
        ("mixed INT4 gs32", 32),
        ("W2g256", 256),
        ("QAT+LoRA 4-bit g32 weights", 32),
        ("Q4_0", 32),
        ("group 100", 32),
    ],
)
def test_the_block_of_the_quantisation_is_read(tmp_path: Path, quant: str, block: int) -> None:
    (figure,) = read_speed_table(table(tmp_path, SPEED_HEADER, speed_row(quant=quant)))
    assert figure.block_size == block


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("id", "", "must not be empty"),
        ("id", "first", "must be a whole number above 0"),
        ("soc_id", "", "must not be empty"),
        ("engine", " ", "must not be empty"),
        ("weight_bits", "four", "must be a whole number above 0"),
        ("weight_bits", "0", "must be a whole number above 0"),
        ("decode_tok_s", "fast", "must be a number of tokens a second above 0, or empty"),
        ("decode_tok_s", "-1", "must be a number of tokens a second above 0, or empty"),
        ("prefill_tok_s", "nan", "must be a number of tokens a second above 0, or empty"),
        ("prefill_tok_s", "inf", "must be a number of tokens a second above 0, or empty"),
    ],
)
def test_a_bad_cell_names_file_line_column_and_rule(
    tmp_path: Path, column: str, cell: str, rule: str
) -> None:
    path = table(tmp_path, SPEED_HEADER, speed_row(id="1"), speed_row(**{column: cell}))
    with pytest.raises(InvalidFileError) as caught:
        read_speed_table(path)
    assert caught.value.path == path
    assert caught.value.problems == (f"line 3, column `{column}`: {rule}, got {cell.strip()!r}",)


def test_all_bad_cells_are_told_at_once(tmp_path: Path) -> None:
    path = table(tmp_path, SPEED_HEADER, speed_row(decode_tok_s="x", weight_bits="y"))
    with pytest.raises(InvalidFileError) as caught:
        read_speed_table(path)
    assert len(caught.value.problems) == 2


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="stands on line 2 too"):
        read_speed_table(table(tmp_path, SPEED_HEADER, SPEED_ROW, SPEED_ROW))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "column `id`: is needed and is not there"),
        ((SPEED_HEADER,), "holds no row below its header"),
        ((SPEED_HEADER.replace("soc_id", "soc"), SPEED_ROW), "column `soc_id`: is needed"),
        ((SPEED_HEADER.replace("notes", "id"), SPEED_ROW), "column `id`: stands twice"),
        ((SPEED_HEADER, SPEED_ROW + ",more"), "line 2: must have 16 cells"),
        ((SPEED_HEADER, "7,Phone"), "line 2: must have 16 cells"),
        ((SPEED_HEADER, '7,"Phone'), "unexpected end of data"),
    ],
)
def test_a_table_that_is_no_table_is_refused(
    tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InvalidFileError, match=said.replace("`", ".")):
        read_speed_table(table(tmp_path, *lines))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="cannot be read"):
        read_speed_table(tmp_path / "none.csv")


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(("\ufeff" + SPEED_HEADER + "\r\n" + SPEED_ROW + "\r\n").encode())
    assert read_speed_table(path)[0].id == 7


def test_a_model_is_read_as_a_candidate(tmp_path: Path) -> None:
    model = read_model_table(table(tmp_path, MODEL_HEADER, MODEL_ROW))["m"]

    candidate = model.candidate
    assert candidate is not None
    assert (candidate.num_hidden_layers, candidate.hidden_size) == (16, 2048)
    assert (candidate.num_attention_heads, candidate.num_key_value_heads) == (32, 8)
    assert (candidate.head_dim, candidate.vocab_size) == (64, 128256)
    assert candidate.tie_word_embeddings
    assert (candidate.ffn_type, candidate.hidden_act) == ("gated", "silu")
    assert not candidate.attention_bias
    assert not candidate.qk_norm


def test_a_head_dim_left_out_is_the_width_over_the_heads(tmp_path: Path) -> None:
    model = read_model_table(table(tmp_path, MODEL_HEADER, model_row(head_dim="")))["m"]
    assert model.candidate is not None
    assert model.candidate.head_dim == 64


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"n_layers": ""}, "not known in full (no n_layers)"),
        ({"layer_pattern": "18 linear_attention + 6 full_attention"}, "not all full attention"),
        ({"layer_pattern": "MoE 8 experts"}, "not all full attention"),
        ({"norm": "LayerNorm"}, "LayerNorm"),
        ({"rope_theta": "ALiBi"}, "ALiBi"),
        ({"activation": "glu"}, "its activation is not one"),
        ({"model_id": "gemma-2-2b"}, "Gemma"),
        ({"n_heads": "16-32"}, "its layers differ in n_heads"),
        ({"n_kv_heads": "5"}, "a candidate cannot have its shape"),
    ],
)
def test_a_model_that_no_candidate_stands_for_says_why(
    tmp_path: Path, changed: dict[str, str], because: str
) -> None:
    path = table(tmp_path, MODEL_HEADER, model_row(**changed))
    (model,) = read_model_table(path).values()
    assert model.candidate is None
    assert because in model.unknown_because


@pytest.mark.parametrize("text", ["many", "-3", "1.5"])
def test_a_dimension_that_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFileError, match="column `hidden`: must be a whole number"):
        read_model_table(table(tmp_path, MODEL_HEADER, model_row(hidden=text)))


def test_a_model_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="must be given once"):
        read_model_table(table(tmp_path, MODEL_HEADER, MODEL_ROW, MODEL_ROW))


@pytest.mark.parametrize("model_id", ["qwen3-0.6b", "qwen2.5-0.5b", "llama-3.2-1b", "qwen-1.8b"])
def test_a_family_has_the_biases_and_norms_of_the_carried_model(
    tmp_path: Path, model_id: str
) -> None:
    """A table has no column for them, so they follow from the name."""
    carried = model_shapes()[model_id].candidate
    path = table(tmp_path, MODEL_HEADER, model_row(model_id=model_id))
    read = read_model_table(path)[model_id].candidate
    assert read is not None
    assert read.attention_bias == carried.attention_bias
    assert read.qk_norm == carried.qk_norm


def test_every_carried_model_can_be_predicted() -> None:
    models = carried_models()
    assert set(models) == set(model_shapes())
    assert all(model.candidate is not None for model in models.values())
