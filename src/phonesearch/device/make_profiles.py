"""Fits the shipped device profiles from the carried rows, and writes their YAML.

python -m phonesearch.device.make_profiles           # writes device_profiles/*.yaml
python -m phonesearch.device.make_profiles --check   # fails if they differ from that
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from phonesearch import catalog, files
from phonesearch.device.data import model_shapes, published_speeds, soc_facts
from phonesearch.device.fit import (
    ASSUMED_GENERATE_TOKENS,
    ASSUMED_PROMPT_TOKENS,
    EngineFit,
    PhaseError,
    Priors,
    SpeedRow,
    borrows_decode_error,
    fit_engine,
    interval_log_half_width,
)
from phonesearch.device.profile import (
    Accuracy,
    Coefficients,
    DeviceProfile,
    Engine,
    Fact,
    Number,
)

COVERAGE: Final = 0.9
_SIGNIFICANT_DIGITS: Final = 4
_PRIOR_LOG_HALF_WIDTH: Final = math.log(2)

_HEADER: Final = """Made by `python -m phonesearch.device.make_profiles` from the rows in
src/phonesearch/device/data/; a test checks that it is what that command gives.
Base units: seconds, bytes, operations (a multiply-add is two)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _EnginePlan:
    """How one engine's coefficients are found, apart from the rows."""

    description: str
    attention_share: float
    attention_source: str
    tile_rows: int
    tile_source: str
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _MatmulPrior:
    """A matmul rate for a chip without a prefill row: that of another, scaled."""

    like_soc_id: str
    scale: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _DevicePlan:
    name: str
    description: str
    soc: str
    engines: tuple[str, ...]
    """The first one is the default."""
    matmul_prior: _MatmulPrior | None = None


_BYTES_NOTE: Final = (
    "bytes are those of the exported graph: 4-bit weights with a float32 scale a block of 32 "
    "(0.625 bytes a weight), float32 activations and cache. Engines that store smaller scales "
    "move fewer; the fitted bandwidth makes up for it, so it is an effective one"
)
_LENGTH_NOTE: Final = (
    f"where a source gives no lengths, a prompt of {ASSUMED_PROMPT_TOKENS} and "
    f"{ASSUMED_GENERATE_TOKENS} generated tokens were assumed"
)

_ENGINES: Final = {
    "executorch-xnnpack-4bit": _EnginePlan(
        description=(
            "ExecuTorch with XNNPACK (and its KleidiAI kernels where the build has them), "
            "8-bit dynamic activations and 4-bit grouped weights (8da4w)"
        ),
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
            "rows with groups of 128 or 256 weights were fitted on graphs with such blocks",
        ),
    ),
    "llamacpp-2024-4bit": _EnginePlan(
        description=(
            "llama.cpp as of 2024 (build not stated; before repacked Arm kernels were the "
            "default), 4-bit. Slower than today's builds, prefill above all: use it to compare "
            "shapes on this phone, not engines"
        ),
        attention_share=1 / 4,
        attention_source=(
            "prior: a quarter of `matmul_ops_per_s`, as one 128-bit SDOT does 16 multiply-adds "
            "in 8 bits and one FMLA 4 in float32 (Arm Architecture Reference Manual, A64 SIMD)"
        ),
        tile_rows=1,
        tile_source="prior: builds without repacked kernels take one row at a time",
        assumptions=(
            _BYTES_NOTE,
            "the rows have prompts of 8 to 28 tokens; a longer prefill is an extrapolation",
        ),
    ),
}

_DEVICES: Final = (
    _DevicePlan(
        name="snapdragon8gen3",
        description="Snapdragon 8 Gen 3 phones (OnePlus 12, Xiaomi 14), CPU",
        soc="Qualcomm Snapdragon 8 Gen 3 (SM8650)",
        engines=("executorch-xnnpack-4bit", "llamacpp-2024-4bit"),
    ),
    _DevicePlan(
        name="snapdragon8plusgen1",
        description="Snapdragon 8+ Gen 1 phones (Xiaomi 12S), CPU",
        soc="Qualcomm Snapdragon 8+ Gen 1 (SM8475)",
        engines=("llamacpp-2024-4bit",),
    ),
    _DevicePlan(
        name="tensor_g2",
        description="Google Pixel 7 and 7 Pro, CPU",
        soc="Google Tensor G2",
        engines=("llamacpp-2024-4bit",),
    ),
    _DevicePlan(
        name="tensor_g5",
        description="Google Pixel 10, CPU",
        soc="Google Tensor G5",
        engines=("executorch-xnnpack-4bit",),
        matmul_prior=_MatmulPrior(
            like_soc_id="snapdragon8gen3",
            scale=(3.78 + 5 * 3.05) / (3.3 + 3 * 3.15 + 2 * 2.96),
            reason=(
                "scaled by the clocks of big and middle cores added up, (3.78 + 5 x 3.05) over "
                "(3.3 + 3 x 3.15 + 2 x 2.96) GHz; both have one Cortex-X4 and five Cortex-A7xx"
            ),
        ),
    ),
)

_HOST: Final = DeviceProfile(
    name="host",
    description="The machine this runs on, really measured with ONNX Runtime; no model",
    soc="whatever this machine has; each measurement carries its fingerprint",
    processor="CPU",
    measured=True,
)


def make_profile(plan: _DevicePlan) -> DeviceProfile:
    """Fit all engines of one device."""
    engines = {name: _engine(plan, name) for name in plan.engines}
    return DeviceProfile(
        name=plan.name,
        description=plan.description,
        soc=plan.soc,
        processor="CPU",
        coverage=COVERAGE,
        hardware={
            f"{fact.category}: {fact.fact}": Fact(value=fact.value, source=fact.source)
            for fact in soc_facts(plan.name)
        },
        default_engine=plan.engines[0],
        engines=engines,
    )


