"""Trains an exported folder as somebody would who has transformers and nothing of ours.

    python train_with_transformers.py MODEL TEXT OUT STEPS

`MODEL` is the folder that `phonesearch export --to hf` wrote, with a tokenizer. Prints one JSON
line: parameters, the loss of every step, and whether phonesearch was imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)


class Blocks(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The text of a folder as blocks of token ids."""

    def __init__(self, ids: list[int], length: int) -> None:
        count = len(ids) // length
        self.rows = torch.tensor(ids[: count * length]).view(count, length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[place], "labels": self.rows[place]}


def main(model_folder: str, text: str, out: str, steps: int) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    files = sorted(Path(text).rglob("*.txt"))
    ids = [one for file in files for one in tokenizer.encode(file.read_text(encoding="utf-8"))]
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder))
    arguments = TrainingArguments(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Blocks(ids, 128))
    trainer.train()
    trainer.save_model(out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if trainer.is_world_process_zero():
        print(
            json.dumps(
                {
                    "parameters": sum(p.numel() for p in trainer.model.parameters()),
                    "losses": losses,
                    "phonesearch_imported": "phonesearch" in sys.modules,
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
