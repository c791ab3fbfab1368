"""`phonesearch worker`: one of many processes that evaluate the trials of a run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.candidate.config import Candidate
    from phonesearch.device.speed import Speed
    from phonesearch.study.anchors import Anchor
    from phonesearch.study.folder import RunFolder
    from phonesearch.study.meter import Meter
    from phonesearch.study.record import TrialRecord

_LINE_INTERVAL_S = 30.0


def worker(
    study: Annotated[
        str, typer.Option(help="Name of the study, which `phonesearch run` prints at its start.")
    ],
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of the database, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE. Better in "
            "the environment, as PHONESEARCH_STORAGE: options are seen in the list of processes."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads to train with; default: cores that it may use."),
    ] = None,
) -> None:
    """Evaluate trials of a run that `phonesearch run --storage URL` began, until it has them all.

    Can be started anywhere, any number of times, and killed at any moment: all it needs is in the
    database, and a trial whose worker dies is given to another.

    Example:

        PHONESEARCH_STORAGE=postgresql+psycopg://me:secret@host/search phonesearch worker --study S
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.errors import StorageError
    from phonesearch.study.joined import join, orphaned
    from phonesearch.study.storage import STORAGE_VARIABLE, complete_url
    from phonesearch.study.worker import StoppedError

    url = complete_url(storage)
    if url is None:
        raise StorageError(
            f"No database is named. Give its URL in {STORAGE_VARIABLE}, or with --storage."
        )
    told = Told()
    is_orphan = orphaned()
    shown = WorkerLog()
    shown.say(f"Joining study {study!r}")

    def should_stop() -> bool:
        return told.to_stop or is_orphan()

    try:
        finished = join(
            url,
            study,
            cache_dir=cache_dir(),
            num_threads=threads,
            open_meter=lambda folder, models: _meter(folder, models, shown.say, should_stop),
            should_stop=should_stop,
            observer=shown,
        )
    except (StoppedError, KeyboardInterrupt):
        shown.say("Stopped; what was in work waits for another worker")
        raise typer.Exit(code=130) from None
    shown.say(f"The study needs no more trials; {finished} of them are from here")


class Told:
    """Remembers that the process was told to end, so that it ends between two steps."""

    def __init__(self) -> None:
        self.to_stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: object) -> None:
        if self.to_stop:  # a second time: at once
            raise KeyboardInterrupt
        self.to_stop = True


def _meter(
    folder: RunFolder, models: Path, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> Meter | None:
    from phonesearch.cli.console import cache_dir
    from phonesearch.cli.phone_device import is_phone
    from phonesearch.cli.phone_turns import PhoneTurns
    from phonesearch.study.meter import HostMeter
    from phonesearch.study.workers import quiet_of

    settings = folder.settings
    if not folder.profile.measured:
        return None
    if is_phone(settings.device):
        return PhoneTurns(
            settings.device,
            cpus=settings.cpus,
            threads=settings.threads,
            say=say,
            should_stop=should_stop,
        )
    return HostMeter(folder=models, num_threads=settings.threads, quiet=quiet_of(cache_dir()))


class WorkerLog:
    """A `phonesearch.study.observer.RunObserver` that writes a line a trial."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def say(self, message: str) -> None:
        """One line, with the time of day."""
        typer.echo(f"{time.strftime('%H:%M:%S')}  {message}", err=True)

    def resumed(self, records: tuple[TrialRecord, ...], trials: int) -> None:
        """Nothing."""

    def wanted(self, trials: int) -> None:
        """Nothing."""

    def anchors(self, count: int, finished: int, what: str) -> None:
        """Nothing."""

    def training_anchor(self, number: int, tokens: int, total_tokens: int) -> None:
        """Nothing."""

    def anchor(self, number: int, anchor: Anchor) -> None:
        """Nothing."""

    def timed(self, trial: int, candidate: Candidate, speed: Speed) -> None:
        """That its training begins."""
        self._told_s = time.monotonic()
        self.say(f"trial {trial}: training the proxy")

    def training(self, trial: int, tokens: int, total_tokens: int) -> None:
        """Now and then how far it is."""
        if time.monotonic() - self._told_s > _LINE_INTERVAL_S:
            self._told_s = time.monotonic()
            self.say(f"trial {trial}: {tokens / total_tokens:.0%}")

    def finished(self, record: TrialRecord) -> None:
        """What became of it."""
        from phonesearch.cli.console import describe

        self.say(f"trial {record.number}: {describe(record, None)}")
