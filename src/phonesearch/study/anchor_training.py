"""Trains what is not trained yet of the anchors of a run, and other short trainings of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.errors import PhoneSearchError
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.anchors import (
    CONTINUED,
    Anchor,
    choose,
    keep_anchor,
    num_architectures,
    read_anchors,
    require_enough,
    to_continue,
    usable,
)
from phonesearch.study.folder import RunFolder, locked
from phonesearch.study.judge import make_judge
from phonesearch.study.later import LaterTraining, keep_later
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.settings import RunSettings
from phonesearch.study.workers import ProxyPool, TrainingJob, proxy_pool

ANCHORS: Final = "anchors; all candidates are judged by them"
"""What short trainings before the search are for."""
CONTINUED_ANCHORS: Final = "anchors for longer; they had not learned to copy yet"


def anchors_due(folder: RunFolder) -> bool:
    """Whether the run judges by anchors and has not trained all that it is to train."""
    settings = folder.settings
    if settings.scored_by != "anchors":
        return False
    anchors = read_anchors(folder.path)
    return num_architectures(anchors) < settings.num_anchors or bool(to_continue(anchors, settings))


def train_anchors(
    folder: RunFolder, prepared: Prepared, pool: ProxyPool | None, observer: RunObserver
) -> tuple[ProxyLoss, ...]:
    """The losses of a run's anchors that may be ranked; what is missing is trained now.

    Args:
        folder: Of the run; each result is kept in it at once.
        prepared: Its space and corpus.
        pool: Where to train; None if nothing is due.
        observer: Told of every step.

    Raises:
        ProxyError: If too few can be used.
        RunFolderError: If a result cannot be kept.
    """
    settings = folder.settings
    if pool is not None and prepared.corpus is not None:
        chosen = choose(prepared.space, settings, make_judge(settings))
        done = {candidate_id(anchor.candidate) for anchor in read_anchors(folder.path)}
        due = {
            number: candidate
            for number, candidate in enumerate(chosen)
            if candidate_id(candidate) not in done
        }
        if due:
            observer.anchors(len(chosen), len(chosen) - len(due), ANCHORS)
        for _, anchor in short_trainings(
            due, settings, prepared.corpus, prepared.trainings, pool, observer
        ):
            keep_anchor(folder.path, anchor)
        longer = dict(enumerate(to_continue(read_anchors(folder.path), settings)))
        if longer:
            observer.anchors(len(longer), 0, CONTINUED_ANCHORS)
            for _, anchor in short_trainings(
                longer,
                settings,
                prepared.corpus,
                prepared.trainings,
                pool,
                observer,
                tokens=int(settings.proxy.tokens * CONTINUED),
            ):
                keep_anchor(folder.path, anchor)
    anchors = read_anchors(folder.path)
    require_enough(anchors, settings)
    return usable(anchors)


def short_trainings(
    due: Mapping[int, Candidate],
    settings: RunSettings,
    corpus: Corpus,
    trainings: Path,
    pool: ProxyPool,
    observer: RunObserver,
    *,
    tokens: int | None = None,
) -> Iterator[tuple[int, Anchor]]:
    """Trains proxies of the candidates, and yields each with its number as soon as it ends.

    The observer is told once the caller has kept it.

    Args:
        due: Candidates at full size, by any number.
        settings: Of the run.
        corpus: What proxies are trained on.
        trainings: Folder that they are kept in for all runs.
        pool: Where they are trained.
        observer: Told of every step; that they begin is for the caller to tell.
        tokens: To go on to, where that is more than the settings have.
    """
    jobs = {
        number: TrainingJob(
            candidate=candidate,
            corpus=corpus,
            settings=settings.proxy,
            reference_parameters=settings.budget,
            cache_dir=trainings,
            tokens=tokens,
        )
        for number, candidate in due.items()
    }
    for number, outcome in pool.train(jobs, observer.training_anchor):
        failed = isinstance(outcome, PhoneSearchError)
        anchor = Anchor(
            candidate=due[number],
            trained=None if failed else outcome,  # type: ignore[arg-type]
            reason=str(outcome) if failed else None,
        )
        yield number, anchor
        observer.anchor(number, anchor)


def train_later(
    folder: RunFolder,
    name: str,
    records: Sequence[TrialRecord],
    corpus: Corpus,
    *,
    done: Collection[int] = (),
    what: str,
    trainings: Path,
    jobs: int,
    observer: RunObserver,
    tokens: int | None = None,
) -> None:
    """Train proxies of finished trials after the search; each result is kept at once.

    Args:
        folder: Of the run.
        name: Of the file in it that results are kept in, see `later`.
        records: Finished trials.
        corpus: Made by the proxy settings of the run.
        done: Numbers of trials that are left out.
        what: As for `RunObserver.anchors`.
        trainings: Folder that short trainings are kept in for all runs.
        jobs: Trainings side by side.
        observer: Told of every step.
        tokens: As for `short_trainings`.

    Raises:
        RunFolderError: If another process works on the folder, or a result cannot be kept.
    """
    with locked(folder):
        due = {record.number: record.candidate for record in records if record.number not in done}
        if not due:
            return
        observer.anchors(len(records), len(records) - len(due), what)
        with proxy_pool(min(jobs, len(due))) as pool:
            for number, training in short_trainings(
                due, folder.settings, corpus, trainings, pool, observer, tokens=tokens
            ):
                keep_later(folder.path, name, LaterTraining(number=number, training=training))
