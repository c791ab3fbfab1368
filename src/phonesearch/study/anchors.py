"""Trains the anchors of a run, once: few architectures from which all are judged.

Each result is one line of `anchors.jsonl` in the run's folder as soon as it is there, so that a
run that was killed goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.errors import ProxyError
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.shrink import shrink
from phonesearch.proxy.uncertainty import SEED_STANDARD_DEVIATION_BITS_PER_BYTE
from phonesearch.quality.anchors import choose_anchors
from phonesearch.quality.features import feature_row
from phonesearch.quality.law import log_best_aspect
from phonesearch.space.grid import BudgetedSpace
from phonesearch.study.judge import Judge, comparable
from phonesearch.study.lines import keep_line, read_lines
from phonesearch.study.settings import RunSettings

ANCHORS_FILE: Final = "anchors.jsonl"
FEWEST_TO_JUDGE: Final = 6
"""Anchors that must be past the transition. Assumption: with fewer the leave-one-out errors, which
are all that tells whether to believe them, say nothing."""
CONTINUED: Final = 1.5
"""Times the tokens that anchors short of the transition are trained on to."""
_FEWEST_CONTINUED: Final = 2
_MOST_CONTINUED_SHARE: Final = 0.25
"""Of the anchors, so that going on takes no more than an eighth of the time planned for them."""
_POOL: Final = 1500
"""Points of the space that anchors are chosen from."""
_NEUTRAL: Final = 0.35
"""How far the log of a candidate's depth-to-width ratio may be from the best to be an anchor:
short training cannot tell depth, so depth is kept out of what it is asked."""
TYPICAL_RELATIVE_NOISE: Final = SEED_STANDARD_DEVIATION_BITS_PER_BYTE / 2.0
"""Of one training, at about 2 bits per byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One line of the file: an architecture of the space that was trained, or could not be."""

    candidate: Candidate
    """At full size. One that was gone on with has a line for each of its two lengths."""
    trained: ProxyLoss | None
    reason: str | None
    """Why it has no loss; None if it has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnchorPool:
    """Architectures that anchors are chosen from; no two have the same proxy."""

    entries: tuple[tuple[float, Candidate, Candidate], ...]
    """Distance from the neutral depth, candidate, its proxy; the nearest first."""
    judge: Judge

    def best(self, wanted: int) -> tuple[Candidate, ...]:
        """The architectures whose short trainings will tell most of all others.

        D-optimal over features of their proxies, among architectures of a neutral depth. Those of
        another number are others, not some of these.

        Args:
            wanted: How many; fewer where the space has no more.
        """
        neutral = [entry for entry in self.entries if entry[0] <= _NEUTRAL]
        entries = neutral if len(neutral) >= 4 * wanted else self.entries[: 4 * wanted]
        judge = self.judge
        rows = np.stack(
            [feature_row(proxy, judge.short, judge.model.aspect) for _, _, proxy in entries]
        )
        chosen = choose_anchors(
            rows,
            min(wanted, len(entries)),
            judge.model.prior.covariance,
            noise_sd=math.hypot(TYPICAL_RELATIVE_NOISE, judge.model.residual_sd),
        )
        return tuple(entries[place][1] for place in chosen)


def anchor_pool(space: BudgetedSpace, settings: RunSettings, judge: Judge) -> AnchorPool:
    """What the anchors of a run are chosen from, which takes seconds.

    Args:
        space: Of the run.
        settings: Seed, and what proxies are made by.
        judge: Before any training.

    Raises:
        ProxyError: If the space has not two different proxies.
    """
    draws = np.random.default_rng([settings.seed, 1]).permutation(len(space))[:_POOL]
    pool: dict[str, tuple[float, Candidate, Candidate]] = {}
    for point in draws:
        candidate = space.candidate(int(point))
        try:
            proxy = shrink(candidate, settings.proxy, reference_parameters=settings.budget)
        except ProxyError:
            continue  # too small a proxy for so wide a network; others stand for it
        pool.setdefault(candidate_id(proxy), (_off_best(candidate, judge), candidate, proxy))
    if len(pool) < 2:
        raise ProxyError(
            "The search space has fewer than two architectures that differ once they are scaled "
            "down, so anchors tell nothing. Use --proxy prior, or larger --proxy-parameters."
        )
    return AnchorPool(entries=tuple(sorted(pool.values(), key=lambda entry: entry[0])), judge=judge)


