"""`phonesearch export`: one candidate of a run, in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.study.record import TrialRecord


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[
        str,
        typer.Option(
            help="`hf`: a folder that transformers trains from. `onnx`: the int4 deployment "
            "package, with random weights, that onnxruntime-genai runs."
        ),
    ],
    trial: Annotated[int | None, typer.Option(min=0, help="Number of the trial.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The knee of the front.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The fastest of the front.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder; default: inside the run.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random weights.")] = 0,
) -> None:
    """Write one candidate of a run in full: for a trainer, or for a phone's runtime.

    Example:

        phonesearch export results/my-run --knee --to hf --out my-model
    """
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import open_folder
    from phonesearch.trainer_export.base import TARGETS, export_to

    if (trial is not None) + knee + fastest != 1:
        raise SettingsError("Give exactly one of --trial N, --knee and --fastest.")
    if to not in TARGETS:
        raise SettingsError(f"--to: must be one of {', '.join(TARGETS)}, got {to!r}.")
    folder = open_folder(run)
    record = _chosen(run, trial, knee=knee)
    target = out or folder.path / "exports" / f"{record.number}-{to}"
    written = export_to(to, record.candidate, target, seed=seed)
    typer.echo(f"trial {record.number} ({record.candidate_id}) is in {written}")


def _chosen(run: Path, trial: int | None, *, knee: bool) -> TrialRecord:
    from phonesearch.errors import SettingsError
    from phonesearch.front.pareto import front
    from phonesearch.study.folder import open_folder
    from phonesearch.study.store import read_records

    folder = open_folder(run)
    records = {record.number: record for record in read_records(folder)}
    if trial is None:
        found = front(tuple(records.values()), folder.settings.speed)
        trial = found.knee if knee else found.fastest
        if trial is None:
            raise SettingsError(
                f"The run {run} has no front yet. Go on with it: phonesearch run --resume {run}"
            )
    if trial not in records:
        raise SettingsError(
            f"--trial: {run} has no finished trial {trial}; it has "
            f"{', '.join(str(number) for number in records) or 'none'}."
        )
    return records[trial]