def make_all() -> dict[str, DeviceProfile]:
    """All shipped profiles, by name."""
    return {plan.name: make_profile(plan) for plan in _DEVICES} | {"host": _HOST}


def speed_rows(soc_id: str, engine: str) -> list[SpeedRow]:
    """The carried rows of one engine on one chip that are in its fit."""
    shapes = model_shapes()
    return [
        SpeedRow(
            id=speed.id,
            candidate=shapes[speed.model_id].candidate,
            block_size=speed.block_size,
            prompt_tokens=speed.prompt_tokens,
            generate_tokens=speed.generate_tokens,
            prefill_tokens_per_s=speed.prefill_tokens_per_s,
            decode_tokens_per_s=speed.decode_tokens_per_s,
        )
        for speed in published_speeds()
        if (speed.soc_id, speed.engine) == (soc_id, engine) and not speed.left_out_because
    ]


def _priors(plan: _DevicePlan, engine: str) -> Priors:
    how = _ENGINES[engine]
    matmul = None
    if plan.matmul_prior is not None:
        like = fit_engine(
            speed_rows(plan.matmul_prior.like_soc_id, engine),
            Priors(attention_share=how.attention_share, matmul_tile_rows=how.tile_rows),
            weight_bits=4,
        )
        matmul = like.rates.matmul_ops_per_s * plan.matmul_prior.scale
    return Priors(
        attention_share=how.attention_share,
        matmul_tile_rows=how.tile_rows,
        matmul_ops_per_s=matmul,
    )


def _engine(plan: _DevicePlan, name: str) -> Engine:
    how = _ENGINES[name]
    fit = fit_engine(speed_rows(plan.name, name), _priors(plan, name), weight_bits=4)
    fitted = (
        f"fit on {len(fit.decode.rows)} decode"
        f"{f' and {len(fit.prefill.rows)} prefill' if fit.prefill else ''} speeds of "
        f"{fit.decode.num_models} architectures; rows listed below"
    )
    prior = plan.matmul_prior
    if prior is None:
        matmul_source = fitted
    else:
        matmul_source = (
            f"prior: that of {prior.like_soc_id} with the same engine, {prior.reason}; no "
            "prefill of this chip is published"
        )
    known = fit.rates
    return Engine(
        description=how.description,
        weight_bits=4,
        assumptions=how.assumptions,
        coefficients=Coefficients(
            memory_bandwidth_bytes_per_s=_number(known.memory_bandwidth_bytes_per_s, fitted),
            seconds_per_call=_number(known.seconds_per_call, fitted),
            matmul_ops_per_s=_number(known.matmul_ops_per_s, matmul_source),
            attention_ops_per_s=_number(known.attention_ops_per_s, how.attention_source),
            matmul_tile_rows=_number(how.tile_rows, how.tile_source),
        ),
        decode=_accuracy(fit, fit.decode),
        prefill=_prefill_accuracy(fit),
    )


def _prefill_accuracy(fit: EngineFit) -> Accuracy:
    if fit.prefill is not None:
        return _accuracy(fit, fit.prefill)
    return Accuracy(
        basis="prior",
        num_models=0,
        rows=(),
        median_error=None,
        kendall_tau=None,
        interval_log_half_width=_rounded(_PRIOR_LOG_HALF_WIDTH),
        source="assumption: a rate scaled from another chip is right to within a factor of 2",
    )


def _accuracy(fit: EngineFit, error: PhaseError) -> Accuracy:
    is_prefill = error is fit.prefill
    source = (
        "each architecture predicted by a fit without it; interval: Student's t times the root "
        "mean square of those log errors"
    )
    if is_prefill and borrows_decode_error(fit):
        source += (
            f"; with {error.num_models} architectures the spread between architectures cannot "
            "be seen, so the interval is that of decode"
        )
    width = interval_log_half_width(fit, "prefill" if is_prefill else "decode", coverage=COVERAGE)
    return Accuracy(
        basis="fit",
        num_models=error.num_models,
        rows=error.rows,
        median_error=_rounded(error.median_error),
        kendall_tau=None if error.kendall_tau is None else _rounded(error.kendall_tau),
        interval_log_half_width=_rounded(width),
        source=source,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _number(value: float, source: str) -> Number:
    return Number(value=_rounded(value), source=source)


def _content(profile: DeviceProfile) -> dict[str, Any]:
    content = asdict(profile)
    del content["sha256"]
    return {key: value for key, value in content.items() if value not in (None, {})}


def write_profiles(folder: Path) -> list[Path]:
    """Write every profile to `folder`; the paths written."""
    paths = []
    for name, profile in make_all().items():
        path = folder / f"{name}.yaml"
        files.write_yaml(path, _content(profile), header=_HEADER)
        paths.append(path)
    return paths


def differing_profiles(folder: Path) -> list[str]:
    """Names of the files in `folder` that are not what `write_profiles` gives."""
    with tempfile.TemporaryDirectory() as fresh:
        made = {path.name: path.read_bytes() for path in write_profiles(Path(fresh))}
    present = {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
    return sorted(
        name for name in made.keys() | present.keys() if made.get(name) != present.get(name)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the profiles, or with `--check` compare them; exit code."""
    parser = argparse.ArgumentParser(prog="python -m phonesearch.device.make_profiles")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--folder", type=Path, help="where the profiles lie; shipped ones if left")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or catalog.catalog_dir("device_profiles")
    if not chosen.check:
        for path in write_profiles(folder):
            sys.stdout.write(f"wrote {path}\n")
        return 0
    differing = differing_profiles(folder)
    for name in differing:
        sys.stderr.write(f"{folder / name} is not what make_profiles gives; run it again\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
