"""Which candidates no other one beats, and how sure that is.

Two objectives: speed up, expected log loss down. A candidate with a short training of its own that
has not learnt to copy from its context is never ranked: its loss says when copying sets in, not how
good the shape is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from phonesearch.device.speed import SpeedObjective
from phonesearch.errors import RunFolderError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import SCORE_KINDS, Score, ScoreKind, difference_sd


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One candidate in the plane of the two objectives."""

    record: TrialRecord
    speed_tokens_per_s: float
    """Of the run's speed objective; see `measured` for where it comes from."""
    speed_low: float
    """Low end of the interval, tokens/s."""
    speed_high: float
    """High end of the interval, tokens/s."""
    measured: bool
    """Whether the speed was measured; otherwise it is predicted."""
    log_loss: float
    """Relative; only differences mean anything, see `Score.log_loss`."""
    loss_sd: float
    """Of `log_loss` itself. Most of it may be shared with all others: compare two points by
    `loss_against`."""

    @property
    def number(self) -> int:
        """Number of the trial."""
        return self.record.number

    @property
    def score(self) -> Score:
        """Where `log_loss` comes from."""
        assert self.record.score is not None
        return self.record.score

    @property
    def proxy(self) -> ProxyLoss | None:
        """The candidate's own short training, if it had one."""
        return self.record.proxy

    @property
    def is_censored(self) -> bool:
        """Whether its own short training stopped before the copying transition."""
        return self.proxy is not None and not self.proxy.passed_transition


@dataclass(frozen=True, slots=True, kw_only=True)
class LossDifference:
    """How much higher the expected loss of one candidate is than that of another."""

    log_difference: float
    """Difference of the natural logs."""
    sd: float
    """Standard deviation of `log_difference`; what the two scores share cancels."""

    @property
    def fraction(self) -> float:
        """Share of the other's loss, below zero where the loss is lower."""
        return math.expm1(self.log_difference)

    @property
    def is_tie(self) -> bool:
        """Whether the two losses are within one standard deviation of their difference."""
        return abs(self.log_difference) <= self.sd


def loss_against(point: Point, other: Point) -> LossDifference:
    """The expected loss of `point` against that of `other`; no deviation against itself."""
    if point.number == other.number:
        return LossDifference(log_difference=0.0, sd=0.0)
    return score_against(point.score, other.score)


