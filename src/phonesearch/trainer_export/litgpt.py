"""Target `litgpt`: a folder that `litgpt pretrain` trains the candidate from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from phonesearch.candidate.config import Activation, Candidate, FfnType, candidate_id
from phonesearch.files import write_text, write_yaml
from phonesearch.trainer_export.limits import (
    ONE_BIAS_SWITCH,
    WHOLE_ROPE_THETA,
    Limit,
    require_within,
)
from phonesearch.trainer_export.recipe_values import in_their_words, recipe_sentences
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading
from phonesearch.trainer_export.training_notes import write_training_notes

VERSION: Final = "0.5.13"
"""Release whose source the tables were read from."""
FIELDS: Final = {
    "vocab_size": "padded_vocab_size",
    "hidden_size": "n_embd",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "num_key_value_heads": "n_query_groups",
    "head_dim": "head_size",
    "attention_bias": "attn_bias",
    "mlp_bias": "bias",
    "qk_norm": "norm_qk",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "rope_base",
    "max_position_embeddings": "block_size",
    "sliding_window": "sliding_window_size",
}
"""Our field and the one of litgpt's `Config` that means the same.

Source: `litgpt/config.py` and `litgpt/model.py` of litgpt 0.5.13. `bias` there is that of the
feed-forward network and of the projection after attention, and adds one before attention too.
"""
MLP_CLASSES: Final[dict[tuple[FfnType, Activation], str]] = {
    ("gated", "silu"): "LLaMAMLP",
    ("gated", "gelu"): "GemmaMLP",
    ("plain", "gelu"): "GptNeoxMLP",
}
"""Activations are written into litgpt's classes, so these three are all there are.

Source: `litgpt/model.py` of litgpt 0.5.13.
"""
FIXED: Final[dict[str, Any]] = {
    "norm_class_name": "RMSNorm",
    "norm_qk_type": "default",
    "parallel_residual": False,
    "rotary_percentage": 1.0,
    "gelu_approximate": "none",
    "lm_head_bias": False,
}
"""What every candidate has, in litgpt's words; most are not its defaults."""
ROPE_SCALING_FIELDS: Final = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_seq_len",
}
RECIPE: Final = {
    "peak_lr": "optimizer.init_args.lr",
    "adam_betas": "optimizer.init_args.betas",
    "adam_eps": "optimizer.init_args.eps",
    "weight_decay": "optimizer.init_args.weight_decay",
    "batch_sequences": "train.global_batch_size",
    "micro_batch_sequences": "train.micro_batch_size",
    "context_length": "train.max_seq_length",
    "tokens": "train.max_tokens",
    "warmup_steps": "train.lr_warmup_steps",
    "final_lr": "train.min_lr",
    "gradient_clip_norm": "train.max_norm",
}
"""Our value of a recipe and the place of it in `pretrain.yaml`. The schedule is always cosine.

Source: `litgpt/args.py`, `get_lr` of `litgpt/pretrain.py` and `instantiate_torch_optimizer` of
`litgpt/utils.py`, litgpt 0.5.13.
"""
LIMITS: Final = (
    Limit(
        "hidden_act",
        lambda c: (c.ffn_type, c.hidden_act) in MLP_CLASSES,
        "it has silu and gelu where `ffn_type` is gated, and gelu alone where it is plain",
    ),
    *ONE_BIAS_SWITCH,
    WHOLE_ROPE_THETA,
)


class LitGPT:
    """`pretrain.yaml`, `model_config.yaml`, `README.md`; tokenizer where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what litgpt's model has no switch for.

        Raises:
            TrainerExportError: Naming the fields.
        """
        require_within("litgpt", LIMITS, request)

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        candidate = request.candidate
        config = model_config(candidate)
        write_yaml(folder / "model_config.yaml", config)
        # The model is here a second time: `litgpt pretrain` takes no path in this place.
        pretrain: dict[str, Any] = {"model_name": config["name"], "model_config": config}
        if request.tokenizer is not None:
            pretrain["tokenizer_dir"] = "."
            request.tokenizer.copy_to(folder)
        fixed = {
            "optimizer.class_path": "torch.optim.AdamW",
            "train.tie_embeddings": candidate.tie_word_embeddings,
        }
        pretrain |= in_their_words(candidate, RECIPE, fixed=fixed)
        write_yaml(folder / "pretrain.yaml", pretrain)
        write_training_notes(candidate, folder)
        write_text(folder / "README.md", _readme(request))


def model_config(candidate: Candidate) -> dict[str, Any]:
    """Arguments of `litgpt.Config` for this architecture.

    Whether the head is the table is not among them: litgpt ties the two when it trains, see
    `train.tie_embeddings` in `pretrain.yaml`.
    """
    config: dict[str, Any] = {"name": f"phonesearch-{candidate_id(candidate)}"}
    config |= {theirs: getattr(candidate, ours) for ours, theirs in FIELDS.items()}
    config |= FIXED
    config["vocab_size"] = candidate.vocab_size
    config["mlp_class_name"] = MLP_CLASSES[candidate.ffn_type, candidate.hidden_act]
    config["rope_base"] = int(candidate.rope_theta)
    if candidate.rope_scaling is not None:
        config["rope_adjustments"] = {
            theirs: getattr(candidate.rope_scaling, ours)
            for ours, theirs in ROPE_SCALING_FIELDS.items()
        }
    return config


def _readme(request: ExportRequest) -> str:
    candidate = request.candidate
    return heading(candidate, trainer=f"litgpt {VERSION}") + _README.format(
        version=VERSION,
        tokenizer="" if request.tokenizer is not None else "--tokenizer_dir TOKENIZER ",
        note="" if request.tokenizer is not None else _TOKENIZER.format(candidate.vocab_size),
        recipe=recipe_sentences(candidate, where="`pretrain.yaml`"),
        tied=_TIED if candidate.tie_word_embeddings else "",
    )


_README = """\
There are no weights here: a training starts from fresh ones.

Train it, in this folder, on the `*.txt` files, two or more, of a folder `text`:

```shell
pip install 'litgpt[extra]=={version}'
litgpt pretrain --config pretrain.yaml {tokenizer}--out_dir trained \\
    --data TextFiles --data.train_data_path text
```
{note}
{recipe}{tied}"""
_TOKENIZER = """
Replace `TOKENIZER` by a folder with the `tokenizer.json` of a tokenizer with at most {:,} ids.
"""
_TIED = """
The head is the embedding table, which `train.tie_embeddings` in `pretrain.yaml` sees to. It is no
part of `model_config.yaml`: what builds a model from that file alone has a head of its own.
"""
