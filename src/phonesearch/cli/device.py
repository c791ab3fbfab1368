"""`phonesearch device`: what is known of phones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phonesearch.cli import device_calibrate, device_fit, device_validate

if TYPE_CHECKING:
    from phonesearch.device.profile import Accuracy

app = typer.Typer(no_args_is_help=True, help="Device profiles: what is known of phones.")
app.command(name="calibrate")(device_calibrate.calibrate)
app.command(name="fit")(device_fit.fit)
app.command(name="validate")(device_validate.validate)


@app.command(name="list")
def list_devices() -> None:
    """List the device profiles, their engines, and how far off each is.

    The error is the median over models that the fit had not seen. `prior` means that a
    coefficient comes from another chip, as the rows of this one cannot tell it, so that the
    interval is wide; alone, that no row stands behind it.
    """
    from phonesearch.device.profile import list_profiles

    for profile in list_profiles():
        also = f"; also {', '.join(profile.aliases)}" if profile.aliases else ""
        typer.echo(f"{profile.name:20} {profile.soc}{also}")
        if profile.measured:
            typer.echo(f"{'':20}   measured on this machine, nothing is predicted")
        for name, engine in profile.engines.items():
            mark = "*" if name == profile.default_engine else " "
            typer.echo(
                f"{'':20} {mark} {engine.processor} {name:29} decode: {_accuracy(engine.decode)}; "
                f"prefill: {_accuracy(engine.prefill)}"
            )
    typer.echo(
        "\n* default engine. `phonesearch device show NAME` tells where each number is from."
    )


def _accuracy(accuracy: Accuracy) -> str:
    if not accuracy.num_models:
        return "prior"
    error = "no error known"
    if accuracy.median_error is not None:
        error = f"{accuracy.median_error:.0%} off"
    plural = "s" * (accuracy.num_models != 1)
    prior = " and a prior" * (accuracy.basis == "prior")
    return f"{accuracy.num_models} model{plural}{prior}, {error}"


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a profile, or path to its YAML file.")],
) -> None:
    """Show a device profile: every number, and where it comes from."""
    from phonesearch import files
    from phonesearch.catalog import resolve
    from phonesearch.device.profile import read_profile

    path = resolve(name, "device_profiles")
    read_profile(str(path))  # a damaged file is an error, not a listing
    typer.echo(f"# {path}")
    typer.echo(files.read_text(path), nl=False)