def score_against(one: Score, other: Score) -> LossDifference:
    """The expected loss of `one` against that of `other`, of two candidates.

    Scores that were not made alike do not share their errors in any known way, so nothing cancels.
    """
    alike = one.kind == other.kind and len(one.shared) == len(other.shared)
    return LossDifference(
        log_difference=one.log_loss - other.log_loss,
        sd=difference_sd(one, other) if alike else math.hypot(one.sd, other.sd),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """All candidates of a run, sorted by what can be said of them."""

    objective: SpeedObjective
    members: tuple[Point, ...]
    """Non-dominated, fastest first."""
    dominated: tuple[Point, ...]
    """At least one member is as good in both objectives and better in one; or predicted only,
    where others were measured because they may be on the front and this one may not. By number."""
    censored: tuple[Point, ...]
    """Own proxy not past the copying transition: shown apart, never ranked. By number."""
    infeasible: tuple[TrialRecord, ...]
    dropped: tuple[TrialRecord, ...]
    """Trainings that were given up, as they could not bring the candidate onto the front."""
    failed: tuple[TrialRecord, ...]
    knee: int | None
    """Trial number of the member farthest beyond the straight line between the two ends of
    the front, with log-speed and loss each scaled to 0..1 over the front. That is the member
    with the largest sum of the two scaled gains, so it is defined for fewer than three
    members too; between equals it is the one of lower loss. Where it is one of the two ends,
    the front has no bend. None when there are no members."""
    ties: tuple[tuple[int, int], ...]
    """Pairs of members whose losses differ by no more than one standard deviation of the
    difference, see `loss_against`: they cannot be told apart."""
    recommended: int | None
    """Trial number of the fastest member that is tied with the one of the lowest loss, or is it:
    of those that cannot be told from the best. None when there are no members."""
    near: tuple[int, ...]
    """Dominated trials that no member beats in loss by more than a tie, although as fast or
    faster: they may be on the front."""
    score_kinds: tuple[ScoreKind, ...]
    """What the losses of ranked candidates were judged by. Must be one for the losses to be
    comparable."""
    differing_recipe_fields: tuple[str, ...]
    """Fields of the proxy recipe that are not the same for all ranked candidates that have a
    proxy of their own. Must be empty for the losses to be comparable."""

    @property
    def fastest(self) -> int | None:
        """Trial number of the fastest member."""
        return self.members[0].number if self.members else None

    @property
    def best_loss(self) -> int | None:
        """Trial number of the member with the lowest loss."""
        return self.members[-1].number if self.members else None

    @property
    def best(self) -> Point | None:
        """The member with the lowest loss, which the loss of all others is given against."""
        return self.members[-1] if self.members else None

    @property
    def ranked(self) -> tuple[Point, ...]:
        """Members and dominated candidates, by number."""
        return tuple(sorted((*self.members, *self.dominated), key=lambda point: point.number))

    def tied_with(self, number: int) -> tuple[int, ...]:
        """Members whose loss cannot be told from that of member `number`."""
        return tuple(a if b == number else b for a, b in self.ties if number in (a, b))


def front(records: Sequence[TrialRecord], objective: SpeedObjective) -> Front:
    """Sort the candidates of a run into front, dominated, and those that are not ranked.

    Candidates equal in both objectives do not dominate each other. Where some were measured after
    a search by predictions, only those can be members: a prediction never beats a measurement.

    Args:
        records: Trials of one run, in any order.
        objective: Which speed to rank by; measured where a record has it, else predicted.

    Raises:
        RunFolderError: If a complete record lacks its speed or score, or one is not finite.
    """
    ordered = sorted(records, key=lambda record: record.number)
    points = [_point(record, objective) for record in ordered if record.state == "complete"]
    ranked = [point for point in points if not point.is_censored]
    members = non_dominated([point for point in ranked if point.measured] or ranked)
    on_front = {point.number for point in members}
    dominated = tuple(point for point in ranked if point.number not in on_front)
    return Front(
        objective=objective,
        members=members,
        dominated=dominated,
        censored=tuple(point for point in points if point.is_censored),
        infeasible=tuple(record for record in ordered if record.state == "infeasible"),
        dropped=tuple(record for record in ordered if record.state == "dropped"),
        failed=tuple(record for record in ordered if record.state == "failed"),
        knee=_knee(members),
        ties=tuple(
            (a.number, b.number) for a, b in itertools.combinations(members, 2) if not _differ(a, b)
        ),
        recommended=next(
            (member.number for member in members if not _differ(member, members[-1])), None
        ),
        near=tuple(
            point.number
            for point in dominated
            if not any(dominates(other, point) and _differ(other, point) for other in members)
        ),
        score_kinds=tuple(
            kind for kind in SCORE_KINDS if any(point.score.kind == kind for point in ranked)
        ),
        differing_recipe_fields=_differing_recipe_fields(ranked),
    )


def outstanding(found: Front, count: int, *, without: Collection[int] = ()) -> tuple[int, ...]:
    """Members that stand out, the recommended one first, then others spread over the front.

    Args:
        found: The front.
        count: The most of them.
        without: Numbers of members that are left out.
    """
    roles = (found.recommended, found.knee, found.fastest, found.best_loss)
    chosen = [number for number in dict.fromkeys(roles) if number is not None]
    members = [point.number for point in found.members]
    chosen = [number for number in chosen if number not in without][: max(count, 0)]
    others = [number for number in members if number not in chosen and number not in without]
    room = min(max(count - len(chosen), 0), len(others))
    step = len(others) / room if room else 0.0
    return (*chosen, *(others[int((place + 0.5) * step)] for place in range(room)))


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at least as good as `b` in both objectives and better in one."""
    at_least = a.speed_tokens_per_s >= b.speed_tokens_per_s and a.log_loss <= b.log_loss
    better = a.speed_tokens_per_s > b.speed_tokens_per_s or a.log_loss < b.log_loss
    return at_least and better


def non_dominated(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other one `dominates`, fastest first; equals are all kept."""
    ordered = sorted(
        points, key=lambda point: (-point.speed_tokens_per_s, point.log_loss, point.number)
    )
    kept: list[Point] = []
    lowest = math.inf
    for _, group in itertools.groupby(ordered, key=lambda point: point.speed_tokens_per_s):
        as_fast = list(group)
        best = as_fast[0].log_loss
        if best < lowest:
            kept.extend(point for point in as_fast if point.log_loss == best)
            lowest = best
    return tuple(kept)


def _point(record: TrialRecord, objective: SpeedObjective) -> Point:
    if record.speed is None or record.score is None:
        missing = "speed" if record.speed is None else "score"
        raise RunFolderError(
            f"Trial {record.number} is marked complete but has no {missing}; the records of this "
            "run are damaged. Start the run anew in another folder."
        )
    value, low, high = record.speed.tokens_per_s(objective)
    loss, sd = record.score.log_loss, record.score.sd
    if not (math.isfinite(value) and value > 0 and math.isfinite(loss) and math.isfinite(sd)):
        raise RunFolderError(
            f"Trial {record.number} is marked complete but cannot be ranked: speed and loss must "
            f"be finite and speed above zero, got {value} tokens/s and a log loss of {loss} with a "
            f"deviation of {sd}."
        )
    return Point(
        record=record,
        speed_tokens_per_s=value,
        speed_low=low,
        speed_high=high,
        measured=record.measured is not None,
        log_loss=loss,
        loss_sd=sd,
    )


def _differ(a: Point, b: Point) -> bool:
    return not loss_against(a, b).is_tie


def _knee(members: Sequence[Point]) -> int | None:
    """`members` run from fastest to lowest loss, so the ends are the ends of the chord."""
    if not members:
        return None
    first, last = members[0], members[-1]
    log_range = math.log(first.speed_tokens_per_s / last.speed_tokens_per_s) or 1.0
    loss_range = (first.log_loss - last.log_loss) or 1.0

    def gain(point: Point) -> float:
        speed = math.log(point.speed_tokens_per_s / last.speed_tokens_per_s) / log_range
        # Rounded so that the two ends, 1 + 0 and 0 + 1, come out equal.
        return round(speed + (first.log_loss - point.log_loss) / loss_range, 9)

    best = max(members, key=lambda point: (gain(point), -point.log_loss, -point.number))
    return best.number


def _differing_recipe_fields(points: Sequence[Point]) -> tuple[str, ...]:
    recipes = [point.proxy.recipe for point in points if point.proxy is not None]
    names = sorted({name for recipe in recipes for name in recipe})
    return tuple(
        name
        for name in names
        if any(recipe.get(name) != recipes[0].get(name) for recipe in recipes)
    )
