"""`phonesearch device fit`: a profile from the speeds of whole models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.device.fit import PhaseError
    from phonesearch.device.fit_table import TableFit


def fit(
    table: Annotated[
        Path, typer.Option("--from", help="CSV table of speeds, one row a published figure.")
    ],
    device: Annotated[
        str, typer.Option(help="Rows of which device: its `soc_id`, or its name in the table.")
    ],
    engine: Annotated[
        str, typer.Option(help="Which engine, as `device list` names it, or NAME-4bit of your own.")
    ],
    configs: Annotated[
        Path | None,
        typer.Option(help="CSV table of the models' shapes; default: those that ship."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the profile goes; default: DEVICE.yaml here.")
    ] = None,
) -> None:
    """Fit a device profile from whole-model speeds, and say how wrong it is on unseen models.

    Each model is predicted by a fit that has not seen it.

    Example:

        phonesearch device fit --from speeds.csv --device tensor_g5
        --engine executorch-xnnpack-4bit --out my_pixel.yaml
    """
    from phonesearch import files
    from phonesearch.device.fit_table import fit_table
    from phonesearch.device.fitted import PROFILE_HEADER, profile_content
    from phonesearch.device.speed_table import carried_models, read_model_table, read_speed_table
    from phonesearch.errors import SettingsError

    target = out or Path(f"{device}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"`--out` must end in .yaml, got {target}.")
    if out is None and target.exists():
        raise SettingsError(
            f"{target} is there already. Name the file with `--out`, or move the old one away."
        )
    models = carried_models() if configs is None else read_model_table(configs)
    found = fit_table(read_speed_table(table), models, device=device, engine=engine)
    files.write_yaml(
        target,
        profile_content(found.profile),
        header=f"Made by `phonesearch device fit` from {table.name}.\n{PROFILE_HEADER}",
    )
    typer.echo(_text(found, engine))
    typer.echo(f"\n{target}  `phonesearch time CONFIG --device {target}` predicts with it")


def _text(found: TableFit, engine: str) -> str:
    coefficients = found.profile.engines[engine].fitted
    lines = [f"{engine} on {found.profile.name}; each model predicted by a fit without it:"]
    lines.append(_phase("decode", found.fit.decode))
    if found.fit.prefill is None:
        lines.append("prefill  no row has one; its rate is a prior")
    else:
        lines.append(_phase("prefill", found.fit.prefill))
    lines.append("")
    for name in ("memory_bandwidth_bytes_per_s", "seconds_per_call", "matmul_ops_per_s"):
        number = getattr(coefficients, name)
        lines.append(f"{name:30} {number.value:.4g}  {number.source}")
    if found.skipped:
        lines.append("\nRows not taken:")
        lines.extend(f"{count:>5}  {because}" for because, count in found.skipped.items())
    return "\n".join(lines)


def _phase(name: str, error: PhaseError) -> str:
    within = error.share_within(0.2)
    if error.median_error is None or within is None:
        return f"{name:8} one model in {len(error.rows)} rows: its error cannot be told"
    tau = "" if error.kendall_tau is None else f", Kendall tau {error.kendall_tau:.2f}"
    return (
        f"{name:8} {error.num_models} models in {len(error.rows)} rows: median error "
        f"{error.median_error:.1%}, {within:.0%} of rows within 20 %{tau}"
    )
