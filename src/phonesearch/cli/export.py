"""`phonesearch export`: candidates of a run, in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.front.pareto import Front
    from phonesearch.study.folder import RunFolder
    from phonesearch.study.record import TrialRecord


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[
        str,
        typer.Option(
            help="For trainers: `hf` (transformers), `litgpt`, `torchtitan`, `megatron`, "
            "`nanotron`, `axolotl`, `llama-factory`, each with a recipe for the final training. "
            "For runtimes: `onnx`, the int4 package that onnxruntime-genai runs; `gguf`, "
            "`gguf-q8_0`, `gguf-f32` for llama.cpp; `executorch`; with random "
            "weights, or those of --weights."
        ),
    ],
    trial: Annotated[int | None, typer.Option(min=0, help="Number of the trial.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The knee of the front.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The fastest of the front.")] = False,
    recommended: Annotated[
        bool, typer.Option("--recommended", help="The fastest that cannot be told from the best.")
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="All of the front, each in a folder of its own under --out."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder; default: inside the run.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a tokenizer to copy along, whose ids the vocabulary has room for; "
            "default: that of the run, if it was given one."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the trained model, as Hugging Face has it (config.json and "
            "safetensors): the weights of the package, in place of random ones."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random weights.")] = 0,
) -> None:
    """Write candidates of a run in full: for a trainer, or for a phone's runtime.

    What a target cannot express is refused by the name of the field, before anything is written.

    Examples:

        phonesearch export results/my-run --recommended --to hf --out my-model

        phonesearch export results/my-run --all --to hf --out my-models

        phonesearch export results/my-run --trial 7 --to onnx --weights my-model/trained
    """
    from phonesearch.cli.trials import of_trial
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import TOKENIZER_FOLDER, open_folder
    from phonesearch.trainer_export.base import TARGETS, export_to
    from phonesearch.trainer_export.checkpoint import read_checkpoint

    if (trial is not None) + knee + fastest + recommended + every != 1:
        raise SettingsError(
            "Give exactly one of --trial N, --recommended, --knee, --fastest and --all."
        )
    if every and weights is not None:
        raise SettingsError("--weights are of one candidate and cannot be given with --all.")
    if to not in TARGETS:
        raise SettingsError(f"--to: must be one of {', '.join(TARGETS)}, got {to!r}.")
    folder = open_folder(run)
    found, records = _front(folder)
    if every:
        chosen = [point.record for point in found.members]
    elif trial is not None:
        chosen = [of_trial(records, trial, run)]
    else:
        number = found.knee if knee else found.fastest if fastest else found.recommended
        chosen = [] if number is None else [records[number]]
    if not chosen:
        raise SettingsError(
            f"The run {run} has no front yet. Go on with it: phonesearch run --resume {run}"
        )
    own = folder.path / TOKENIZER_FOLDER
    taken_along = tokenizer or (own if own.is_dir() else None)

    def write(record: TrialRecord, target: Path) -> None:
        trained = None if weights is None else read_checkpoint(weights, record.candidate)
        written = export_to(
            to, record.candidate, target, weights=trained, seed=seed, tokenizer=taken_along
        )
        typer.echo(f"trial {record.number} ({record.candidate_id}) is in {written}")

    beside = folder.path / "exports"
    if not every:
        write(chosen[0], out or beside / f"{chosen[0].number}-{to}")
        return
    refused = _each(chosen, lambda record: write(record, (out or beside) / f"{record.number}-{to}"))
    if refused:
        typer.echo(f"{refused} of {len(chosen)} were not written", err=True)
        raise typer.Exit(code=1)


def _each(records: Sequence[TrialRecord], write: Callable[[TrialRecord], None]) -> int:
    """Write every one that can be; how many could not be, of which each was named."""
    from phonesearch.errors import PhoneSearchError

    refused = 0
    for record in records:
        try:
            write(record)
        except PhoneSearchError as error:
            refused += 1
            typer.echo(f"trial {record.number}: {error}", err=True)
    return refused


def _front(folder: RunFolder) -> tuple[Front, dict[int, TrialRecord]]:
    from phonesearch.front.pareto import front
    from phonesearch.study.store import read_records

    records = {record.number: record for record in read_records(folder)}
    return front(tuple(records.values()), folder.settings.speed), records
