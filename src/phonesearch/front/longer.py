"""Trains members of a front on for longer, with what trainings that were given up have left.

The front is where certainty counts, and trainings of members differ by their luck. A second loss,
after more tokens, makes the score of each member surer, and counts for more of the others'
features too. It goes on from the first training, before its learning rate came down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from phonesearch.candidate.config import Candidate
from phonesearch.front.pareto import front, outstanding
from phonesearch.proxy.cache import forget_trunk
from phonesearch.proxy.corpus import Corpus, most_tokens
from phonesearch.study.anchor_training import train_later
from phonesearch.study.deadline import Deadline
from phonesearch.study.early import FEWEST_LONGER, LONGER, longer_s, num_longer
from phonesearch.study.folder import RunFolder
from phonesearch.study.later import LONGER_FILE, read_later
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared
from phonesearch.study.record import TrialRecord
from phonesearch.study.settings import RunSettings
from phonesearch.study.store import read_records
from phonesearch.units import format_count

MEMBERS: Final = "members of the front for longer; trainings that were given up left the time"


def train_longer(
    folder: RunFolder,
    prepared: Prepared,
    *,
    observer: RunObserver,
    deadline: Deadline | None = None,
) -> None:
    """Train members on, from wherever that stands; nothing where no training was given up.

    The front may change by it, so what is new on it is trained on as well, as far as the tokens go.

    Args:
        folder: Of a run whose search is over; each result is kept in it at once.
        prepared: Its corpus, and where trainings are kept.
        observer: Told of every step.
        deadline: When the run has to end, if it was given a time.

    Raises:
        RunFolderError: If another process works on the folder, or a result cannot be kept.
    """
    settings, corpus = folder.settings, prepared.corpus
    if corpus is None or settings.scored_by != "each" or not settings.early_stopping:
        return
    tokens = int(LONGER * settings.proxy.tokens)
    while True:
        records = read_records(folder)
        tried = {one.number for one in read_later(folder.path, LONGER_FILE)}
        due = wanting(records, settings, tried, most=_in_time(settings, records, deadline))
        if not due:
            break
        if most_tokens(corpus) < tokens:
            observer.say(
                f"The text is too short to train members of the front on to {format_count(tokens)} "
                "tokens; give more with --data"
            )
            break
        train_later(
            folder,
            LONGER_FILE,
            due,
            corpus,
            what=MEMBERS,
            trainings=prepared.trainings,
            jobs=settings.jobs,
            observer=observer,
            tokens=tokens,
        )
    _forget(records, prepared, corpus, settings)


def wanting(
    records: Sequence[TrialRecord],
    settings: RunSettings,
    tried: Collection[int],
    *,
    most: int | None = None,
) -> tuple[TrialRecord, ...]:
    """Members that the tokens suffice to train on, those that stand out first.

    Args:
        records: Of the run, judged by all that is known.
        settings: Of the run.
        tried: Numbers of those that were trained on.
        most: Where there is no time for more.
    """
    room = num_longer(settings, records) - len(tried)
    if most is not None:
        room = min(room, most)
    found = front(records, settings.speed)
    numbers = outstanding(found, room, without=tried)
    if not numbers or len(numbers) + len(tried) < FEWEST_LONGER:
        return ()
    by_number = {record.number: record for record in records}
    return tuple(by_number[number] for number in numbers)


def _in_time(
    settings: RunSettings, records: Sequence[TrialRecord], deadline: Deadline | None
) -> int | None:
    one_s = longer_s(settings, records)
    if deadline is None or one_s <= 0:
        return None
    return settings.jobs * max(0, int(deadline.left_s / one_s))


def _forget(
    records: Sequence[TrialRecord], prepared: Prepared, corpus: Corpus, settings: RunSettings
) -> None:
    """What nobody goes on from any more; states short of copying are kept as they always are."""
    for record in records:
        if record.proxy is not None and record.proxy.passed_transition:
            proxy = Candidate(**record.proxy.proxy)
            forget_trunk(prepared.trainings, proxy, corpus, settings.proxy)
