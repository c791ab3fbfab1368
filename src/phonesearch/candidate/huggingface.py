"""Reads and writes Hugging Face `config.json`, for the model types a `Candidate` can express.

Nothing is approximated: a field that changes the function of the model and that a candidate
does not have is refused by name.

Source of every default: the configuration classes of transformers 5.23
(`LlamaConfig`, `MistralConfig`, `Qwen2Config`, `Qwen3Config`, `Phi3Config`, `ArceeConfig`) and
`configuration_phonelm.py` of UbiquitousLearning/PhoneLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phonesearch.candidate.config import ACTIVATIONS, Candidate, RopeScaling
from phonesearch.errors import InvalidCandidateError, UnsupportedConfigError
from phonesearch.files import read_mapping, structure

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "arcee", "phonelm")

_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "head_dim": None},
    "mistral": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "head_dim": None,
        "sliding_window": 4096,
    },
    "qwen2": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": None,
        "sliding_window": 4096,
    },
    "qwen3": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
    },
    "phi3": {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "head_dim": None},
    "arcee": {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "hidden_act": "relu2",
        "head_dim": None,
    },
    "phonelm": {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "head_dim": None},
}
_ALIASES = {"swish": "silu"}
_WINDOWED = ("mistral", "qwen2", "qwen3", "phi3")
"""Types whose code looks at `sliding_window`; the others carry the field without effect."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "partial_rotary_factor": (1.0,),
    "embd_pdrop": (0.0,),
    "resid_pdrop": (0.0,),
    "attention_dropout": (0.0,),
    "pretraining_tp": (1,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "attention_multiplier": (),
    "embedding_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "logits_scaling": (1.0,),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0, 1),
}
"""Fields that change the function of a model unless they are absent, null or one of these."""
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
_OPTIONAL_INTEGERS = (
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
)


def read_candidate(path: Path) -> Candidate:
    """The architecture in a Hugging Face `config.json`, or in a candidate file of our own.

    A file with a `model_type` field is a Hugging Face config; one without holds the fields of
    a `Candidate` as YAML or JSON. A folder stands for the `config.json` in it.

    Raises:
        InvalidFileError: If it cannot be read or a field is wrong.
        UnsupportedConfigError: If a candidate cannot represent the model.
    """
    if path.is_dir():
        path = path / "config.json"
    content = read_mapping(path)
    if "model_type" in content:
        try:
            return from_config(content)
        except (UnsupportedConfigError, InvalidCandidateError) as error:
            raise type(error)(f"{path}: {error}") from error
    return structure(content, Candidate, path=path)


