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
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading

CONTEXT: Final = "max_position_embeddings"
"""Stands, in a table, for the number of positions of the candidate."""
AXOLOTL: Final[dict[str, Any]] = {
    "base_model": ".",
    "reinit_weights": True,
    "datasets": [{"path": "train.txt", "ds_type": "text", "type": "completion", "field": "text"}],
    "dataset_prepared_path": "prepared",
    "sequence_len": CONTEXT,
    "sample_packing": False,
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 8,
    "num_epochs": 1,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "learning_rate": 6e-4,
    "warmup_steps": 200,
    "bf16": "auto",
    "output_dir": "trained",
}
"""Source: `utils/schemas/config.py` of axolotl 0.19.0; `reinit_weights` starts from fresh ones."""
LLAMA_FACTORY: Final[dict[str, Any]] = {
    "model_name_or_path": ".",
    "train_from_scratch": True,
    "stage": "pt",
    "do_train": True,
    "finetuning_type": "full",
    "dataset": "text",
    "dataset_dir": ".",
    "cutoff_len": CONTEXT,
    "packing": True,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 8,
    "num_train_epochs": 1.0,
    "learning_rate": 6e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 200,
    "bf16": True,
    "output_dir": "trained",
}
"""Source: `hparams` of llamafactory 0.9.5; `train_from_scratch` starts from fresh weights."""
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
        context = request.candidate.max_position_embeddings
        config = {key: context if value == CONTEXT else value for key, value in self.config.items()}
        write_yaml(folder / self.config_file, config)
        if self.dataset_info is not None:
            write_json(folder / "dataset_info.json", self.dataset_info)
        given = request.tokenizer is not None
        readme = heading(request.candidate, trainer=f"{self.name} {self.version}") + _README.format(
            config=self.config_file,
            install=self.install,
            command=self.command,
            note="" if given else _TOKENIZER.format(request.candidate.vocab_size),
        )
        write_text(folder / "README.md", readme)


AXOLOTL_TRAINER: Final = HuggingFaceTrainer(
    name="axolotl",
    version="0.19.0",
    config_file="axolotl.yaml",
    config=AXOLOTL,
    command="axolotl train axolotl.yaml",
    install="pip install axolotl==0.19.0",
)
LLAMA_FACTORY_TRAINER: Final = HuggingFaceTrainer(
    name="LLaMA-Factory",
    version="0.9.5",
    config_file="train.yaml",
    config=LLAMA_FACTORY,
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
{note}"""
_TOKENIZER = """
It needs a tokenizer: put a `tokenizer.json` with at most {:,} ids, and the
`tokenizer_config.json` that goes with it, into this folder.
"""
