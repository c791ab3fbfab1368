"""Targets `axolotl` and `llama-factory`: the folder for transformers, and a config beside it.

Both build their models with transformers, so that what `hf` can express they can train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from phonesearch.files import write_json, write_text, write_yaml
from phonesearch.trainer_export.hf import HuggingFace
from phonesearch.trainer_export.limits import require_within
from phonesearch.trainer_export.recipe_values import in_their_words, recipe_sentences
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading

TRANSFORMERS_RECIPE: Final = {
    "accumulation_steps": "gradient_accumulation_steps",
    "num_steps": "max_steps",
    "peak_lr": "learning_rate",
    "warmup_steps": "warmup_steps",
    "adam_beta1": "adam_beta1",
    "adam_beta2": "adam_beta2",
    "adam_eps": "adam_epsilon",
    "weight_decay": "weight_decay",
    "gradient_clip_norm": "max_grad_norm",
}
"""Our value of a recipe and the field of transformers' `TrainingArguments`, which both extend.

Source: `utils/schemas/training.py` and `config.py` of axolotl 0.19.0, `hparams` of llamafactory
0.9.5.
"""
AXOLOTL: Final[dict[str, Any]] = {
    "base_model": ".",
    "reinit_weights": True,
    "datasets": [{"path": "train.txt", "ds_type": "text", "type": "completion", "field": "text"}],
    "dataset_prepared_path": "prepared",
    "sample_packing": False,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "bf16": "auto",
    "output_dir": "trained",
}
"""Source: `utils/schemas/config.py` of axolotl 0.19.0; `reinit_weights` starts from fresh ones."""
AXOLOTL_RECIPE: Final = {
    **TRANSFORMERS_RECIPE,
    "context_length": "sequence_len",
    "micro_batch_sequences": "micro_batch_size",
    "final_lr_ratio": "cosine_min_lr_ratio",
}
"""What the ratio does is in `core/trainers/mixins/scheduler.py` of axolotl 0.19.0."""
LLAMA_FACTORY: Final[dict[str, Any]] = {
    "model_name_or_path": ".",
    "train_from_scratch": True,
    "stage": "pt",
    "do_train": True,
    "finetuning_type": "full",
    "dataset": "text",
    "dataset_dir": ".",
    "packing": True,
    "optim": "adamw_torch",
    "lr_scheduler_type": "cosine_with_min_lr",
    "bf16": True,
    "output_dir": "trained",
}
"""Source: `hparams` of llamafactory 0.9.5; `train_from_scratch` starts from fresh weights."""
LLAMA_FACTORY_RECIPE: Final = {
    **TRANSFORMERS_RECIPE,
    "context_length": "cutoff_len",
    "micro_batch_sequences": "per_device_train_batch_size",
    "final_lr_ratio": "lr_scheduler_kwargs.min_lr_rate",
}
"""Source of the length: `hparams/data_args.py` of llamafactory 0.9.5."""
DATASET_INFO: Final = {"text": {"file_name": "train.txt", "columns": {"prompt": "text"}}}
"""`dataset_info.json`, by which LLaMA-Factory finds the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceTrainer:
    """The files of `hf`, one config of a trainer, and how to start it."""

    name: str
    """As people write it."""
    version: str
    """Release that the table was read from."""
    config_file: str
    config: Mapping[str, Any]
    """What is the same for every candidate."""
    recipe: Mapping[str, str]
    """Our value of a recipe and the name of it there."""
    text: str
    """Sentence on what becomes of text that is not as long as the recipe."""
    command: str
    install: str
    dataset_info: Mapping[str, Any] | None = None

    def check(self, request: ExportRequest) -> None:
        """Refuse weights, and a mixture of fields that no model type of transformers has.

        Raises:
            TrainerExportError: Naming the fields.
        """
        require_within(self.name, (), request)
        HuggingFace().check(request)

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        HuggingFace().write(request, folder)
        config = in_their_words(request.candidate, self.recipe, fixed=self.config)
        write_yaml(folder / self.config_file, config)
        if self.dataset_info is not None:
            write_json(folder / "dataset_info.json", self.dataset_info)
        given = request.tokenizer is not None
        where = f"`{self.config_file}`"
        readme = heading(request.candidate, trainer=f"{self.name} {self.version}") + _README.format(
            config=self.config_file,
            install=self.install,
            command=self.command,
            note="" if given else _TOKENIZER.format(request.candidate.vocab_size),
            recipe=recipe_sentences(request.candidate, where=where, besides=self.text),
        )
        write_text(folder / "README.md", readme)


AXOLOTL_TRAINER: Final = HuggingFaceTrainer(
    name="axolotl",
    version="0.19.0",
    config_file="axolotl.yaml",
    config=AXOLOTL,
    recipe=AXOLOTL_RECIPE,
    text="A line of `train.txt` is a\nsequence or, if longer, several, and none is filled up: "
    "short lines make steps of fewer tokens. A\nshorter text is read again.",
    command="axolotl train axolotl.yaml",
    install="pip install axolotl==0.19.0",
)
LLAMA_FACTORY_TRAINER: Final = HuggingFaceTrainer(
    name="LLaMA-Factory",
    version="0.9.5",
    config_file="train.yaml",
    config=LLAMA_FACTORY,
    recipe=LLAMA_FACTORY_RECIPE,
    text="A shorter text is read again.",
    command="llamafactory-cli train train.yaml",
    install="pip install llamafactory==0.9.5",
    dataset_info=DATASET_INFO,
)

_README = """\
There are no weights here: a training starts from fresh ones. `config.json` is the model, as
transformers reads it, `{config}` the training, to change as you like.

Train it, in this folder, on the text in a file `train.txt`:

```shell
{install}
{command}
```
{note}
{recipe}"""
_TOKENIZER = """
It needs a tokenizer: put a `tokenizer.json` with at most {:,} ids, and the
`tokenizer_config.json` that goes with it, into this folder.
"""
