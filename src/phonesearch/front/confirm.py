"""Measures a predicted front: those candidates that may be on it, and no others.

Predictions for one machine are wrong together: all too fast, or all too slow. So the first
measurements tell how the rest have to be read, and only what may still be on the front by then is
measured next, until nothing is left that may.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from scipy import stats

from phonesearch.device.speed import SpeedObjective
from phonesearch.errors import ExportError, PhoneError, TimingError
from phonesearch.front.pareto import Front, Point, front
from phonesearch.study.folder import RunFolder
from phonesearch.study.measurements import Kept, keep_measurement, require_same_machine
from phonesearch.study.meter import Meter
from phonesearch.study.observer import RunObserver
from phonesearch.study.record import TrialRecord
from phonesearch.study.stopwatch import Turn
from phonesearch.study.store import read_records
from phonesearch.study.together import together
from phonesearch.timing.base import Measurement

FIRST: Final = 3
"""Measured before their errors are held to tell those of the others."""
_CONFIDENCE: Final = 0.9
_LEAST_LOG_SCATTER: Final = 0.02
"""Of measured over predicted; below the scatter of measurements themselves, three that happen to
agree would rule out too much."""


def confirm(folder: RunFolder, meter: Meter, *, observer: RunObserver) -> Front:
    """Measure what may be on the front of a finished search, from wherever that stands.

    Args:
        folder: Of the run; each measurement is kept in it at once.
        meter: The machine.
        observer: Told what is measured.

    Returns:
        The front of what was measured; what could not be measured is left out of it.

    Raises:
        RunFolderError: If a measurement cannot be kept, or there are some of another machine.
        PhoneSearchError: If the machine cannot be measured; what was measured is kept.
    """
    settings = folder.settings
    turn = Turn(prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens)
    require_same_machine(folder.path, meter.fingerprint)
    broken: set[int] = set()
    while True:
        records = [record for record in read_records(folder) if record.number not in broken]
        due = contenders(records, settings.speed)
        if not due:
            return front(records, settings.speed)
        by_number = {record.number: record for record in records}
        chosen = [by_number[number] for number in due[: meter.num_at_once]]
        numbers = ", ".join(str(record.number) for record in chosen)
        observer.say(
            f"Measuring trial{'s' * (len(chosen) > 1)} {numbers} on {meter.fingerprint}; "
            f"{len(due)} of {len(records)} may be on the front and are not measured"
        )

        def measured(record: TrialRecord) -> tuple[TrialRecord, Measurement | TimingError]:
            try:
                return record, meter.measure(record.candidate, turn, seed=settings.seed)
            except (ExportError, TimingError) as error:
                if isinstance(error, PhoneError) and not error.is_of_candidate:
                    raise
                return record, TimingError(str(error))

        with together(measured, chosen, at_once=meter.num_at_once, stop=meter.stop) as results:
            for record, found in results:
                if isinstance(found, TimingError):
                    broken.add(record.number)
                    observer.say(f"Trial {record.number} could not be measured: {found}")
                    continue
                keep_measurement(
                    folder.path,
                    Kept(number=record.number, candidate_id=record.candidate_id, measurement=found),
                )


def contenders(records: Sequence[TrialRecord], objective: SpeedObjective) -> tuple[int, ...]:
    """Trials that may be on the front and were not measured, the likeliest first.

    As long as fewer than `FIRST` are measured, these are the front of the predictions and, where
    that is shorter, those that come nearest to it. After that, a candidate may be on the front
    unless another of no higher loss is surely faster, with the predictions of what is not measured
    scaled by the median of measured over predicted, and with Student's t for the scatter of that.

    Args:
        records: Of one run.
        objective: Speed that is ranked by.
    """
    known = front([replace(record, measured=None) for record in records], objective)
    predicted = {point.number: point for point in known.ranked}
    measured = {
        record.number: record.measured.tokens_per_s(objective)[0]
        for record in records
        if record.measured is not None and record.number in predicted
    }
    waiting = [number for number in predicted if number not in measured]
    if len(measured) < FIRST:
        members = [point.number for point in known.members if point.number in waiting]
        others = [number for number in waiting if number not in members]
        others.sort(key=lambda number: _behind(predicted[number], known.members))
        return tuple([*members, *others][: FIRST - len(measured)])
    scale, half_width = _error(predicted, measured)

    def low(number: int) -> float:
        if number in measured:
            return measured[number]
        return predicted[number].speed_tokens_per_s * scale * math.exp(-half_width)

    def high(number: int) -> float:
        if number in measured:
            return measured[number]
        return predicted[number].speed_tokens_per_s * scale * math.exp(half_width)

    def may_be(number: int) -> bool:
        return not any(
            other != number
            and predicted[other].log_loss <= predicted[number].log_loss
            and low(other) > high(number)
            for other in predicted
        )

    return tuple(
        sorted(
            (number for number in waiting if may_be(number)),
            key=lambda number: (_behind(predicted[number], known.members), number),
        )
    )


def _error(predicted: dict[int, Point], measured: dict[int, float]) -> tuple[float, float]:
    """Median of measured over predicted, and the half width of a new one around it, in logs."""
    logs = [
        math.log(value / predicted[number].speed_tokens_per_s) for number, value in measured.items()
    ]
    middle = statistics.median(logs)
    count = len(logs)
    scatter = math.sqrt(sum((log - middle) ** 2 for log in logs) / (count - 1))
    t = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1))
    width = t * max(scatter, _LEAST_LOG_SCATTER) * math.sqrt(1 + 1 / count)
    return math.exp(middle), width


def _behind(point: Point, members: Sequence[Point]) -> float:
    """How much faster, in logs, a member of no higher loss is at most; 0 for members."""
    return max(
        (
            math.log(member.speed_tokens_per_s / point.speed_tokens_per_s)
            for member in members
            if member.log_loss <= point.log_loss
        ),
        default=0.0,
    )