def from_config(config: Mapping[str, Any]) -> Candidate:
    """The architecture that the content of a `config.json` describes.

    Raises:
        UnsupportedConfigError: If the type or a field cannot be represented.
        InvalidCandidateError: If the fields contradict each other.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise UnsupportedConfigError(
            f"`model_type` {model_type!r} cannot be represented; phonesearch reads "
            f"{', '.join(MODEL_TYPES)}."
        )
    values = {**_DEFAULTS[model_type], **config}
    missing = [field for field in _REQUIRED if not _is_int(values.get(field))]
    missing += [
        field
        for field in _OPTIONAL_INTEGERS
        if values.get(field) is not None and not _is_int(values[field])
    ]
    if missing:
        raise UnsupportedConfigError(
            f"`{'`, `'.join(missing)}` must be given as whole numbers in a config of type "
            f"{model_type!r}."
        )
    _refuse_unrepresentable(values)
    theta, scaling = _rope(values)
    heads = values["num_attention_heads"]
    activation = values.get("hidden_act") or values.get("hidden_activation") or "silu"
    activation = _ALIASES.get(activation, activation)
    if activation not in ACTIVATIONS:
        raise UnsupportedConfigError(
            f"`hidden_act` {activation!r} cannot be represented; phonesearch knows "
            f"{', '.join(ACTIVATIONS)}."
        )
    bias = bool(values.get("attention_bias", False)) and model_type in ("llama", "qwen3", "arcee")
    return Candidate(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        intermediate_size=values["intermediate_size"],
        num_hidden_layers=values["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or values["hidden_size"] // heads,
        ffn_type="plain" if model_type == "arcee" else "gated",
        hidden_act=activation,
        tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        attention_bias=bias or model_type == "qwen2",
        attention_out_bias=bias,
        mlp_bias=bool(values.get("mlp_bias", False)) and model_type in ("llama", "arcee"),
        qk_norm=model_type == "qwen3",
        rms_norm_eps=_number(values["rms_norm_eps"], "rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=values["max_position_embeddings"],
        sliding_window=_sliding_window(values),
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _sliding_window(values: Mapping[str, Any]) -> int | None:
    """Window of all layers; a config in which only some layers have one is refused."""
    window = values.get("sliding_window") if values["model_type"] in _WINDOWED else None
    chosen_by_layer = values["model_type"] in ("qwen2", "qwen3")
    kinds = set(values.get("layer_types") or ())
    if chosen_by_layer and (
        not values.get("use_sliding_window", False) or kinds == {"full_attention"}
    ):
        window = None
    if len(kinds) > 1 or kinds - {"full_attention", "sliding_attention"}:
        raise UnsupportedConfigError(
            f"`layer_types` mixes {', '.join(sorted(kinds))}; all layers must be alike."
        )
    if window is None or window >= values["max_position_embeddings"]:
        return None
    if chosen_by_layer and not kinds:
        raise UnsupportedConfigError(
            "`use_sliding_window` puts a window on some layers only (`max_window_layers`); "
            "all layers must be alike."
        )
    return int(window)


def _refuse_unrepresentable(values: Mapping[str, Any]) -> None:
    """Raise for fields that change the function and that a candidate does not have."""
    parameters = _rope_parameters(values)
    neutral = dict(_NEUTRAL)
    if values["model_type"] == "phonelm":
        neutral |= {"attention_bias": (False,), "mlp_bias": (False,)}
    merged = {**values, **{field: parameters[field] for field in neutral if field in parameters}}
    for field, harmless in neutral.items():
        if merged.get(field) is not None and merged[field] not in harmless:
            allowed = " or ".join(str(value) for value in ("absent", *harmless))
            raise UnsupportedConfigError(
                f"`{field}` {merged[field]!r} cannot be represented; it must be {allowed}."
            )
    no_rope = values.get("no_rope_layers")
    if no_rope and any(not layer for layer in no_rope):
        raise UnsupportedConfigError("`no_rope_layers` cannot be represented; all must rotate.")
    if values.get("quantization_config"):
        raise UnsupportedConfigError(
            "`quantization_config` cannot be represented; give the config of the unquantised "
            "model, phonesearch quantises by itself."
        )


def _rope_parameters(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a config has both fields, transformers 5 takes `rope_scaling` and drops the other."""
    parameters = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping):
        raise UnsupportedConfigError(f"`rope_scaling` must be a mapping, got {parameters!r}.")
    if any(isinstance(part, Mapping) for part in parameters.values()):
        raise UnsupportedConfigError(
            "`rope_parameters` differ between kinds of layers; all layers must be alike."
        )
    return parameters


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnsupportedConfigError(f"`{field}` must be a number, got {value!r}.")
    return float(value)


