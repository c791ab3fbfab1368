"""`phonesearch space`: which architectures could be tried."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Search spaces: which architectures could be tried.")


@app.command(name="list")
def list_spaces() -> None:
    """List the search spaces that ship with phonesearch."""
    from phonesearch import files
    from phonesearch.catalog import names, resolve
    from phonesearch.space.schema import SearchSpace

    for name in names("search_spaces"):
        space = files.read(resolve(name, "search_spaces"), SearchSpace)
        typer.echo(f"{name:12}  {space.description}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a space, or path to its YAML file.")],
    budget: Annotated[
        str | None, typer.Option(help="Parameters, e.g. 1.5B: what is within reach of it.")
    ] = None,
    count: Annotated[str, typer.Option(help="`total` or `non-embedding`.")] = "total",
) -> None:
    """Show the axes of a search space, and how many architectures meet a budget."""
    from phonesearch import files
    from phonesearch.candidate.count import COUNTINGS
    from phonesearch.catalog import resolve
    from phonesearch.cli.options import one_of, parsed
    from phonesearch.space.grid import at_budget
    from phonesearch.space.schema import SearchSpace, axes
    from phonesearch.units import parse_count

    path = resolve(name, "search_spaces")
    space = files.read(path, SearchSpace)
    typer.echo(f"{space.name}: {space.description}\n{path}\n")
    for axis in axes(space):
        values = [str(value) for value in axis.values]
        if len(values) > 8:
            values = [*values[:3], "...", *values[-2:]]
        typer.echo(f"  {axis.name:32} {len(axis.values):>3}  {', '.join(values)}")
    if budget is None:
        typer.echo("\nhidden_size follows from the budget: see --budget.")
        return
    solved = at_budget(
        space, parsed("--budget", budget, parse_count), counting=one_of("--count", count, COUNTINGS)
    )
    widths = solved.solved[:, 0]
    typer.echo(
        f"\n{len(solved):,} architectures within 1 % of {budget} ({count}), "
        f"hidden_size {widths.min()} to {widths.max()}."
    )
