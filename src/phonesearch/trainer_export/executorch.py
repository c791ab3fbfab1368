"""Target `executorch`: a folder with one `model.pte` that ExecuTorch runs, on a phone or here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from phonesearch import __version__
from phonesearch.candidate.config import candidate_id
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import TrainerExportError
from phonesearch.files import write_text
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.units import format_bytes

MODEL_FILE: Final = "model.pte"
GROUP: Final = 32
"""Weights of one row that share a scale."""
_PACKAGES: Final = ("executorch", "torchao")


class ExecuTorch:
    """`model.pte` with 8da4w projections, and `README.md`; tokenizer beside it where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what ExecuTorch's attention operator, or its rounding, does not have.

        Everything else of a candidate is exported as it is: the graph is ours.

        Raises:
            TrainerExportError: Naming the field.
        """
        candidate = request.candidate
        if candidate.sliding_window is not None:
            raise TrainerExportError(
                f"ExecuTorch's attention operator, llama::custom_sdpa, has no `sliding_window`, "
                f"got {candidate.sliding_window}. Change that, or export to `onnx`."
            )
        rows = {
            "`hidden_size`": candidate.hidden_size,
            "`intermediate_size`": candidate.intermediate_size,
            "`num_attention_heads` x `head_dim`": candidate.num_attention_heads
            * candidate.head_dim,
        }
        for field, width in rows.items():
            if width % GROUP:
                raise TrainerExportError(
                    f"8da4w puts {GROUP} weights of a row into a group: {field} must be a "
                    f"multiple of {GROUP}, got {width}. Change it, or export to `onnx`."
                )
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise TrainerExportError(
                f"The package {' and '.join(missing)}, which writes the file, is not installed. "
                "Install it: pip install 'phonesearch[executorch]'"
            )

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        from phonesearch.trainer_export.executorch_file import write_program

        write_program(request, folder / MODEL_FILE, group=GROUP)
        size = (folder / MODEL_FILE).stat().st_size
        if request.progress is not None:
            request.progress(size, size)
        write_text(folder / "README.md", _readme(request, size))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)


def _readme(request: ExportRequest, size: int) -> str:
    candidate = request.candidate
    length = min(256, candidate.max_position_embeddings, candidate.vocab_size)
    return _README.format(
        name=candidate_id(candidate),
        version=__version__,
        total=total_parameters(candidate),
        group=GROUP,
        size=format_bytes(size),
        weights=_RANDOM.format(request.seed) if request.weights is None else _TRAINED,
        context=candidate.max_position_embeddings,
        prompt=length // 4,
        length=length * 3 // 4,
    )


_RANDOM = (
    "**The weights are random (seed {}).** The file is good for timing a phone, and for nothing\n"
    "else: what it generates means nothing."
)
_TRAINED = "The weights are those that were given to the export, rounded."
_README = """\
# Candidate {name}, for ExecuTorch

{total:,} parameters, {size}. Written by phonesearch {version}. Projections and head are 8da4w:
4 bits in groups of {group}, activations rounded to 8 bits as they come; the embedding table has
8 bits. Cache, of {context:,} positions, and attention are float32.

{weights}

`forward` takes new token ids, int64 of shape (1, any), and the position of the first of them,
int64 of shape (1,); it returns the logits after the last, and keeps keys and values in the
program. The runtime needs the XNNPACK backend, the LLM custom operators and the quantised
kernels, as the Python package of ExecuTorch 1.5 has them (imported in this order):

```python
import time
import torch
from executorch.extension.llm.custom_ops import custom_ops
import executorch.kernels.quantized
from executorch.runtime import Runtime

forward = Runtime.get().load_program("model.pte").load_method("forward")
tokens = list(range({prompt}))
begun = time.perf_counter()
logits = forward.execute([torch.tensor([tokens]), torch.tensor([0])])[0]
print(f"prompt: {{len(tokens) / (time.perf_counter() - begun):.1f}} tokens/s")
begun = time.perf_counter()
while len(tokens) < {length}:
    tokens.append(int(logits.argmax()))
    new = [torch.tensor([tokens[-1:]]), torch.tensor([len(tokens) - 1])]
    logits = forward.execute(new)[0]
speed = ({length} - {prompt}) / (time.perf_counter() - begun)
print(f"generation: {{speed:.1f}} tokens/s")
print(tokens)
```
"""
