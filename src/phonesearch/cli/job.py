"""What `phonesearch run` does with its settings: a new run, or one that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from phonesearch.cli.console import Console
    from phonesearch.device.profile import DeviceProfile
    from phonesearch.space.schema import SearchSpace
    from phonesearch.study.deadline import Deadline
    from phonesearch.study.folder import RunFolder
    from phonesearch.study.meter import Meter
    from phonesearch.study.prepare import Prepared
    from phonesearch.study.settings import RunSettings
    from phonesearch.trainer_export.tokenizer import Tokenizer


def default_folder(settings: RunSettings) -> Path:
    """`results/DATE-DEVICE-BUDGET`."""
    from datetime import datetime

    from phonesearch.study.settings import without_serial
    from phonesearch.units import format_count

    now = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    budget = format_count(settings.budget).replace(" ", "")
    device = without_serial(settings.measure_on or Path(settings.device).stem).partition(",")[0]
    return Path("results") / f"{now}-{device}-{budget}"


def start(
    settings: RunSettings,
    path: Path,
    shown: Console,
    *,
    is_default_recipe: bool = False,
    proxy_time_s: float | None = None,
    must_fit: bool = False,
    tokenizer: Tokenizer | None = None,
    deadline: Deadline | None = None,
) -> None:
    """A new run, to its report.

    Args:
        settings: What is asked.
        path: Its folder, new or empty.
        shown: Where progress goes.
        is_default_recipe: Whether the recipe of proxies is for this machine to choose.
        proxy_time_s: Time that anchors are planned for; None where the settings say what to train.
        must_fit: Whether to refuse a time that is too short for any.
        tokenizer: Whose vocabulary all candidates have; None for that of the space.
        deadline: When all has to be over, where the settings give the run a time.
    """
    from dataclasses import replace

    from phonesearch import files
    from phonesearch.catalog import resolve
    from phonesearch.cli.machine import profile_of
    from phonesearch.device.profile import read_profile
    from phonesearch.space.schema import Numbers, SearchSpace
    from phonesearch.study.folder import check_new, create
    from phonesearch.study.plan import for_this_machine, plan

    space_file = resolve(settings.space, "search_spaces")
    device_file = resolve(profile_of(settings.device), "device_profiles")
    space, profile = files.read(space_file, SearchSpace), read_profile(str(device_file))
    if tokenizer is not None:
        size = tokenizer.vocab_size
        space = replace(space, vocab_size=Numbers(choices=(size,)))
        shown.say(f"Vocabulary of {size:,}: the tokenizer's {tokenizer.num_ids:,} ids, padded")
    check_new(path)
    with _told_how_to_go_on(path, shown), _opened(settings, profile, path, shown) as meter:
        prepared = _prepare(settings, space, profile, shown)
        if is_default_recipe:
            settings = for_this_machine(settings, prepared, observer=shown)
        if proxy_time_s is not None:
            settings = plan(
                settings,
                prepared,
                time_s=proxy_time_s,
                must_fit=must_fit,
                observer=shown,
                deadline=deadline,
            )
        folder = create(
            path,
            settings,
            space_file=space_file,
            device_file=device_file,
            vocab_size=None if tokenizer is None else tokenizer.vocab_size,
            tokenizer_files=() if tokenizer is None else tokenizer.files,
        )
        _search(folder, prepared, meter, shown, deadline)


def with_trials(folder: RunFolder, trials: int) -> RunFolder:
    """The run, asked for so many trials.

    Raises:
        SettingsError: If it was asked for more already.
    """
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import raise_trials

    if folder.settings.time_s is not None:
        raise SettingsError(
            "--trials: this run was given a time and no number of candidates; --resume with --time "
            "gives it more."
        )
    if trials < folder.settings.trials:
        raise SettingsError(
            f"--trials: this run was asked for {folder.settings.trials}, which can be raised, "
            f"not lowered to {trials}."
        )
    return raise_trials(folder, trials)


def with_time(folder: RunFolder, time_s: float) -> RunFolder:
    """The run, given so much time from now on.

    Raises:
        SettingsError: If it was asked for a number of candidates.
    """
    from dataclasses import replace

    from phonesearch.errors import SettingsError

    if folder.settings.time_s is None:
        raise SettingsError(
            f"--time: this run was asked for {folder.settings.trials} candidates and given no "
            "time; --trials raises that."
        )
    return replace(folder, settings=replace(folder.settings, time_s=time_s))


def deadline_of(settings: RunSettings) -> Deadline | None:
    """When a run that begins now has to end, if it was given a time."""
    from phonesearch.study.deadline import Deadline

    return None if settings.time_s is None else Deadline(time_s=settings.time_s)


def go_on(folder: RunFolder, shown: Console) -> None:
    """A run from wherever it stands, to its report."""
    from phonesearch.units import format_seconds

    with (
        _told_how_to_go_on(folder.path, shown),
        _opened(folder.settings, folder.profile, folder.path, shown) as meter,
    ):
        prepared = _prepare(folder.settings, folder.space, folder.profile, shown)
        deadline = deadline_of(folder.settings)
        if deadline is not None:
            shown.say(f"It gets {format_seconds(deadline.time_s)} from now on (--time)")
        _search(folder, prepared, meter, shown, deadline)


@contextmanager
def _told_how_to_go_on(path: Path, shown: Console) -> Iterator[None]:
    """Says so when a phone ends the block."""
    from phonesearch.errors import PhoneError

    try:
        yield
    except PhoneError:
        shown.close()
        if (path / "settings.yaml").is_file():
            told = (
                "The run stopped; what is finished is kept. Go on with: phonesearch run --resume "
                f"{path}"
            )
        else:
            told = "Nothing was begun: no folder was made. Type the same again once this is mended."
        typer.echo(told, err=True)
        raise


def _opened(
    settings: RunSettings, profile: DeviceProfile, path: Path, shown: Console
) -> AbstractContextManager[Meter | None]:
    """What measures, opened before all else: a phone that cannot be measured costs no hours."""
    from phonesearch.cli.machine import opened_meter

    device = settings.device if profile.measured else settings.measure_on
    if settings.fleet is not None and profile.measured:
        device = None  # workers measure, one after the other
    return opened_meter(
        device,
        folder=path,
        cpus=settings.cpus,
        threads=settings.threads,
        say=shown.say,
    )


def _prepare(
    settings: RunSettings, space: SearchSpace, profile: DeviceProfile, shown: Console
) -> Prepared:
    from phonesearch.cli.console import cache_dir
    from phonesearch.study.prepare import prepare

    return prepare(settings, space, profile, cache_dir=cache_dir(), observer=shown)


def _search(
    folder: RunFolder,
    prepared: Prepared,
    meter: Meter | None,
    shown: Console,
    deadline: Deadline | None,
) -> None:
    from phonesearch.cli.fleet import search_with_workers
    from phonesearch.cli.results import print_results
    from phonesearch.front.confirm import confirm
    from phonesearch.front.longer import train_longer
    from phonesearch.report.build import build
    from phonesearch.study.run import search
    from phonesearch.study.store import read_records

    shown.deadline = deadline
    shown.say(f"Results go to {folder.path}")
    settings = folder.settings
    after = settings.measure_on is not None
    if meter is not None and not after and meter.num_at_once > settings.jobs:
        shown.say(
            f"Candidates are drawn {settings.jobs} at a time, so {settings.jobs} of "
            f"{meter.num_at_once} phones are used at once; more --jobs would use more"
        )
    try:
        if settings.fleet is not None:
            search_with_workers(folder, prepared, shown, deadline)
        else:
            meters = None if after else meter
            search(folder, prepared, observer=shown, meter=meters, deadline=deadline)
        train_longer(folder, prepared, observer=shown, deadline=deadline)
        if meter is not None and after:
            confirm(folder, meter, observer=shown)
    except KeyboardInterrupt:
        shown.close()
        of_all = "" if settings.time_s is not None else f" of {settings.trials}"
        typer.echo(
            f"\nStopped with {len(read_records(folder))}{of_all} trials "
            f"finished. Go on with: phonesearch run --resume {folder.path}",
            err=True,
        )
        raise typer.Exit(code=130) from None
    shown.say("Writing the report")
    built = build(folder)
    shown.close()
    print_results(built)
