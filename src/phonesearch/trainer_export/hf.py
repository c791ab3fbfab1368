"""Target `hf`: a folder that transformers builds and trains the candidate from."""

from __future__ import annotations

from pathlib import Path

from phonesearch import __version__
from phonesearch.candidate.config import candidate_id
from phonesearch.candidate.count import non_embedding_parameters, total_parameters
from phonesearch.candidate.huggingface import to_config
from phonesearch.errors import TrainerExportError, UnsupportedConfigError
from phonesearch.files import write_json, write_text
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import describe
from phonesearch.trainer_export.training_notes import write_training_notes


class HuggingFace:
    """`config.json`, `generation_config.json`, `README.md`, `TRAINING.md` and its values for
    programs; weights and tokenizer where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse a mixture of fields that no model type of transformers has.

        Raises:
            TrainerExportError: Naming the fields.
        """
        try:
            to_config(request.candidate)
        except UnsupportedConfigError as error:
            raise TrainerExportError(
                f"transformers cannot express this candidate. {error} Change one of these "
                "fields, or export to `onnx`."
            ) from error

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        tokens = request.special_tokens
        special = {
            "bos_token_id": tokens.bos,
            "eos_token_id": tokens.eos,
            "pad_token_id": tokens.pad,
        }
        config = to_config(request.candidate) | special
        write_json(folder / "config.json", config)
        write_json(folder / "generation_config.json", {"_from_model_config": True, **special})
        write_training_notes(request.candidate, folder)
        write_text(folder / "README.md", _readme(request, str(config["architectures"][0])))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)
        if request.weights is not None:
            from phonesearch.trainer_export.weights_file import write_safetensors

            write_safetensors(
                folder / "model.safetensors", request.weights, progress=request.progress
            )


def _readme(request: ExportRequest, architecture: str) -> str:
    candidate = request.candidate
    tokenizer = "." if request.tokenizer is not None else "TOKENIZER"
    missing = "" if request.tokenizer is not None else _TOKENIZER_NOTE.format(candidate.vocab_size)
    weights = _UNTRAINED if request.weights is None else _TRAINED
    source = "--config_name ." if request.weights is None else "--model_name_or_path ."
    return _README.format(
        name=candidate_id(candidate),
        version=__version__,
        shape=describe(candidate),
        architecture=architecture,
        total=total_parameters(candidate),
        non_embedding=non_embedding_parameters(candidate),
        weights=weights,
        build=_BUILD if request.weights is None else _LOAD,
        source=source,
        tokenizer=tokenizer,
        tokenizer_note=missing,
        context=candidate.max_position_embeddings,
    )


_UNTRAINED = "There are no weights here: a training starts from fresh ones."
_TRAINED = "`model.safetensors` holds the weights that were given to the export."
_TOKENIZER_NOTE = """
Replace `TOKENIZER` by the folder or the hub name of a tokenizer with at most {:,} ids.
"""
_BUILD = """\
from transformers import AutoConfig, AutoModelForCausalLM

model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("."))
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")"""
_LOAD = """\
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(".")
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")"""
_README = """\
# Candidate {name}

{shape}: {total:,} parameters, {non_embedding:,} without embeddings.
Written by phonesearch {version} for `{architecture}` of transformers 5.
{weights}

Build it, in this folder:

```python
{build}
```

Train it, in this folder, with `examples/pytorch/language-modeling/run_clm.py` of transformers:

```shell
python run_clm.py {source} --tokenizer_name {tokenizer} --train_file train.txt \\
    --block_size {context} --do_train --bf16 --output_dir trained
```

`TRAINING.md` has learning rate, batch, length and what that takes, each with its source.
{tokenizer_note}"""
