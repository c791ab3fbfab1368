"""Fits one engine of one device from a table of whole-model speeds, and makes its profile.

The tables are those of `device/speed_table.py`. A row is taken when it is of the device, of the
engine by the rules of `device/engine_match.py`, and of a model that a candidate can stand for;
every other row is counted with its reason. Rows that the package carries as left out, with a
reason, stay left out.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phonesearch.device.data import soc_facts
from phonesearch.device.device_plans import device_plan
from phonesearch.device.engine_match import carried_as, is_of_device, match_engine
from phonesearch.device.engine_plans import engine_plan
from phonesearch.device.fit import EngineFit, SpeedRow
from phonesearch.device.fitted import COVERAGE, Prior, fitted_engine
from phonesearch.device.make_profiles import SECOND_HAND_WEIGHT, calls_prior, matmul_prior
from phonesearch.device.profile import DeviceProfile, Engine, Fact, list_profiles
from phonesearch.device.speed_table import SpeedFigure, TableModel
from phonesearch.errors import ProfileError

_ENOUGH_ARCHITECTURES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """The rows of a table that a fit takes, and how many it does not."""

    rows: tuple[SpeedRow, ...]
    skipped: Mapping[str, int]
    """Reason to number of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFit:
    """A profile made from a table, with the fit behind it."""

    profile: DeviceProfile
    fit: EngineFit
    skipped: Mapping[str, int]
    """Reason to number of rows not taken."""


def rows_for_fit(
    figures: Sequence[SpeedFigure],
    models: Mapping[str, TableModel],
    *,
    device: str,
    engine: str,
) -> TableRows:
    """The rows of one engine on one device, as a fit takes them.

    Args:
        figures: Rows of a table of speeds.
        models: Shapes of their models, by `model_id`.
        device: `soc_id` of the rows, or their `device`, or another name of a shipped device.
        engine: Name as in the profiles, or as the table prints it.
    """
    skipped: Counter[str] = Counter()
    rows = []
    among = _shipped_engines(device)
    for figure in figures:
        because = _unfit(figure, models, device=device, engine=engine, among=among)
        candidate = models[figure.model_id].candidate if not because else None
        if candidate is None:
            skipped[because] += 1
            continue
        rows.append(
            SpeedRow(
                id=figure.id,
                candidate=candidate,
                block_size=figure.block_size,
                prompt_tokens=figure.prompt_tokens,
                generate_tokens=figure.generate_tokens,
                prefill_tokens_per_s=figure.prefill_tokens_per_s,
                decode_tokens_per_s=figure.decode_tokens_per_s,
                weight=SECOND_HAND_WEIGHT if figure.confidence == "C" else 1.0,
            )
        )
    return TableRows(rows=tuple(rows), skipped=dict(skipped.most_common()))


def fit_table(
    figures: Sequence[SpeedFigure],
    models: Mapping[str, TableModel],
    *,
    device: str,
    engine: str,
) -> TableFit:
    """Fit one engine of one device and make a profile that holds it.

    What the rows cannot tell is taken from where the shipped profile of the same device and
    engine takes it, or else from the median of the shipped profiles with that engine.

    Raises:
        ProfileError: If the engine's name has no width, rows are of too few architectures, or
            none has a prefill and no shipped profile has that engine.
    """
    plan = engine_plan(engine)
    taken = rows_for_fit(figures, models, device=device, engine=engine)
    if not taken.rows:
        reasons = "; ".join(f"{count} {why}" for why, count in taken.skipped.items())
        raise ProfileError(
            f"No row of the table is of device {device!r} and engine {engine!r}, of "
            f"{len(figures)} rows: {reasons}. Name the device as `soc_id` does."
        )
    decoded = {row.candidate for row in taken.rows if row.decode_tokens_per_s is not None}
    prefilled = any(row.prefill_tokens_per_s is not None for row in taken.rows)
    calls = matmul = None
    shipped = device_plan(device)
    if shipped is not None and engine in shipped.engines:
        calls, matmul = calls_prior(shipped, engine), matmul_prior(shipped, engine)
    if calls is None and len(decoded) < _ENOUGH_ARCHITECTURES:
        calls = _median_prior(engine, "seconds_per_call")
    if matmul is None and not prefilled:
        matmul = _median_prior(engine, "matmul_ops_per_s")
    found = fitted_engine(taken.rows, plan, matmul_ops_per_s=matmul, seconds_per_call=calls)
    facts = soc_facts(shipped.name if shipped else device)
    profile = DeviceProfile(
        name=shipped.name if shipped else device,
        aliases=shipped.aliases if shipped else (),
        description=f"{device}, fitted from a table of speeds",
        soc=shipped.soc if shipped else device,
        processor="CPU",
        coverage=COVERAGE,
        hardware={
            f"{fact.category}: {fact.fact}": Fact(value=fact.value, source=fact.source)
            for fact in facts
        },
        default_engine=engine,
        engines={engine: found.engine},
    )
    return TableFit(profile=profile, fit=found.fit, skipped=taken.skipped)


def _unfit(
    figure: SpeedFigure,
    models: Mapping[str, TableModel],
    *,
    device: str,
    engine: str,
    among: DeviceProfile,
) -> str:
    """Why a row is not taken; empty where it is."""
    plan = device_plan(device)
    names = (device,) if plan is None else (device, plan.name, *plan.aliases)
    if not is_of_device(figure, *names):
        return "of another device"
    if figure.engine != engine:
        matched = match_engine(figure, among)
        if matched.engine != engine:
            return f"of another engine or weight width than {engine}"
    model = models.get(figure.model_id)
    if model is None:
        return f"of a model that no table has ({figure.model_id})"
    if model.candidate is None:
        return f"of {figure.model_id}: {model.unknown_because}"
    if figure.decode_tokens_per_s is None and figure.prefill_tokens_per_s is None:
        return "without a speed"
    carried = carried_as(figure)
    return carried.left_out_because if carried is not None else ""


def _shipped_engines(device: str) -> DeviceProfile:
    """A profile with every engine that ships, for `match_engine` to choose from."""
    engines: dict[str, Engine] = {}
    for profile in list_profiles():
        engines |= profile.engines
    return DeviceProfile(
        name=device,
        description=device,
        soc=device,
        processor="CPU",
        default_engine=next(iter(engines)),
        engines=engines,
    )


def _median_prior(engine: str, coefficient: str) -> Prior | None:
    """Median of a coefficient over the shipped profiles that have the engine; None without."""
    values = [
        getattr(profile.engines[engine].fitted, coefficient).value
        for profile in list_profiles()
        if engine in profile.engines
    ]
    if not values:
        return None
    return Prior(
        value=statistics.median(values),
        source=(
            f"prior: median of the {len(values)} shipped profiles with {engine}, unscaled; the "
            "rows cannot tell it"
        ),
    )
