"""Target `megatron`: the arguments with which Megatron-LM trains the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from phonesearch.candidate.config import Activation, Candidate, FfnType
from phonesearch.files import write_text
from phonesearch.trainer_export.limits import (
    ONE_BIAS_SWITCH,
    WHOLE_ROPE_THETA,
    Limit,
    require_within,
)
from phonesearch.trainer_export.recipe_values import recipe_sentences, recipe_values
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading
from phonesearch.trainer_export.training_notes import write_training_notes

VERSION: Final = "0.16"
"""Release of Megatron Core that the tables were checked with; Megatron-LM at the commit below."""
ARGUMENTS: Final = {
    "num_hidden_layers": "--num-layers",
    "hidden_size": "--hidden-size",
    "intermediate_size": "--ffn-hidden-size",
    "num_attention_heads": "--num-attention-heads",
    "num_key_value_heads": "--num-query-groups",
    "head_dim": "--kv-channels",
    "rms_norm_eps": "--norm-epsilon",
    "max_position_embeddings": "--max-position-embeddings",
}
"""Our field and the argument that takes its value.

Source: `megatron/training/arguments.py` of NVIDIA/Megatron-LM at 000c4ac24f61, and
`transformer_config.py` of megatron-core 0.16.1, whose fields they fill.
"""
ACTIVATION_SWITCHES: Final[dict[tuple[FfnType, Activation], tuple[str, ...]]] = {
    ("gated", "silu"): ("--swiglu",),
    ("plain", "gelu"): (),
    ("plain", "relu2"): ("--squared-relu",),
}
"""Source: `core_transformer_config_from_args`, in the same file."""
FIXED: Final = (
    "--group-query-attention",
    "--normalization RMSNorm",
    "--position-embedding-type rope",
    "--rotary-percent 1.0",
    "--hidden-dropout 0.0",
    "--attention-dropout 0.0",
    "--no-bias-gelu-fusion",
)
"""What every candidate has. The fused gelu is the tanh approximation, ours is exact."""
RECIPE: Final = {
    "context_length": "--seq-length",
    "micro_batch_sequences": "--micro-batch-size",
    "batch_sequences": "--global-batch-size",
    "num_steps": "--train-iters",
    "peak_lr": "--lr",
    "final_lr": "--min-lr",
    "warmup_steps": "--lr-warmup-iters",
    "adam_beta1": "--adam-beta1",
    "adam_beta2": "--adam-beta2",
    "adam_eps": "--adam-eps",
    "weight_decay": "--weight-decay",
    "gradient_clip_norm": "--clip-grad",
}
"""Our value of a recipe and the argument that takes it.

Source: `_add_training_args`, `_add_learning_rate_args` and `_add_regularization_args`, in the same
file at the same commit.
"""
SCHEDULE: Final = ("--optimizer adam", "--lr-decay-style cosine")
"""Adam there is AdamW, and the cosine ends at the last iteration. Source: as `RECIPE`."""
LLAMA3: Final = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Fixed in `RotaryEmbedding._apply_scaling`; the factor alone has an argument.

Source: `models/common/embeddings/rotary_pos_embedding.py` of megatron-core 0.16.1.
"""


def _scaling_fits(candidate: Candidate) -> bool:
    scaling = candidate.rope_scaling
    return scaling is None or all(getattr(scaling, name) == LLAMA3[name] for name in LLAMA3)


LIMITS: Final = (
    Limit(
        "hidden_act",
        lambda c: (c.ffn_type, c.hidden_act) in ACTIVATION_SWITCHES,
        "it has silu where `ffn_type` is gated, gelu and relu2 where it is plain",
    ),
    *ONE_BIAS_SWITCH,
    WHOLE_ROPE_THETA,
    Limit(
        "rope_scaling",
        _scaling_fits,
        "any factor, with `low_freq_factor` 1, `high_freq_factor` 4 and "
        "`original_max_position_embeddings` 8192",
    ),
)


class Megatron:
    """`model.args`, `train.args`, `README.md`; tokenizer where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what Megatron-LM has no argument for.

        Raises:
            TrainerExportError: Naming the fields.
        """
        require_within("Megatron-LM", LIMITS, request)

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        write_text(folder / "model.args", "\n".join(arguments(request.candidate)) + "\n")
        write_text(folder / "train.args", "\n".join(training_arguments(request.candidate)) + "\n")
        write_training_notes(request.candidate, folder)
        write_text(folder / "README.md", _readme(request))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)


def arguments(candidate: Candidate) -> list[str]:
    """Arguments of the architecture, one a line, value and all."""
    found = [f"{theirs} {getattr(candidate, ours)}" for ours, theirs in ARGUMENTS.items()]
    found += FIXED
    found += ACTIVATION_SWITCHES[candidate.ffn_type, candidate.hidden_act]
    found.append(f"--rotary-base {int(candidate.rope_theta)}")
    # However many ids a tokenizer has, the table is padded to a multiple of this: to itself.
    found.append(f"--make-vocab-size-divisible-by {candidate.vocab_size}")
    if not candidate.tie_word_embeddings:
        found.append("--untie-embeddings-and-output-weights")
    if not candidate.mlp_bias:
        found.append("--disable-bias-linear")
        if candidate.attention_bias:
            found.append("--add-qkv-bias")
    if candidate.qk_norm:
        found.append("--qk-layernorm")
    if candidate.sliding_window is not None:  # theirs does not count the query itself
        found.append(f"--window-size {candidate.sliding_window - 1},0")
    if candidate.rope_scaling is not None:
        found += ["--use-rope-scaling", f"--rope-scaling-factor {candidate.rope_scaling.factor}"]
    return found


def training_arguments(candidate: Candidate) -> list[str]:
    """Arguments of the recipe, one a line."""
    values = recipe_values(candidate)
    return [*(f"{theirs} {values[ours]}" for ours, theirs in RECIPE.items()), *SCHEDULE]


def _readme(request: ExportRequest) -> str:
    given = request.tokenizer is not None
    candidate = request.candidate
    return heading(candidate, trainer=f"Megatron-LM, core {VERSION}") + _README.format(
        tokenizer="." if given else "TOKENIZER",
        note="" if given else _TOKENIZER.format(candidate.vocab_size),
        recipe=recipe_sentences(candidate, where="`train.args`"),
        vocabulary=candidate.vocab_size,
    )


_README = """\
There are no weights here: a training starts from fresh ones. `model.args` holds all of the
architecture and nothing else, `train.args` the training.

Train it, in this folder, with `pretrain_gpt.py` of Megatron-LM on one GPU; `DATA` is what its
`tools/preprocess_data.py` made of your text with the same tokenizer:

```shell
torchrun --nproc_per_node 1 PATH/TO/Megatron-LM/pretrain_gpt.py $(cat model.args train.args) \\
    --tokenizer-type HuggingFaceTokenizer --tokenizer-model {tokenizer} --data-path DATA \\
    --bf16 --save trained --save-interval 1000
```
{note}
{recipe}
With `--tensor-model-parallel-size T`, divide `--make-vocab-size-divisible-by` in `model.args` by T:
Megatron-LM multiplies the two, and the table is to have {vocabulary} rows.
"""
_TOKENIZER = """
Replace `TOKENIZER` by a folder or hub name of a tokenizer with at most {:,} ids.
"""
