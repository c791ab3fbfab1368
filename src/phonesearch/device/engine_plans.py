"""What is known of each inference engine apart from the rows: the priors of its fit."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from phonesearch.device.fit import ASSUMED_GENERATE_TOKENS, ASSUMED_PROMPT_TOKENS
from phonesearch.errors import ProfileError

Processor = Literal["CPU", "NPU"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """One engine at one weight width, as every device that runs it has it."""

    description: str
    weight_bits: int
    processor: Processor = "CPU"
    attention_share: float
    """`attention_ops_per_s` over `matmul_ops_per_s`."""
    attention_source: str
    tile_rows: int
    tile_source: str
    assumptions: tuple[str, ...]
    build_of: str = ""
    """The engine that this is another build of; empty for one on its own."""


_FLOAT_SCALES: Final = (
    "float32 activations and cache. Engines that store smaller scales move fewer; the fitted "
    "bandwidth makes up for it, so it is an effective one"
)
_BYTES_NOTE: Final = (
    "bytes are those of the exported graph: 4-bit weights with a float32 scale a block of 32 "
    f"(0.625 bytes a weight), {_FLOAT_SCALES}"
)
_BYTES_NOTE_8: Final = (
    "bytes are 8-bit weights with a float32 scale a block of 32 (1.125 bytes a weight), "
    f"{_FLOAT_SCALES}"
)
_BYTES_NOTE_16: Final = (
    "bytes are 2 a weight, and float32 activations and cache; the embedding lookup is that of "
    "the exported graph"
)
_LENGTH_NOTE: Final = (
    f"where a source gives no lengths, a prompt of {ASSUMED_PROMPT_TOKENS} and "
    f"{ASSUMED_GENERATE_TOKENS} generated tokens were assumed"
)
_FORK_NOTE: Final = (
    "rows of several builds of 2024 to 2026 and of the PowerInfer fork of SmallThinker, whose "
    "table does not state the quantisation, are taken together where a device has few"
)
_QUARTER_FP16: Final = (
    "prior: a quarter of `matmul_ops_per_s`, as one 128-bit SMMLA does 32 multiply-adds in 8 "
    "bits and one FMLA 8 in float16 (Arm Architecture Reference Manual, A64 SIMD)"
)
_REPACKED: Final = (
    "prior: llama.cpp's repacked Arm kernels (`..._4x8_...`) take four rows at a time"
)

_EXECUTORCH_4: Final = EnginePlan(
    description=(
        "ExecuTorch with XNNPACK (and its KleidiAI kernels where the build has them), "
        "8-bit dynamic activations and 4-bit grouped weights (8da4w)"
    ),
    weight_bits=4,
    attention_share=1 / 8,
    attention_source=(
        "prior: an eighth of `matmul_ops_per_s`, as one 128-bit SMMLA does 32 multiply-adds "
        "in 8 bits and one FMLA 4 in float32 (Arm Architecture Reference Manual, A64 SIMD)"
    ),
    tile_rows=4,
    tile_source=(
        "prior: smallest row step of KleidiAI's 4-bit i8mm micro-kernels (`..._4x8x32_...`)"
    ),
    assumptions=(
        _BYTES_NOTE,
        _LENGTH_NOTE,
        "ExecuTorch files hold embedding and head apart; the head is counted as 4-bit, as in "
        "the graph",
        "a file that somebody else exported may be half as fast again: see "
        "`executorch-xnnpack-meta-4bit` of snapdragon8gen3. The interval does not count that in",
    ),
)
_EXECUTORCH_16: Final = EnginePlan(
    description="ExecuTorch with XNNPACK, weights in bfloat16 or float16 (not quantised)",
    weight_bits=16,
    attention_share=1.0,
    attention_source="prior: that of `matmul_ops_per_s`; both are products of floats",
    tile_rows=6,
    tile_source="prior: XNNPACK's float kernels for arm64 (`gemm-6x8`) take six rows at a time",
    assumptions=(
        _BYTES_NOTE_16,
        _LENGTH_NOTE,
        "most tables print whole tokens a second, so that a row of 2 to 4 is uncertain by "
        "12 to 25 % by its rounding alone",
    ),
)

ENGINE_PLANS: Final[dict[str, EnginePlan]] = {
    "executorch-xnnpack-4bit": _EXECUTORCH_4,
    "executorch-xnnpack-meta-4bit": replace(
        _EXECUTORCH_4,
        description=(
            f"{_EXECUTORCH_4.description}, files as Meta and ExecuTorch's authors published them "
            "(SpinQuant, QAT+LoRA, groups of 128 and 256). On Android they stream half as fast "
            "again as what others exported, so that the two are told apart there; on iPhones "
            "they do not"
        ),
        assumptions=(
            *_EXECUTORCH_4.assumptions[:-1],
            "its rows are all of Llama models and those of the plain engine there all of Qwen "
            "ones, so that the rows cannot tell the way of export from the family; no shape of "
            "theirs explains it (`device/cost.py`)",
            "by the sizes of Meta's files their heads are 8-bit, which is not counted: with it, "
            "models left out were predicted worse",
            "rows with groups of 128 or 256 weights were fitted on graphs with such blocks",
        ),
        build_of="executorch-xnnpack-4bit",
    ),
    "executorch-xnnpack-16bit": _EXECUTORCH_16,
    "executorch-xnnpack-2025-16bit": replace(
        _EXECUTORCH_16,
        description=(
            f"{_EXECUTORCH_16.description}, as published in 2024 and 2025. The 2026 edition of "
            "the same table prints a fifth less for the same models and phone"
        ),
        build_of="executorch-xnnpack-16bit",
    ),
    "llamacpp-2024-4bit": EnginePlan(
        description=(
            "llama.cpp as of 2024 (build not stated; before repacked Arm kernels were the "
            "default), 4-bit. Slower than today's builds, prefill above all: use it to compare "
            "shapes on this phone, not engines"
        ),
        weight_bits=4,
        attention_share=1 / 4,
        attention_source=(
            "prior: a quarter of `matmul_ops_per_s`, as one 128-bit SDOT does 16 multiply-adds "
            "in 8 bits and one FMLA 4 in float32 (Arm Architecture Reference Manual, A64 SIMD)"
        ),
        tile_rows=4,
        tile_source=(
            "chosen for all phones together: the build, and so its kernel, is not stated, and 4 "
            "rows at a time predict the prefill of models left out better than 1, 2 or 3"
        ),
        assumptions=(
            _BYTES_NOTE,
            "the rows have prompts of 8 to 28 tokens; a longer prefill is an extrapolation",
        ),
    ),
    "llamacpp-q4_0-4bit": EnginePlan(
        description="llama.cpp with repacked Arm kernels, Q4_0",
        weight_bits=4,
        attention_share=1 / 4,
        attention_source=_QUARTER_FP16,
        tile_rows=4,
        tile_source=_REPACKED,
        assumptions=(_BYTES_NOTE, _LENGTH_NOTE, _FORK_NOTE),
    ),
    "llamacpp-q4_k_m-4bit": EnginePlan(
        description="llama.cpp with repacked Arm kernels, Q4_K_M (4-bit, some matrices 6-bit)",
        weight_bits=4,
        attention_share=1 / 4,
        attention_source=_QUARTER_FP16,
        tile_rows=4,
        tile_source=_REPACKED,
        assumptions=(
            _BYTES_NOTE,
            _LENGTH_NOTE,
            "all matrices are counted as 4-bit; the fitted bandwidth makes up for those in 6",
        ),
    ),
    "llamacpp-q8_0-8bit": EnginePlan(
        description="llama.cpp with repacked Arm kernels, Q8_0",
        weight_bits=8,
        attention_share=1 / 4,
        attention_source=_QUARTER_FP16,
        tile_rows=4,
        tile_source=_REPACKED,
        assumptions=(_BYTES_NOTE_8, _LENGTH_NOTE),
    ),
    "mnn-4bit": EnginePlan(
        description="MNN-LLM as of April 2024, 4-bit, 4 threads",
        weight_bits=4,
        attention_share=1 / 4,
        attention_source=_QUARTER_FP16,
        tile_rows=4,
        tile_source="prior: rows that MNN's Arm int8 kernels take at a time",
        assumptions=(_BYTES_NOTE, _LENGTH_NOTE),
    ),
    "qnn-genie-4bit": EnginePlan(
        description=(
            "Qualcomm's Genie over QNN on the Hexagon NPU, 4-bit weights and 16-bit activations "
            "(w4a16), as Qualcomm AI Hub publishes it"
        ),
        weight_bits=4,
        processor="NPU",
        attention_share=1 / 2,
        attention_source=(
            "prior: half of `matmul_ops_per_s`, as both operands of attention are activations of "
            "16 bits and one of a product with weights is of 4"
        ),
        tile_rows=32,
        tile_source="prior: the matrix unit of Hexagon (HMX) works on tiles of 32 rows",
        assumptions=(
            _BYTES_NOTE,
            _LENGTH_NOTE,
            "the source gives a range of context lengths for each speed (up to 4096); the "
            "compiled graphs may read all of it each step, which is not counted",
        ),
    ),
}


_GENERIC_NAME: Final = re.compile(r"[a-z0-9][\w.-]*-(4|8|16)bit", re.IGNORECASE)


def engine_plan(name: str) -> EnginePlan:
    """The plan of the engine called `name`; a general one for an engine that is not known here.

    Raises:
        ProfileError: If the name does not end in a weight width, as `mine-8bit` does.
    """
    if name in ENGINE_PLANS:
        return ENGINE_PLANS[name]
    width = _GENERIC_NAME.fullmatch(name)
    if width is None:
        raise ProfileError(
            f"There is no engine {name!r} to fit. Known are {', '.join(sorted(ENGINE_PLANS))}; a "
            "name of your own ends in the width of its weights: -4bit, -8bit or -16bit."
        )
    bits = int(width.group(1))
    notes = {4: _BYTES_NOTE, 8: _BYTES_NOTE_8, 16: _BYTES_NOTE_16}
    return EnginePlan(
        description=f"{name}, not among the engines known by name",
        weight_bits=bits,
        attention_share=1.0 if bits == 16 else 1 / 4,
        attention_source=(
            "prior: that of `matmul_ops_per_s`; both are products of floats"
            if bits == 16
            else _QUARTER_FP16
        ),
        tile_rows=4,
        tile_source="prior: four, as the kernels of most engines for Arm",
        assumptions=(notes[bits], _LENGTH_NOTE),
    )
