"""Target `nanotron`: the YAML config with which nanotron trains the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.files import write_text, write_yaml
from phonesearch.trainer_export.limits import Limit, require_within
from phonesearch.trainer_export.recipe_values import in_their_words, recipe_sentences
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading
from phonesearch.trainer_export.training_notes import write_training_notes

COMMITS: Final = {"config/config.py": "00708b80c88e", "config/models_config.py": "025f31413c6e"}
"""Of huggingface/nanotron, below `src/nanotron`: where the tables were read.

It is no package: release 0.4 on PyPI has no `rope_theta` and cannot be imported, as its
`nanotron.logging` and `nanotron.config` each need the other first.
"""
FIELDS: Final = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "hidden_act": "hidden_act",
    "tie_word_embeddings": "tie_word_embeddings",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "max_position_embeddings": "max_position_embeddings",
}
"""Our field and the one of nanotron's `LlamaConfig`.

Source: `config/models_config.py` at the commit above. The activation is looked up by name in
`nn/activations.py`, which has our four, gelu being the exact one: read in the wheel of 0.4.
"""
FIXED: Final[dict[str, Any]] = {
    "general.project": "phonesearch",
    "general.seed": 42,
    "parallelism.dp": 1,
    "parallelism.pp": 1,
    "parallelism.tp": 1,
    "model.dtype": "bfloat16",
    "model.init_method.std": 0.02,
    "model.make_vocab_size_divisible_by": 1,
    "model.model_config.is_llama_config": True,
    "model.model_config.rope_interleaved": False,
    "checkpoints.checkpoints_path": "trained",
    "checkpoints.checkpoint_interval": 1000,
    "optimizer.zero_stage": 0,
    "optimizer.accumulate_grad_in_fp32": True,
    "optimizer.optimizer_factory.name": "adamW",
    "optimizer.optimizer_factory.torch_adam_is_fused": True,
    "optimizer.learning_rate_scheduler.lr_warmup_style": "linear",
    "optimizer.learning_rate_scheduler.lr_decay_style": "cosine",
    "data_stages": [
        {
            "name": "text",
            "start_training_step": 1,
            "data": {
                "dataset": {
                    "hf_dataset_or_datasets": "./text",
                    "hf_dataset_splits": "train",
                    "text_column_name": "text",
                },
                "seed": 42,
            },
        }
    ],
}
"""What every candidate has. Pairs of a rotation are asked for as in Hugging Face's weights."""
RECIPE: Final = {
    "context_length": "tokens.sequence_length",
    "num_steps": "tokens.train_steps",
    "micro_batch_sequences": "tokens.micro_batch_size",
    "accumulation_steps": "tokens.batch_accumulation_per_replica",
    "adam_beta1": "optimizer.optimizer_factory.adam_beta1",
    "adam_beta2": "optimizer.optimizer_factory.adam_beta2",
    "adam_eps": "optimizer.optimizer_factory.adam_eps",
    "weight_decay": "optimizer.weight_decay",
    "gradient_clip_norm": "optimizer.clip_grad",
    "peak_lr": "optimizer.learning_rate_scheduler.learning_rate",
    "warmup_steps": "optimizer.learning_rate_scheduler.lr_warmup_steps",
    "decay_steps": "optimizer.learning_rate_scheduler.lr_decay_steps",
    "final_lr": "optimizer.learning_rate_scheduler.min_decay_lr",
}
"""Our value of a recipe and its place. Source: `config/config.py` at the commit above."""
LIMITS: Final = (
    Limit(
        "head_dim",
        lambda c: c.head_dim * c.num_attention_heads == c.hidden_size,
        "there it is `hidden_size` over `num_attention_heads`",
    ),
    Limit("ffn_type", lambda c: c.ffn_type == "gated", "its Llama is gated"),
    Limit("attention_bias", lambda c: not c.attention_bias, "its Llama has no biases"),
    Limit("attention_out_bias", lambda c: not c.attention_out_bias, "its Llama has no biases"),
    Limit("mlp_bias", lambda c: not c.mlp_bias, "its Llama has no biases"),
    Limit("qk_norm", lambda c: not c.qk_norm, "it has none"),
    Limit("rope_theta", lambda c: c.rope_theta == 10000.0, "10000, written into its Llama"),
    Limit("rope_scaling", lambda c: c.rope_scaling is None, "its Llama does not read it"),
    Limit("sliding_window", lambda c: c.sliding_window is None, "its Llama has none"),
)
"""Source: `models/llama.py` of huggingface/nanotron at 03b83fc82541.

That version has the base of rotations fixed, though the config has a field for it; whether later
ones read the field could not be looked up, so every other base is refused.
"""


class Nanotron:
    """`nanotron.yaml`, `README.md`; tokenizer where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what nanotron's Llama has no field for.

        Raises:
            TrainerExportError: Naming the fields.
        """
        require_within("nanotron", LIMITS, request)

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        tokenizer = "." if request.tokenizer is not None else "TOKENIZER"
        write_yaml(folder / "nanotron.yaml", config(request.candidate, tokenizer=tokenizer))
        write_training_notes(request.candidate, folder)
        write_text(folder / "README.md", _readme(request))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)


def config(candidate: Candidate, *, tokenizer: str) -> dict[str, Any]:
    """Content of the config.

    Args:
        candidate: Architecture.
        tokenizer: Folder or hub name of it.
    """
    model = {
        f"model.model_config.{theirs}": getattr(candidate, ours) for ours, theirs in FIELDS.items()
    }
    run = {
        "general.run": candidate_id(candidate),
        "tokenizer.tokenizer_name_or_path": tokenizer,
    }
    return in_their_words(candidate, RECIPE, fixed={**FIXED, **run, **model})


def _readme(request: ExportRequest) -> str:
    given = request.tokenizer is not None
    candidate = request.candidate
    return heading(candidate, trainer="nanotron") + _README.format(
        note="" if given else _TOKENIZER.format(candidate.vocab_size),
        recipe=recipe_sentences(
            candidate,
            where="`nanotron.yaml`",
            besides="A text of fewer\ntokens is refused.",
        ),
        commit=COMMITS["config/config.py"],
    )


_README = """\
There are no weights here: a training starts from fresh ones. `nanotron.yaml` is all of it: model,
training and text, in the fields of huggingface/nanotron at {commit}.

Train it, in this folder, on the `*.txt` files of a folder `text`, with `run_train.py` of a checkout
of https://github.com/huggingface/nanotron, on one GPU:

```shell
CUDA_DEVICE_MAX_CONNECTIONS=1 torchrun --nproc_per_node 1 PATH/TO/nanotron/run_train.py \\
    --config-file nanotron.yaml
```
{note}
{recipe}
The config has not been read by nanotron here. Where a checkout's Llama does not read
`rope_interleaved`, it turns neighbours where Hugging Face's turns halves: as good to train, but
queries and keys must be put in order before its weights are one of Hugging Face's checkpoints.
"""
_TOKENIZER = """
Replace `TOKENIZER` in `nanotron.yaml` by a folder or hub name of a tokenizer with at most {:,} ids.
"""
