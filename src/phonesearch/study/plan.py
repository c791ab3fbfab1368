"""Fits the anchors of a run to the time that the user gives them, on this very machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneSearchError, ProxyError
from phonesearch.proxy.cache import is_cached
from phonesearch.proxy.corpus import Corpus, most_tokens, refuse_too_little
from phonesearch.proxy.recipe import training_device
from phonesearch.proxy.settings import ProxySettings, gpu_settings
from phonesearch.quality.features import feature_rows
from phonesearch.quality.model import Coefficients
from phonesearch.quality.update import Observations, observation_noise, update
from phonesearch.study.anchors import (
    TYPICAL_RELATIVE_NOISE,
    AnchorPool,
    anchor_pool,
    proxies_of,
)
from phonesearch.study.deadline import Deadline
from phonesearch.study.judge import make_judge
from phonesearch.study.observer import RunObserver
from phonesearch.study.prepare import Prepared
from phonesearch.study.settings import RunSettings
from phonesearch.study.workers import TrainingJob, proxy_pool
from phonesearch.units import format_count, format_seconds

DEFAULT_TIME_S: Final = 15 * 60.0
FEWEST_ANCHORS: Final = 12
FEWEST_IN_A_HURRY: Final = 6
"""Where the time of a whole run is short. One in four ends short of copying, so of two none may be
left, which was seen."""
MOST_ANCHORS: Final = 20
"""About 20 are enough for a regression on shape. Source: `phonesearch quality fit`, its table of
LiteTransformerSearch: from 20 to 40 anchors the share of pairs in order rises by 0 to 0.03."""
_MOST_TOKENS_FACTOR: Final = 2.0
"""Over the default, before proxies get larger instead."""
_SAMPLE_TOKENS: Final = 25_000
_SAMPLE_STEPS: Final = 100
"""What speed is measured over: so many tokens or steps, whichever is more."""
_SAMPLE_ANCHORS: Final = 8
"""Their speeds differ by half: by depth, and by how wide what they multiply is."""
_SUSTAINED: Final = 0.80
"""Share of the sampled speed that whole trainings keep. Source: two default runs on two cores of
a virtual machine, 2026-11-28: 12,300 and 12,800 tokens/s sampled, 14 and 12 anchors trained at
9,950 and 10,100."""
_SCORING_SHARE: Final = 1 / 3
"""Cost of scoring a token over that of training on it: forward alone, of forward and backward."""
_SPEED_EXPONENT: Final = 0.85
"""Tokens/s fall with that power of the proxy's size. Source: 6,100, 2,180 and 870 tokens/s at 1.0M,
3.1M and 9.9M parameters, one thread of an AMD EPYC, Muon, bf16 autocast."""
_SPARE: Final = 0.15
"""Share of the time that is left: for starting processes and the last, lone training, and for going
on with anchors that stopped short, at most an eighth of it (`study.anchors`)."""
_PAIRS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the anchors of a run will be."""

    num_anchors: int
    parameters: int
    tokens: int
    seconds: float
    """That they will take."""


def plan(
    settings: RunSettings,
    prepared: Prepared,
    *,
    time_s: float,
    must_fit: bool,
    observer: RunObserver,
    deadline: Deadline | None = None,
) -> RunSettings:
    """The settings with anchors that take about `time_s` here.

    Args:
        settings: What is asked; anchors, size and tokens are the most that a default run has.
        prepared: Space and corpus.
        time_s: For all anchors together.
        must_fit: Whether to refuse a time that is too short; else the fewest anchors take what
            they take, and the observer is told, or as many as are in the cache are used again.
        observer: Told what was chosen, and what certainty that buys.
        deadline: Where all of the run was given a time: what that leaves takes the place of
            `time_s`, few anchors are better than none, and where there is no time for any, losses
            are judged by published data alone.

    Returns:
        As given, where nothing is to be trained.

    Raises:
        ProxyError: If not even the fewest anchors of the default length fit.
    """
    if prepared.corpus is None:
        return settings
    judge = make_judge(settings)
    pool = anchor_pool(prepared.space, settings, judge)
    if not must_fit:
        there = _already_trained(pool, settings, prepared)
        if there:
            planned = replace(settings, num_anchors=there)
            observer.say(
                f"{there} anchors of this space and text were trained before and are used again; "
                f"--proxy-time plans anew. {_certainty(planned, prepared, pool.best(there))}"
            )
            return planned
    candidates = pool.best(settings.num_anchors)
    observer.say("Measuring how fast proxies train here")
    speed = _tokens_per_s(candidates, settings, prepared.corpus)
    fewest = FEWEST_ANCHORS
    if deadline is not None:
        time_s, fewest = deadline.anchors_s, FEWEST_IN_A_HURRY
    try:
        found = fit(settings.proxy, speed, jobs=settings.jobs, time_s=time_s, fewest=fewest)
    except ProxyError:
        if deadline is not None:
            observer.say(
                "There is no time for short trainings, so losses are judged by published data "
                "alone (--proxy prior)"
            )
            return replace(settings, scored_by="prior")
        if must_fit:
            raise
        found = fit(settings.proxy, speed, jobs=settings.jobs, time_s=math.inf, most=FEWEST_ANCHORS)
    planned = replace(
        settings,
        num_anchors=found.num_anchors,
        proxy=replace(settings.proxy, parameters=found.parameters, tokens=found.tokens),
    )
    observer.say(
        f"{speed:,.0f} tokens/s a process: {found.num_anchors} anchors of "
        f"{format_count(found.parameters)} parameters and {format_count(found.tokens)} tokens "
        f"each, about {format_seconds(found.seconds)}. "
        f"{_certainty(planned, prepared, candidates[: planned.num_anchors])}"
    )
    return planned


