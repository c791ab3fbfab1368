"""`phonesearch device`: what is known of phones."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Device profiles: what is known of phones.")