def _rope(values: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Theta and scaling, from the fields of transformers 4 (`rope_theta`) or 5."""
    parameters = _rope_parameters(values)
    theta = _number(parameters.get("rope_theta") or values.get("rope_theta", 10000.0), "rope_theta")
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UnsupportedConfigError(
            f"`rope_scaling` of type {kind!r} cannot be represented; only `llama3` and none."
        )
    fields = (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    )
    missing = [field for field in fields if field not in parameters]
    if missing:
        raise UnsupportedConfigError(f"`rope_scaling` lacks {', '.join(missing)}.")
    return theta, RopeScaling(
        factor=_number(parameters["factor"], "factor"),
        low_freq_factor=_number(parameters["low_freq_factor"], "low_freq_factor"),
        high_freq_factor=_number(parameters["high_freq_factor"], "high_freq_factor"),
        original_max_position_embeddings=int(
            _number(
                parameters["original_max_position_embeddings"], "original_max_position_embeddings"
            )
        ),
    )


def to_config(candidate: Candidate) -> dict[str, Any]:
    """Content of a `config.json` from which transformers builds exactly this architecture.

    `llama` for gated feed-forward networks, `arcee` for plain ones, `qwen3` where queries and
    keys are normed, `qwen2` where only the projections before attention have a bias,
    `mistral` where there is a sliding window, or where the query heads do not divide
    `hidden_size`: transformers 5 refuses that of a `llama` or `arcee` config, although
    `head_dim` is given, and `mistral` is the same function.

    Raises:
        UnsupportedConfigError: If no type of transformers has this mixture of fields.
    """
    model_type = _type_for(candidate)
    theta: dict[str, Any] = {"rope_theta": candidate.rope_theta, "rope_type": "default"}
    if candidate.rope_scaling is not None:
        scaling = candidate.rope_scaling
        theta |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        }
    config: dict[str, Any] = {
        "architectures": [f"{model_type.capitalize()}ForCausalLM"],
        "model_type": model_type,
        "vocab_size": candidate.vocab_size,
        "hidden_size": candidate.hidden_size,
        "intermediate_size": candidate.intermediate_size,
        "num_hidden_layers": candidate.num_hidden_layers,
        "num_attention_heads": candidate.num_attention_heads,
        "num_key_value_heads": candidate.num_key_value_heads,
        "head_dim": candidate.head_dim,
        "hidden_act": candidate.hidden_act,
        "tie_word_embeddings": candidate.tie_word_embeddings,
        "rms_norm_eps": candidate.rms_norm_eps,
        "rope_theta": candidate.rope_theta,
        "rope_parameters": theta,
        "max_position_embeddings": candidate.max_position_embeddings,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if model_type in ("llama", "arcee", "qwen3"):
        config["attention_bias"] = candidate.attention_bias
    if model_type in ("llama", "arcee"):
        config["mlp_bias"] = candidate.mlp_bias
    if model_type == "mistral":
        config["sliding_window"] = candidate.sliding_window
    if model_type in ("qwen2", "qwen3"):
        config["use_sliding_window"] = candidate.sliding_window is not None
        if candidate.sliding_window is not None:
            config["sliding_window"] = candidate.sliding_window
            config["max_window_layers"] = 0
            config["layer_types"] = ["sliding_attention"] * candidate.num_hidden_layers
    return config


def _type_for(candidate: Candidate) -> str:
    """The one transformers type that has exactly these fields."""
    qkv, out = candidate.attention_bias, candidate.attention_out_bias
    plain, mlp_bias = candidate.ffn_type == "plain", candidate.mlp_bias
    divides = candidate.hidden_size % candidate.num_attention_heads == 0
    if plain or mlp_bias or (qkv and out and not candidate.qk_norm):
        if divides and qkv == out and candidate.sliding_window is None and not candidate.qk_norm:
            return "arcee" if plain else "llama"
    elif candidate.qk_norm and qkv == out:
        return "qwen3"
    elif qkv and not out and not candidate.qk_norm:
        return "qwen2"
    elif not qkv and not out and not candidate.qk_norm:
        return "llama" if divides and candidate.sliding_window is None else "mistral"
    raise UnsupportedConfigError(
        "No model type of transformers has this mixture: "
        f"`ffn_type` {candidate.ffn_type}, `attention_bias` {qkv}, `attention_out_bias` {out}, "
        f"`mlp_bias` {mlp_bias}, `qk_norm` {candidate.qk_norm}, "
        f"`sliding_window` {candidate.sliding_window}, `hidden_size` {candidate.hidden_size} "
        f"with `num_attention_heads` {candidate.num_attention_heads}"
        + ("." if divides else " (which does not divide it).")
    )
