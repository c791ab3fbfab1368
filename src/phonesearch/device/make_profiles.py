"""Fits the shipped device profiles from the carried rows, and writes their YAML.

python -m phonesearch.device.make_profiles           # writes device_profiles/*.yaml
python -m phonesearch.device.make_profiles --check   # fails if they differ from that
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from phonesearch import catalog, files
from phonesearch.device.data import model_shapes, published_speeds, soc_facts
from phonesearch.device.device_plans import DEVICE_PLANS, DevicePlan, Like
from phonesearch.device.engine_plans import engine_plan
from phonesearch.device.fit import Priors, SpeedRow, fit_engine
from phonesearch.device.fitted import (
    COVERAGE,
    PROFILE_HEADER,
    FittedEngine,
    Prior,
    fitted_engine,
    profile_content,
)
from phonesearch.device.profile import DeviceProfile, Fact

_HEADER: Final = f"""Made by `python -m phonesearch.device.make_profiles` from the rows in
src/phonesearch/device/data/; a test checks that it is what that command gives.
{PROFILE_HEADER}"""

SECOND_HAND_WEIGHT: Final = 0.5
"""Of a row of confidence C beside the others."""
_UNBOUNDED_OPS_PER_S: Final = 1e18
"""For a fit of decode alone, where attention is bound by its bytes."""

_MEASURED: Final = (
    DeviceProfile(
        name="host",
        description="The machine this runs on, really measured with ONNX Runtime; no model",
        soc="whatever this machine has; each measurement carries its fingerprint",
        processor="CPU",
        measured=True,
    ),
    DeviceProfile(
        name="adb",
        description="The phone that is plugged in, really measured with ONNX Runtime; no model",
        soc="whatever the phone has; each measurement carries its fingerprint",
        processor="CPU",
        measured=True,
    ),
)


def make_profile(plan: DevicePlan) -> DeviceProfile:
    """Fit all engines of one device."""
    return DeviceProfile(
        name=plan.name,
        aliases=plan.aliases,
        description=plan.description,
        soc=plan.soc,
        processor="CPU",
        coverage=COVERAGE,
        hardware={
            f"{fact.category}: {fact.fact}": Fact(value=fact.value, source=fact.source)
            for fact in soc_facts(plan.name)
        },
        default_engine=plan.engines[0],
        engines={name: shipped_fit(plan.name, name).engine for name in plan.engines},
    )


def make_all() -> dict[str, DeviceProfile]:
    """All shipped profiles, by name."""
    fitted = {plan.name: make_profile(plan) for plan in DEVICE_PLANS.values()}
    return fitted | {profile.name: profile for profile in _MEASURED}


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
            weight=SECOND_HAND_WEIGHT if speed.confidence == "C" else 1.0,
        )
        for speed in published_speeds()
        if (speed.soc_id, speed.engine) == (soc_id, engine) and not speed.left_out_because
    ]


@cache
def shipped_fit(device: str, engine: str) -> FittedEngine:
    """The fit behind one engine of a shipped profile, with its errors on models left out.

    Raises:
        KeyError: If no shipped device has that name.
        ProfileError: If the engine is not known, or has too few rows on that device.
    """
    plan = DEVICE_PLANS[device]
    return fitted_engine(
        speed_rows(device, engine),
        engine_plan(engine),
        matmul_ops_per_s=matmul_prior(plan, engine),
        seconds_per_call=calls_prior(plan, engine),
    )


def calls_prior(plan: DevicePlan, engine: str) -> Prior | None:
    """Seconds per call of a like chip, from its decode speeds, divided by the clocks' ratio."""
    like = plan.calls_like.get(engine)
    if like is None:
        return None
    how = engine_plan(like.engine)
    decoded = [row for row in speed_rows(like.soc_id, like.engine) if row.decode_tokens_per_s]
    found = fit_engine(
        decoded,
        Priors(
            attention_share=how.attention_share,
            matmul_tile_rows=how.tile_rows,
            matmul_ops_per_s=_UNBOUNDED_OPS_PER_S,
        ),
        weight_bits=how.weight_bits,
    )
    return Prior(
        value=found.rates.seconds_per_call / like.scale,
        source=(
            f"prior: that of {like.soc_id} with {like.engine}, {like.reason}; the rows of this "
            "chip are too few or too alike in size to tell it"
        ),
    )


def matmul_prior(plan: DevicePlan, engine: str) -> Prior | None:
    """Matmul rate of a like chip, times the clocks' ratio, or a figure from the plan."""
    like = plan.matmul_like.get(engine)
    if like is None:
        return None
    if not isinstance(like, Like):
        return like
    found = shipped_fit(like.soc_id, like.engine).fit.rates.matmul_ops_per_s
    with_engine = "the same engine" if like.engine == engine else like.engine
    lacking = "engine" if like.soc_id == plan.name else "chip"
    return Prior(
        value=found * like.scale,
        source=(
            f"prior: that of {like.soc_id} with {with_engine}, {like.reason}; no prefill of "
            f"this {lacking} is published"
        ),
    )


def write_profiles(folder: Path) -> list[Path]:
    """Write every profile to `folder`; the paths written."""
    paths = []
    for name, profile in make_all().items():
        path = folder / f"{name}.yaml"
        files.write_yaml(path, profile_content(profile), header=_HEADER)
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
