"""Target `torchtitan`: a Python module with the candidate and a config to train it with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from phonesearch import __version__
from phonesearch.candidate.config import Activation, Candidate, candidate_id
from phonesearch.files import write_text
from phonesearch.trainer_export.limits import Limit, require_within
from phonesearch.trainer_export.recipe_values import recipe_sentences, recipe_values
from phonesearch.trainer_export.request import ExportRequest
from phonesearch.trainer_export.shape import heading
from phonesearch.trainer_export.torchtitan_module import MODULE
from phonesearch.trainer_export.training_notes import write_training_notes

VERSION: Final = "0.3.0"
"""Release whose source the module was written against."""
FIELDS: Final = {
    "vocab_size": "VOCAB_SIZE",
    "hidden_size": "DIM",
    "intermediate_size": "HIDDEN_DIM",
    "num_hidden_layers": "N_LAYERS",
    "num_attention_heads": "N_HEADS",
    "num_key_value_heads": "N_KV_HEADS",
    "head_dim": "HEAD_DIM",
    "tie_word_embeddings": "TIED",
    "attention_bias": "QKV_BIAS",
    "attention_out_bias": "OUT_BIAS",
    "mlp_bias": "FFN_BIAS",
    "qk_norm": "QK_NORM",
    "rms_norm_eps": "NORM_EPS",
    "rope_theta": "ROPE_THETA",
    "max_position_embeddings": "MAX_SEQ_LEN",
}
"""Our field and the constant of the written module, which has torchtitan's word for it.

Source: `models/qwen3` and `models/common` of torchtitan 0.3.0.
"""
ACTIVATIONS: Final[dict[Activation, str]] = {
    "silu": "F.silu(x)",
    "gelu": "F.gelu(x)",
    "relu": "F.relu(x)",
    "relu2": "F.relu(x).square()",
}
"""torchtitan's own feed-forward network has silu alone, so the module brings its own."""
RECIPE: Final = {
    "peak_lr": "PEAK_LR",
    "final_lr_ratio": "MIN_LR_FACTOR",
    "warmup_steps": "WARMUP_STEPS",
    "num_steps": "STEPS",
    "batch_sequences": "GLOBAL_BATCH_SIZE",
    "micro_batch_sequences": "LOCAL_BATCH_SIZE",
    "adam_betas": "BETAS",
    "adam_eps": "EPS",
    "weight_decay": "WEIGHT_DECAY",
    "gradient_clip_norm": "MAX_NORM",
}
"""Our value of a recipe and the constant of the written module that `train()` takes it from.

Source: `TrainingConfig`, `LRSchedulersContainer.Config`, `default_adamw` of torchtitan 0.3.0.
"""
LIMITS: Final = (
    Limit(
        "sliding_window",
        lambda c: c.sliding_window is None,
        "its masks of language models have none that all layers share",
    ),
    Limit(
        "rope_scaling",
        lambda c: c.rope_scaling is None,
        "its rotation that pairs halves, as Hugging Face's weights want, has none of Llama 3's",
    ),
)


class TorchTitan:
    """`candidate.py`, `README.md`; tokenizer where given."""

    def check(self, request: ExportRequest) -> None:
        """Refuse what torchtitan's parts cannot be put together to.

        Raises:
            TrainerExportError: Naming the fields.
        """
        require_within("torchtitan", LIMITS, request)

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write all files into `folder`."""
        write_text(folder / "candidate.py", _module(request.candidate))
        write_training_notes(request.candidate, folder)
        write_text(folder / "README.md", _readme(request))
        if request.tokenizer is not None:
            request.tokenizer.copy_to(folder)


def _module(candidate: Candidate) -> str:
    numbers = {theirs: getattr(candidate, ours) for ours, theirs in FIELDS.items()}
    numbers["GATED"] = candidate.ffn_type == "gated"
    values = recipe_values(candidate)
    recipe = {theirs: values[ours] for ours, theirs in RECIPE.items()}
    return MODULE.format(
        name=candidate_id(candidate),
        version=VERSION,
        phonesearch=__version__,
        numbers="\n".join(f"{name} = {value!r}" for name, value in numbers.items()),
        recipe="\n".join(f"{name} = {value!r}" for name, value in recipe.items()),
        activation=ACTIVATIONS[candidate.hidden_act],
    )


def _readme(request: ExportRequest) -> str:
    given = request.tokenizer is not None
    vocab_size = request.candidate.vocab_size
    return heading(request.candidate, trainer=f"torchtitan {VERSION}") + _README.format(
        version=VERSION,
        tokenizer="" if given else " \\\n    --hf_assets_path TOKENIZER",
        note="" if given else _TOKENIZER.format(vocab_size),
        recipe=recipe_sentences(request.candidate, where="`candidate.py`"),
    )


_README = """\
There are no weights here: a training starts from fresh ones.

Build it, in this folder:

```python
from candidate import model_spec

model = model_spec().model.build()
print(f"{{sum(p.numel() for p in model.parameters()):,}} parameters")
```

Train it, in this folder, on one GPU; `train()` in `candidate.py` has all settings, and streams C4
from the hub:

```shell
pip install torchtitan=={version}
torchrun --nproc_per_node 1 -m torchtitan.train --module candidate --config train{tokenizer}
```
{note}
{recipe}"""
_TOKENIZER = """
Replace `TOKENIZER` by a folder with the `tokenizer.json` of a tokenizer with at most {:,} ids.
"""
