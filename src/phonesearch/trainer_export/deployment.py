"""Target `onnx`: a folder that onnxruntime-genai runs, on a phone or here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from phonesearch import __version__
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import ExportError, TrainerExportError
from phonesearch.files import write_json, write_text
from phonesearch.onnx_export.deployment import require_runnable
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import OnnxModel, export
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.units import format_bytes

SETTINGS: Final = GraphSettings(form="deployment", weight_bits=4, logits="last")
RUNTIME_TYPE: Final = "llama"
"""`type` of every candidate: to the runtime it only says that one graph decodes text with
`past_key_values` in and `present` out; widths, activations and norms are in the graph."""


class Deployment:
    """`model.onnx` with int4 weights, `genai_config.json`, `README.md`; tokenizer if given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what ONNX Runtime would not run.

        Raises:
            TrainerExportError: Naming the field.
        """
        try:
            require_runnable(request.candidate)
        except ExportError as error:
            raise TrainerExportError(str(error)) from error

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        model = export(
            request.candidate,
            folder,
            SETTINGS,
            weights=request.weights,
            seed=request.seed,
            progress=request.progress,
        )
        write_json(folder / "genai_config.json", genai_config(request, model))
        write_text(folder / "README.md", _readme(request, model))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)


def genai_config(request: ExportRequest, model: OnnxModel) -> dict[str, Any]:
    """Content of the `genai_config.json` that goes with an exported graph.

    The runtime always has a token that ends a generation; where none is named it takes the
    padding token, and for that 0. Without a tokenizer it is the last id here. The cache is one
    buffer of `max_length` positions that every step writes to in place; an application sets
    `max_length` to what it needs, `context_length` is the most. A sliding window is in the
    graph and needs no word here.

    Source: onnxruntime-genai 0.18, by trial: it refuses null ids.
    """
    candidate, tokens = request.candidate, request.special_tokens
    end = candidate.vocab_size - 1 if tokens.eos is None else tokens.eos
    ids = {"eos_token_id": end, "pad_token_id": end if tokens.pad is None else tokens.pad}
    if tokens.bos is not None:
        ids["bos_token_id"] = tokens.bos
    return {
        "model": {
            "type": RUNTIME_TYPE,
            "context_length": candidate.max_position_embeddings,
            "vocab_size": candidate.vocab_size,
            **ids,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
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
            "min_length": 0,
            "num_beams": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
        },
    }


def _readme(request: ExportRequest, model: OnnxModel) -> str:
    candidate: Candidate = request.candidate
    return _README.format(
        name=candidate_id(candidate),
        version=__version__,
        total=total_parameters(candidate),
        bits=SETTINGS.weight_bits,
        block=SETTINGS.block_size,
        size=format_bytes(model.num_bytes),
        opset=model.opset,
        sha256=model.sha256,
        weights=_RANDOM.format(request.seed) if request.weights is None else _TRAINED,
        ends=_ends(request),
        length=min(256, candidate.max_position_embeddings),
        prompt=min(16, candidate.vocab_size),
    )


def _ends(request: ExportRequest) -> str:
    if request.special_tokens.eos is not None:
        return ""
    return _NO_END.format(request.candidate.vocab_size - 1)


_RANDOM = (
    "**The weights are random (seed {}).** The folder is good for timing a phone, and for "
    "nothing else:\nwhat it generates means nothing."
)
_TRAINED = "The weights are those that were given to the export, rounded."
_NO_END = """
No end token is known, and the runtime needs one: it is the last id, {}. To time generations of
a fixed length, set `min_length` to `max_length`, which keeps it from being chosen.
"""
_README = """\
# Candidate {name}, for onnxruntime-genai

{total:,} parameters at {bits} bits in blocks of {block}, {size}; activations and cache float32.
Written by phonesearch {version}: opset {opset}, graph sha256 `{sha256}`.

{weights}

Run it, in this folder, with onnxruntime-genai 0.18 or newer:

```python
import onnxruntime_genai as og

model = og.Model(".")
params = og.GeneratorParams(model)
params.set_search_options(max_length={length})
generator = og.Generator(model, params)
generator.append_tokens(list(range({prompt})))
while not generator.is_done():
    generator.generate_next_token()
print(generator.get_sequence(0))
```
{ends}"""
