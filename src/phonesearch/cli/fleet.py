"""What `phonesearch run` does for a run with workers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.cli.console import Console
    from phonesearch.study.crew import Crew
    from phonesearch.study.deadline import Deadline
    from phonesearch.study.folder import RunFolder
    from phonesearch.study.prepare import Prepared
    from phonesearch.study.settings import RunSettings

_PANEL = "Several processes or machines"

Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Worker processes that evaluate candidates side by side, each with its share of the "
        "cores or a GPU; 0 for none here, as all are started elsewhere (`phonesearch worker`).",
        rich_help_panel=_PANEL,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Database that workers share, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE; "
        "better in the environment as PHONESEARCH_STORAGE, which the list of processes does not "
        "show. Default: a file in the run's folder.",
        rich_help_panel=_PANEL,
    ),
]
Study = Annotated[
    str | None,
    typer.Option(
        help="Name of the study in that database; default: that of the run's folder.",
        rich_help_panel=_PANEL,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster that places the workers: `auto`, `local` (made here for this run), or "
        "its address.",
        rich_help_panel=_PANEL,
    ),
]


def with_fleet(
    settings: RunSettings,
    path: Path,
    *,
    workers: int | None,
    storage: str | None,
    study: str | None,
    ray: str | None,
) -> RunSettings:
    """The settings with the workers that were asked for; as they are where none were.

    Raises:
        SettingsError: If the options do not go together.
        StorageError: If the storage is no URL.
    """
    if workers is None and storage is None and study is None and ray is None:
        return settings
    from phonesearch.study.settings import Fleet
    from phonesearch.study.storage import masked

    url = _known_url(storage)
    fleet = Fleet(
        workers=1 if workers is None else workers,
        storage=None if url is None else masked(url),
        study=study or path.resolve().name,
        ray=ray,
    )
    if ray is not None:
        from phonesearch.study.on_ray import check_ray

        check_ray(fleet)
    return replace(settings, fleet=fleet)


def with_other_fleet(folder: RunFolder, *, workers: int | None, storage: str | None) -> RunFolder:
    """The run to go on with, with another number of workers or a database that has moved.

    Raises:
        SettingsError: If it was begun without workers.
    """
    if workers is None and storage is None:
        return folder
    from phonesearch.errors import SettingsError
    from phonesearch.study.storage import masked

    fleet = folder.settings.fleet
    if fleet is None or (storage is not None and fleet.storage is None):
        raise SettingsError(
            f"The trials of {folder.path} are in its folder and not in a database that workers "
            "share. Go on with it as it was begun, or start a new run with --out."
        )
    if workers is not None:
        fleet = replace(fleet, workers=workers)
    if storage is not None:
        fleet = replace(fleet, storage=masked(_known_url(storage) or storage))
    return replace(folder, settings=replace(folder.settings, fleet=fleet))


def _known_url(storage: str | None) -> str | None:
    """Kept in the environment of this process, from where all that need it take it."""
    from phonesearch.study.storage import STORAGE_VARIABLE, complete_url

    url = complete_url(storage)
    if url is not None:
        os.environ[STORAGE_VARIABLE] = url
    return url


def search_with_workers(
    folder: RunFolder, prepared: Prepared, shown: Console, deadline: Deadline | None
) -> None:
    """Make the study, start the workers, and wait until it has all its trials, or time is over."""
    from phonesearch.cli.machine import opened_meter
    from phonesearch.study.coordinate import search_together, url_of
    from phonesearch.study.shared import fleet_of

    settings, fleet = folder.settings, fleet_of(folder.settings)
    machine = None
    if folder.profile.measured:
        # Not held: workers take it one after the other.
        with opened_meter(
            settings.device, cpus=settings.cpus, threads=settings.threads, say=shown.say
        ) as meter:
            machine = None if meter is None else meter.fingerprint
    url_of(folder)  # raises where the password is not known, before anything is begun
    shown.say(_described(folder))
    search_together(
        folder,
        prepared,
        observer=shown,
        make_crew=None if not fleet.workers else _crew,
        machine=machine,
        deadline=deadline,
    )


def _described(folder: RunFolder) -> str:
    from phonesearch.study.shared import fleet_of

    fleet = fleet_of(folder.settings)
    where = fleet.storage or "the folder of the run"
    if not fleet.workers:
        return f"Study {fleet.study!r} in {where}; waiting for workers started elsewhere"
    placed = "" if fleet.ray is None else f", placed by Ray ({fleet.ray})"
    return f"Study {fleet.study!r} in {where}, {fleet.workers} workers{placed}"


def _crew(folder: RunFolder, url: str) -> Crew:
    from phonesearch.study.crew import LocalCrew, gpus_for
    from phonesearch.study.shared import fleet_of

    fleet = fleet_of(folder.settings)
    num_gpus = gpus_for(folder.settings)
    if fleet.ray is not None:
        from phonesearch.study.on_ray import RayCrew

        return RayCrew(fleet, folder.path, url=url, on_gpus=num_gpus > 0)
    return LocalCrew(fleet.workers, folder.path, url=url, study=fleet.study, num_gpus=num_gpus)
