"""Targets `gguf...`: a folder with one `model.gguf` that llama.cpp runs, on a phone or here."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from phonesearch import __version__
from phonesearch.candidate.config import candidate_id
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import ExportError, TrainerExportError
from phonesearch.files import write_text
from phonesearch.trainer_export.gguf_names import architecture_for
from phonesearch.trainer_export.gguf_vocabulary import read_vocabulary
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.units import format_bytes

WeightType = Literal["Q4_0", "Q8_0", "F32"]
MODEL_FILE: Final = "model.gguf"
BLOCK: Final = 32
"""Weights of one row that share a scale. Source: `QK4_0` and `QK8_0` of ggml-common.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    """`model.gguf` and `README.md`; the tokenizer in the model and beside it where given."""

    weight_type: WeightType
    """Of all matrices, the tables among them. Norms, biases and rotary factors are float32."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what llama.cpp has no architecture, or no tokenizer, for.

        Raises:
            TrainerExportError: Naming the field.
        """
        candidate = request.candidate
        architecture_for(candidate)
        rows = {
            "`hidden_size`": candidate.hidden_size,
            "`intermediate_size`": candidate.intermediate_size,
            "`num_attention_heads` x `head_dim`": candidate.num_attention_heads
            * candidate.head_dim,
        }
        for field, width in rows.items():
            if self.weight_type != "F32" and width % BLOCK:
                raise TrainerExportError(
                    f"{self.weight_type} puts {BLOCK} weights of a row into a block: {field} must "
                    f"be a multiple of {BLOCK}, got {width}. Change it, or export to `gguf-f32`."
                )
        if request.tokenizer is not None:
            read_vocabulary(request.tokenizer, candidate.vocab_size)
        if importlib.util.find_spec("gguf") is None:
            raise TrainerExportError(
                "The package gguf, which writes the file, is not installed. Install it: "
                "pip install 'phonesearch[gguf]'"
            )

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`.

        Raises:
            ExportError: If a weight is not finite, or the disk is too full.
        """
        from phonesearch.trainer_export.gguf_file import GgufFile

        file = GgufFile(request, self.weight_type)
        free = shutil.disk_usage(folder).free
        if free < file.num_bytes:
            raise ExportError(
                f"The export to {folder} needs {file.num_bytes:,} bytes, but only {free:,} are "
                "free there. Free space or choose another folder; nothing was written."
            )
        file.write(folder / MODEL_FILE)
        write_text(folder / "README.md", self._readme(request, file.num_bytes))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)

    def _readme(self, request: ExportRequest, num_bytes: int) -> str:
        candidate = request.candidate
        length = min(256, candidate.max_position_embeddings, candidate.vocab_size)
        weights = _RANDOM.format(request.seed) if request.weights is None else _TRAINED
        return _README.format(
            name=candidate_id(candidate),
            version=__version__,
            architecture=architecture_for(candidate).name,
            total=total_parameters(candidate),
            weight_type=self.weight_type,
            size=format_bytes(num_bytes),
            weights=weights,
            form=_FORMS[self.weight_type],
            run=_WITHOUT_TEXT if request.tokenizer is None else _WITH_TEXT,
            length=length,
            prompt=length // 4,
            new=length // 2,
        )


GGUF_TARGETS: Final = {
    "gguf": Gguf(weight_type="Q4_0"),
    "gguf-q8_0": Gguf(weight_type="Q8_0"),
    "gguf-f32": Gguf(weight_type="F32"),
}
"""`gguf` is Q4_0, whose rows llama.cpp interleaves for the integer dot products of ARM when it
loads them (`ggml/src/ggml-cpu/repack.cpp`)."""

_RANDOM = (
    "**The weights are random (seed {}).** The file is good for timing a phone, and for nothing\n"
    "else: what it generates means nothing."
)
_TRAINED = "The weights are those that were given to the export."
_FORMS: Final[dict[WeightType, str]] = {
    "Q4_0": "All matrices are Q4_0, the embedding table and the head among them, as\n"
    "`llama-quantize --pure` has it: 4.5 bits a weight.",
    "Q8_0": "All matrices are Q8_0, the embedding table and the head among them, at 8.5 bits a\n"
    "weight.",
    "F32": "Nothing is rounded. `llama-quantize model.gguf out.gguf Q4_K_M` makes a smaller file.",
}
_WITHOUT_TEXT = """\
The file holds no tokenizer, so that tools which take text cannot prompt it."""
_WITH_TEXT = """\
The file holds the tokenizer:

```bash
llama-cli -m model.gguf -no-cnv -n 64 -p "The"
```"""
_README = """\
# Candidate {name}, for llama.cpp

{total:,} parameters as {weight_type}, {size}; architecture `{architecture}`.
Written by phonesearch {version}. {form}

{weights}

Time it with llama.cpp's own tool, here or on a phone (`-t` is the number of threads):

```bash
llama-bench -m model.gguf -p 512 -n 128 -t 4
```

{run}

From Python, with llama-cpp-python 0.3.36 or newer:

```python
import itertools, time
import llama_cpp

model = llama_cpp.Llama("model.gguf", n_ctx={length}, verbose=False)
prompt = list(range({prompt}))
begun = time.perf_counter()
model.eval(prompt)
print(f"prompt: {{len(prompt) / (time.perf_counter() - begun):.1f}} tokens/s")
begun = time.perf_counter()
tokens = list(itertools.islice(model.generate(prompt, temp=0.0), {new}))
print(f"generation: {{len(tokens) / (time.perf_counter() - begun):.1f}} tokens/s")
print(tokens)
```
"""
