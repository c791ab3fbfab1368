"""The command line: parse, one call, print. Imports inside bodies keep `--help` fast."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from phonesearch import __version__
from phonesearch.cli import check, device, export, phone, quality, report, run, space, time, worker
from phonesearch.errors import PhoneSearchError


class Group(TyperGroup):
    """Prints a `PhoneSearchError` as one message on stderr and exits with code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what was expected to go wrong into a message."""
        try:
            return super().invoke(ctx)
        except PhoneSearchError as error:
            # Names of files and words of phones in it must not steer the terminal.
            shown = "".join(c if c.isprintable() or c == "\n" else " " for c in str(error))
            typer.echo(f"error: {shown}", err=True)
            raise typer.Exit(code=1) from error
        except KeyboardInterrupt as error:
            typer.echo("\nstopped", err=True)
            raise typer.Exit(code=130) from error


app = typer.Typer(
    name="phonesearch",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Search decoder-only transformer shapes for speed on a phone, **before** pre-training one."
        "\n\nStart with `phonesearch run --device snapdragon8gen3 --budget 1.5B`, then open the "
        "`report.html` that it prints. Times are *predicted* from a device profile unless the "
        "device is `host`, which is *measured*."
    ),
)
app.command(name="run")(run.run)
app.command(name="worker")(worker.worker)
app.command(name="time")(time.time)
app.command(name="report")(report.report)
app.command(name="check")(check.check)
app.command(name="export")(export.export)
app.add_typer(device.app, name="device")
app.add_typer(space.app, name="space")
app.add_typer(phone.app, name="phone")
app.add_typer(quality.app, name="quality")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"phonesearch {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