def choose(space: BudgetedSpace, settings: RunSettings, judge: Judge) -> tuple[Candidate, ...]:
    """The anchors of a run, see `AnchorPool.best`.

    Args:
        space: Of the run.
        settings: Number of anchors, seed, and what proxies are made by.
        judge: Before any training.

    Raises:
        ProxyError: If the space has not two different proxies.
    """
    return anchor_pool(space, settings, judge).best(settings.num_anchors)


def proxies_of(candidates: Sequence[Candidate], settings: RunSettings) -> list[Candidate]:
    """What is trained for each of the candidates."""
    return [shrink(one, settings.proxy, reference_parameters=settings.budget) for one in candidates]


def _off_best(candidate: Candidate, judge: Judge) -> float:
    best = log_best_aspect(
        judge.model.aspect,
        parameters=non_embedding_parameters(candidate),
        tokens=judge.model.training.tokens,
    )
    return abs(math.log(candidate.hidden_size / candidate.num_hidden_layers) - best)


def keep_anchor(folder: Path, anchor: Anchor) -> None:
    """Add a line, on the disk when this returns.

    Raises:
        RunFolderError: If it cannot be written.
    """
    keep_line(folder, ANCHORS_FILE, anchor)


def read_anchors(folder: Path) -> tuple[Anchor, ...]:
    """In the order in which they ended.

    Raises:
        InvalidFileError: If a line does not fit.
    """
    return tuple(read_lines(folder / ANCHORS_FILE, Anchor))


def num_architectures(anchors: Sequence[Anchor]) -> int:
    """How many there are, each once whatever was trained of it."""
    return len({candidate_id(anchor.candidate) for anchor in anchors})


def usable(anchors: Sequence[Anchor]) -> tuple[ProxyLoss, ...]:
    """The losses that tell something, see `judge.comparable`."""
    return comparable([anchor.trained for anchor in anchors if anchor.trained is not None])


def to_continue(anchors: Sequence[Anchor], settings: RunSettings) -> tuple[Candidate, ...]:
    """Which anchors to train on for longer, as they stopped short of the transition.

    Losses after more tokens have a level of their own, so one alone tells nothing: at least two,
    those nearest to the transition, and not more than a few for their time.

    Args:
        anchors: What was trained so far.
        settings: Of the run.
    """
    length = settings.proxy.tokens
    longer = {
        candidate_id(one.candidate)
        for one in anchors
        if one.trained and one.trained.tokens > length
    }
    short = [
        one
        for one in anchors
        if one.trained is not None
        and not one.trained.passed_transition
        and candidate_id(one.candidate) not in longer
    ]
    if len(short) + len(longer) < _FEWEST_CONTINUED:
        return ()
    most = max(_FEWEST_CONTINUED, int(_MOST_CONTINUED_SHARE * settings.num_anchors)) - len(longer)
    short.sort(key=lambda one: -one.trained.copy_gap_nats if one.trained else 0.0)
    return tuple(one.candidate for one in short[: max(most, 0)])


def require_enough(anchors: Sequence[Anchor], settings: RunSettings) -> None:
    """Make sure that the anchors are enough to judge by.

    Raises:
        ProxyError: If they are not.
    """
    count = len({candidate_id(Candidate(**loss.proxy)) for loss in usable(anchors)})
    if count >= min(FEWEST_TO_JUDGE, settings.num_anchors):
        return
    failed = [anchor.reason for anchor in anchors if anchor.reason is not None]
    why = f" First reason: {failed[0]}" if failed else ""
    raise ProxyError(
        f"Only {count} of {num_architectures(anchors)} anchors can be used; the others failed "
        f"({len(failed)}) or had not begun to copy from their context when training stopped, "
        "and must not be ranked. "
        f"Give them more --proxy-tokens, or search by published data alone: --proxy prior.{why}"
    )
