"""How much of the plane of speed and loss the candidates found so far cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phonesearch.device.speed import SpeedObjective
from phonesearch.front.pareto import Point, front, non_dominated
from phonesearch.study.record import TrialRecord

_MARGIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The corner from which area is counted: slower and worse than what counts at all."""

    speed_tokens_per_s: float
    log_loss: float
    """Relative, as `Score.log_loss`."""


def default_reference(
    records: Sequence[TrialRecord], objective: SpeedObjective
) -> Reference | None:
    """The slowest speed and highest loss of all ranked trials, 10 % of the range further out.

    Without a margin the two ends of the front would count for nothing. Where all trials are
    equal in an objective, the corner is 1 % of its value further out. The corner depends on the
    trials, so hypervolumes of two runs compare only at one given `Reference`, and only where both
    were judged by the same model.

    Returns:
        The corner, or None when no trial is ranked.
    """
    ranked = front(records, objective).ranked
    if not ranked:
        return None
    logs = [math.log(point.speed_tokens_per_s) for point in ranked]
    losses = [point.log_loss for point in ranked]
    log_range = (max(logs) - min(logs)) or 0.1
    loss_range = (max(losses) - min(losses)) or 0.1
    return Reference(
        speed_tokens_per_s=math.exp(min(logs) - _MARGIN * log_range),
        log_loss=max(losses) + _MARGIN * loss_range,
    )


def hypervolume(points: Sequence[Point], reference: Reference) -> float:
    """Area that `points` dominate, down to `reference`.

    Counted in natural logarithm of speed times that of loss, so that twice as fast is worth the
    same on every device. Points beyond the corner count for nothing.
    """
    area, lowest = 0.0, reference.log_loss
    for point in non_dominated(points):
        width = math.log(point.speed_tokens_per_s / reference.speed_tokens_per_s)
        if width > 0 and point.log_loss < lowest:
            area += width * (lowest - point.log_loss)
            lowest = point.log_loss
    return area


def hypervolume_history(
    records: Sequence[TrialRecord],
    objective: SpeedObjective,
    *,
    reference: Reference | None = None,
) -> tuple[float, ...]:
    """Hypervolume after each trial, in the order of trial numbers.

    Args:
        records: Trials of one run; those that are not ranked add nothing but keep their place.
        objective: Which speed to rank by.
        reference: The corner; None takes `default_reference` of all `records`.

    Returns:
        One value a record, see `hypervolume` for the unit; zeros when no trial is ranked.
    """
    ordered = sorted(records, key=lambda record: record.number)
    corner = reference or default_reference(ordered, objective)
    if corner is None:
        return (0.0,) * len(ordered)
    points = {point.number: point for point in front(ordered, objective).ranked}
    found: tuple[Point, ...] = ()
    history = []
    for record in ordered:
        if record.number in points:
            found = non_dominated((*found, points[record.number]))
        history.append(hypervolume(found, corner))
    return tuple(history)
