from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime_genai
import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ExportError
from phonesearch.onnx_export.check import run_in_chunks
from phonesearch.onnx_export.genai import write_genai_config
from phonesearch.onnx_export.settings import GraphSettings, WeightBits
from phonesearch.onnx_export.write import export

PROMPT = [3, 17, 80, 5, 9, 200, 44]


@pytest.mark.parametrize("logits", ["last", "all"])
@pytest.mark.parametrize("bits", [4, 8])
def test_genai_generates_what_onnx_runtime_gives_token_by_token(
    bits: WeightBits, logits: Literal["last", "all"], tiny: Candidate, tmp_path: Path
) -> None:
    candidate = replace(tiny, sliding_window=16, qk_norm=True)
    model = export(candidate, tmp_path, GraphSettings(weight_bits=bits, logits=logits))
    write_genai_config(model, eos_token_id=255, bos_token_id=1)
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


def test_a_portable_graph_gets_no_genai_config(tiny: Candidate, tmp_path: Path) -> None:
    model = export(tiny, tmp_path, GraphSettings(form="portable", weight_bits=32))
    with pytest.raises(ExportError, match="goes with the deployment form, got portable"):
        write_genai_config(model, eos_token_id=2, bos_token_id=1)
