"""`phonesearch device`: what is known of phones."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Device profiles: what is known of phones.")


@app.command(name="list")
def list_devices() -> None:
    """List the device profiles, with their engines and how far off they are."""
    from phonesearch.device.profile import list_profiles

    for summary in list_profiles():
        typer.echo(summary)


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
