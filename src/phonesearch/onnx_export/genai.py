"""The file beside a deployment graph that lets onnxruntime-genai generate with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phonesearch.errors import ExportError
from phonesearch.files import write_json
from phonesearch.onnx_export.write import OnnxModel


def genai_config(model: OnnxModel, *, eos_token_id: int, bos_token_id: int) -> dict[str, Any]:
    """Content of `genai_config.json`: greedy search on the CPU, cache as long as the context.

    Args:
        model: An export of the deployment form.
        eos_token_id: Token that ends a generation; from the tokeniser, not the candidate.
        bos_token_id: Token that starts a text.

    Raises:
        ExportError: If the form is portable, which onnxruntime-genai was not tried with.
    """
    if model.settings.form != "deployment":
        raise ExportError(
            f"genai_config.json goes with the deployment form, got {model.settings.form}."
        )
    candidate = model.candidate
    return {
        "model": {
            "type": "llama",
            "bos_token_id": bos_token_id,
            "eos_token_id": eos_token_id,
            "pad_token_id": eos_token_id,
            "vocab_size": candidate.vocab_size,
            "context_length": candidate.max_position_embeddings,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": model.path.name,
                "head_size": candidate.head_dim,
                "hidden_size": candidate.hidden_size,
                "num_attention_heads": candidate.num_attention_heads,
                "num_hidden_layers": candidate.num_hidden_layers,
                "num_key_value_heads": candidate.num_key_value_heads,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": candidate.max_position_embeddings,
            "past_present_share_buffer": True,
        },
    }


def write_genai_config(model: OnnxModel, *, eos_token_id: int, bos_token_id: int) -> Path:
    """Write `genai_config.json` beside the graph; its path.

    A tokeniser is not part of an export: `onnxruntime_genai.Model` opens the folder as it is,
    `onnxruntime_genai.Tokenizer` needs the files of one added.

    Raises:
        ExportError: If the form is portable, or the file cannot be written.
    """
    path = model.path.parent / "genai_config.json"
    content = genai_config(model, eos_token_id=eos_token_id, bos_token_id=bos_token_id)
    try:
        write_json(path, content)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror}.") from error
    return path