def _already_trained(pool: AnchorPool, settings: RunSettings, prepared: Prepared) -> int:
    """The most anchors that are all in the cache, by the recipe as it is; 0 for none."""
    assert prepared.corpus is not None
    for count in range(MOST_ANCHORS, FEWEST_ANCHORS - 1, -1):
        proxies = proxies_of(pool.best(count), settings)
        if len(proxies) == count and all(
            is_cached(prepared.trainings, proxy, prepared.corpus, settings.proxy)
            for proxy in proxies
        ):
            return count
    return 0


def for_this_machine(
    settings: RunSettings, prepared: Prepared, *, observer: RunObserver
) -> RunSettings:
    """The settings with the recipe of what trains here: larger and longer on a GPU.

    Args:
        settings: With the default recipe.
        prepared: Its corpus; the recipe is no longer than that allows.
        observer: Told if the recipe is another, and if it is cut.

    Raises:
        CorpusError: If the corpus is too small to be scored on.
        ProxyError: If a device was asked for that is not there.
    """
    corpus = prepared.corpus
    if corpus is None or training_device(settings.proxy).type != "cuda":
        return settings
    recipe = gpu_settings(settings.proxy)
    most = most_tokens(corpus)
    cut = ""
    if recipe.tokens > most:
        recipe = replace(recipe, tokens=_rounded(most))
        cut = "; the text is not enough for more, give more with --data"
    refuse_too_little(corpus, recipe)
    observer.say(
        f"Proxies train on a GPU: {format_count(recipe.parameters)} parameters and "
        f"{format_count(recipe.tokens)} tokens each{cut}"
    )
    return replace(settings, proxy=recipe)


def fit(
    proxy: ProxySettings,
    tokens_per_s: float,
    *,
    jobs: int,
    time_s: float,
    most: int = MOST_ANCHORS,
    fewest: int = FEWEST_ANCHORS,
) -> Plan:
    """The anchors that fill a time: first more of them, then longer, then larger.

    Fewer tokens than the default are never planned, as proxies then end before they begin to copy
    and cannot be used at all.

    Args:
        proxy: The recipe, of default size and length.
        tokens_per_s: Of one process, at that size.
        jobs: Processes side by side.
        time_s: For all.
        fewest: Anchors that are worth it.
        most: Anchors; with fewer than the usual number they are not made longer or larger.

    Raises:
        ProxyError: If the fewest anchors of that length do not fit.
    """
    scored = _SCORING_SHARE * proxy.validation_windows * proxy.context_length

    def seconds(count: int, factor: float, larger: float) -> float:
        tokens = proxy.tokens * factor * larger + scored
        rounds = math.ceil(count / jobs)
        slower = float(larger**_SPEED_EXPONENT)
        return rounds * tokens / tokens_per_s * slower / (1 - _SPARE)

    least = seconds(fewest, 1.0, 1.0)
    if least > time_s:
        raise ProxyError(
            f"{fewest} anchors take about {format_seconds(least)} here, and --proxy-time "
            f"is {format_seconds(time_s)}. Give them that time, or more --jobs; or search by "
            "published data alone, at once: --proxy prior."
        )
    counts = [count for count in range(fewest, most + 1) if seconds(count, 1.0, 1.0) <= time_s]
    count = counts[-1]
    factor = larger = 1.0
    if count == MOST_ANCHORS:
        factor = _largest(lambda value: seconds(count, value, 1.0), time_s, _MOST_TOKENS_FACTOR)
    if factor == _MOST_TOKENS_FACTOR:
        larger = _largest(lambda value: seconds(count, factor, value), time_s, 100.0)
    return Plan(
        num_anchors=count,
        parameters=_rounded(proxy.parameters * larger),
        tokens=_rounded(proxy.tokens * factor * larger),
        seconds=seconds(count, factor, larger),
    )


