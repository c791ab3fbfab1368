"""`phonesearch check`: short trainings of candidates of the front, after the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.report.data import AnchorRow
    from phonesearch.study.folder import RunFolder

_MOST_UNASKED = 6


def check(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    trial: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Number of a trial to train; may be given several times. Default: the recommended "
            f"one and others of the front, {_MOST_UNASKED} in all.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trained side by side, one thread each; default: as in the run."),
    ] = None,
) -> None:
    """Train candidates of the front for a short while, to check what is expected of them.

    A run judges its candidates by laws, priors and short trainings of other architectures. This
    trains a few candidates by the recipe of those, holds each against what all the others lead one
    to expect, and adds the result to the report. Nothing is judged anew. What is trained is kept,
    so it may be stopped and called again.

    Example:

        phonesearch check results/my-run
    """
    from phonesearch.cli.console import cache_dir, console
    from phonesearch.cli.trials import of_trial
    from phonesearch.errors import SettingsError
    from phonesearch.front.pareto import front, outstanding
    from phonesearch.proxy.corpus import load_corpus
    from phonesearch.report.build import build
    from phonesearch.report.judged import checks_in_words
    from phonesearch.study.check import train_checks
    from phonesearch.study.folder import open_folder
    from phonesearch.study.store import read_records

    folder = open_folder(run)
    records = {record.number: record for record in read_records(folder)}
    found = front(tuple(records.values()), folder.settings.speed)
    numbers = trial or outstanding(found, _MOST_UNASKED)
    for number in numbers:
        of_trial(records, number, run)
    if not numbers:
        raise SettingsError(
            f"The run {run} has no front yet. Go on with it: phonesearch run --resume {run}"
        )
    with console() as shown:
        corpus = load_corpus(folder.settings.proxy, cache_dir=cache_dir(), progress=shown.say)
        try:
            train_checks(
                folder,
                [records[number] for number in dict.fromkeys(numbers)],
                corpus,
                trainings=cache_dir(),
                jobs=jobs or folder.settings.jobs,
                observer=shown,
            )
        except KeyboardInterrupt:
            shown.close()
            typer.echo(_stopped(folder, run), err=True)
            raise typer.Exit(code=130) from None
        shown.say("Writing the report")
        built = build(folder)
    assert built.quality is not None
    _print(built.quality.checks)
    typer.echo(f"\n{checks_in_words(built.quality)}\n\n{built.report}  open this one")


def _stopped(folder: RunFolder, run: Path) -> str:
    from phonesearch.study.check import read_checks

    return (
        f"\nStopped with {len(read_checks(folder.path))} candidates checked. Go on with: "
        f"phonesearch check {run}"
    )


def _print(rows: Sequence[AnchorRow]) -> None:
    typer.echo(f"{'bits/byte':>9}  {'off by':>8} {'+-':>6}")
    for row in rows:
        typer.echo(_line(row))


def _line(row: AnchorRow) -> str:
    from phonesearch.report.loss import format_percent

    if row.bits_per_byte is None:
        return f"{'':>9}  {'':>8} {'':>6}   {row.shape}: failed, {row.reason}"
    off = sd = ""
    if row.left_out_error is not None and row.left_out_sd is not None:
        off, sd = format_percent(row.left_out_error), f"{row.left_out_sd * 100:.1f} %"
    note = "" if row.passed else ": has not learned to copy yet, says nothing"
    return f"{row.bits_per_byte:>9.4f}  {off:>8} {sd:>6}   {row.shape}{note}"
