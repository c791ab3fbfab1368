from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime_genai
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.settings import GraphSettings, WeightBits
from phonesearch.onnx_export.write import export

PROMPT = [3, 17, 80, 5, 9, 200, 44]


def runtime_config(candidate: Candidate) -> dict[str, Any]:
    """The least that onnxruntime-genai asks for; `trainer_export` writes the full file."""
    past, present = "past_key_values.%d.", "present.%d."
    return {
        "model": {
            "type": "llama",
            "eos_token_id": 255,
            "pad_token_id": 255,
            "vocab_size": candidate.vocab_size,
            "context_length": candidate.max_position_embeddings,
            "decoder": {
                "filename": "model.onnx",
                "head_size": candidate.head_dim,
                "hidden_size": candidate.hidden_size,
                "num_attention_heads": candidate.num_attention_heads,
                "num_hidden_layers": candidate.num_hidden_layers,
                "num_key_value_heads": candidate.num_key_value_heads,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": f"{past}key",
                    "past_value_names": f"{past}value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": f"{present}key",
                    "present_value_names": f"{present}value",
                },
            },
        },
        "search": {"past_present_share_buffer": True},
    }


@pytest.mark.parametrize("logits", ["last", "all"])
@pytest.mark.parametrize("bits", [4, 8])
def test_genai_generates_what_onnx_runtime_gives_token_by_token(
    bits: WeightBits, logits: Literal["last", "all"], tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, sliding_window=16, qk_norm=True)
    model = export(candidate, tmp_path, GraphSettings(weight_bits=bits, logits=logits))
    (tmp_path / "genai_config.json").write_text(json.dumps(runtime_config(candidate)))
    runtime = onnxruntime_genai.Model(str(tmp_path))
    parameters = onnxruntime_genai.GeneratorParams(runtime)
    parameters.set_search_options(max_length=24, do_sample=False)
    generator = onnxruntime_genai.Generator(runtime, parameters)
    generator.append_tokens(np.array([PROMPT], dtype=np.int32))
    tokens = list(PROMPT)
    while not generator.is_done():
        theirs = np.array(generator.get_logits()).reshape(-1, candidate.vocab_size)[-1]
        chunks = [len(PROMPT)] + [1] * (len(tokens) - len(PROMPT))
        ours = run_in_chunks(model, np.array([tokens], dtype=np.int64), chunks)[0, -1]
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
        assert tokens[-1] == int(ours.argmax())
    assert len(tokens) == 24 or tokens[-1] == 255