def _largest(cost: Callable[[float], float], limit: float, most: float) -> float:
    """The largest value from 1 to `most` whose cost is within the limit; cost grows."""
    if cost(most) <= limit:
        return most
    low, high = 1.0, most
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= limit else (low, middle)
    return low


def _rounded(value: float) -> int:
    """To two digits, downwards: a plan is no finer."""
    step = int(10 ** max(0, math.floor(math.log10(value)) - 1))
    return int(value // step) * step


def _tokens_per_s(candidates: Sequence[Candidate], settings: RunSettings, corpus: Corpus) -> float:
    """Of one process while all train, as expected from the first steps of some of the anchors."""
    proxy = settings.proxy
    steps = _SAMPLE_STEPS * proxy.batch_size * proxy.context_length
    sample = replace(proxy, tokens=max(_SAMPLE_TOKENS, steps), validation_windows=8)
    rates: list[float] = []
    first: dict[int, tuple[float, int]] = {}
    last: dict[int, tuple[float, int]] = {}

    def progress(number: int, tokens: int, total: int) -> None:
        first.setdefault(number, (time.monotonic(), tokens))
        last[number] = (time.monotonic(), tokens)

    count = max(_SAMPLE_ANCHORS, settings.jobs)
    step = max(1, len(candidates) // count)
    chosen = [candidates[place] for place in range(0, len(candidates), step)][:count]
    jobs = {
        number: TrainingJob(
            candidate=candidate,
            corpus=corpus,
            settings=sample,
            reference_parameters=settings.budget,
        )
        for number, candidate in enumerate(chosen)
    }
    with proxy_pool(settings.jobs) as pool:
        for number, outcome in pool.train(jobs, progress):
            if isinstance(outcome, PhoneSearchError):
                raise outcome
            spent = last[number][0] - first[number][0]
            seen = last[number][1] - first[number][1]
            rates.append(seen / spent if spent > 0 else outcome.tokens / outcome.seconds)
    # What counts is the time of all, so the mean of seconds a token.
    return _SUSTAINED / float(np.mean([1 / rate for rate in rates]))


def _certainty(settings: RunSettings, prepared: Prepared, candidates: Sequence[Candidate]) -> str:
    """What the anchors make of the differences of random candidates, root mean square."""
    judge = make_judge(settings)
    draws = np.random.default_rng(settings.seed).integers(len(prepared.space), size=2 * _PAIRS)
    drawn = [prepared.space.candidate(int(point)) for point in draws]
    rows = feature_rows(drawn, judge.model.training, judge.model.aspect)
    apart = rows[:_PAIRS] - rows[_PAIRS:]
    anchors = proxies_of(candidates, settings)
    seen = feature_rows(anchors, judge.short, judge.model.aspect)
    names = tuple(str(place) for place in range(len(seen)))
    residual_sd = judge.model.residual_sd
    after = update(
        judge.model.prior,
        Observations(
            rows=seen,
            log_losses=np.zeros(len(seen)),  # the deviations do not depend on them
            noise=observation_noise(
                seen, names, training_sd=TYPICAL_RELATIVE_NOISE, residual_sd=residual_sd
            ),
            recipes=("plan",) * len(seen),
            architectures=names,
        ),
    )

    def typical(beliefs: Coefficients) -> float:
        variances = np.einsum("ij,jk,ik->i", apart, beliefs.covariance, apart)
        return math.sqrt(float(variances.mean()) + 2 * residual_sd**2)

    return (
        "They bring the deviation of the difference between two candidates from "
        f"{typical(judge.model.prior):.1%} of loss to {typical(after):.1%} (typical, expected)"
    )
