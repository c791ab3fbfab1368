"""Scores: how they hang together, and what short trainings do to them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.shrink import shrink
from phonesearch.quality.model import difference
from phonesearch.study.judge import Judge, left_out, make_judge, score, scores_of_own
from phonesearch.study.score import Score, ScoreKind, difference_sd
from phonesearch.study.settings import RunSettings

BUDGET = 1_500_000_000
BASE = Candidate(
    vocab_size=49152,
    hidden_size=2048,
    intermediate_size=5504,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=128,
)
PLAIN = dataclasses.replace(BASE, ffn_type="plain", hidden_act="gelu", intermediate_size=8256)
DEEP = dataclasses.replace(BASE, num_hidden_layers=90, hidden_size=1152, intermediate_size=3072)


def settings(kind: ScoreKind = "anchors") -> RunSettings:
    return RunSettings(
        device="snapdragon8gen3",
        engine=None,
        space="decoder",
        budget=BUDGET,
        scored_by=kind,
        proxy=ProxySettings(),
    )


def trained(
    candidate: Candidate, bits_per_byte: float, *, standard_error: float = 0.02, passed: bool = True
) -> ProxyLoss:
    proxy = shrink(candidate, ProxySettings(), reference_parameters=BUDGET)
    return ProxyLoss(
        bits_per_byte=bits_per_byte,
        standard_error=standard_error,
        passed_transition=passed,
        copy_gap_nats=0.5,
        tokens=1000,
        seconds=1.0,
        proxy=as_dict(proxy),
        recipe={},
        curve=(),
    )


def difference_of(judge: Judge, one: Candidate, other: Candidate) -> float:
    return score(judge, one).log_loss - score(judge, other).log_loss


def test_the_parts_of_a_score_are_its_sum() -> None:
    judge = make_judge(settings(), [trained(BASE, 2.0), trained(PLAIN, 2.1)])
    for candidate in (BASE, PLAIN, DEEP):
        found = score(judge, candidate)
        assert found.log_loss == pytest.approx(found.law + found.prior + found.proxy)
    assert score(make_judge(settings("prior")), BASE).proxy == 0


def test_deviations_are_those_of_the_quality_model() -> None:
    judge = make_judge(settings(), [trained(BASE, 2.0), trained(PLAIN, 2.1)])
    for one, other in ((BASE, PLAIN), (BASE, DEEP)):
        expected = difference(judge.model, one, other)
        assert difference_of(judge, one, other) == pytest.approx(expected.mean)
        found = difference_sd(score(judge, one), score(judge, other))
        assert found == pytest.approx(expected.sd)
        assert found < math.hypot(score(judge, one).sd, score(judge, other).sd)


def test_a_training_moves_what_is_like_it_and_makes_it_surer() -> None:
    before = make_judge(settings())
    after = make_judge(settings(), [trained(BASE, 2.2), trained(PLAIN, 2.0)])
    silu_like = dataclasses.replace(BASE, num_key_value_heads=8)
    gelu_like = dataclasses.replace(PLAIN, num_key_value_heads=8)
    assert difference_of(after, silu_like, gelu_like) > difference_of(before, silu_like, gelu_like)
    wide, narrow = (
        difference_sd(score(judge, silu_like), score(judge, gelu_like)) for judge in (before, after)
    )
    assert narrow < wide


def test_a_training_that_must_not_be_ranked_moves_nothing() -> None:
    before = make_judge(settings())
    after = make_judge(settings(), [trained(BASE, 3.0, passed=False), trained(PLAIN, 2.0)])
    assert difference_of(after, BASE, PLAIN) == pytest.approx(difference_of(before, BASE, PLAIN))


def test_trainings_of_another_length_are_compared_among_themselves() -> None:
    """Two that went on for longer are lower by as much, whatever that is."""
    once = [trained(BASE, 2.2), trained(PLAIN, 2.0)]
    other = dataclasses.replace(BASE, num_key_value_heads=8)
    both = (trained(other, 1.9), trained(DEEP, 1.95))

    def judged(level: float) -> float:
        longer = [
            dataclasses.replace(
                loss,
                tokens=1500,
                bits_per_byte=loss.bits_per_byte * level,
                standard_error=loss.standard_error * level,
            )
            for loss in both
        ]
        return difference_of(make_judge(settings(), [*once, *longer]), BASE, other)

    assert judged(0.8) == pytest.approx(judged(1.0), abs=1e-9)
    alone = make_judge(settings(), [*once, dataclasses.replace(both[0], tokens=1500)])
    without = make_judge(settings(), once)
    assert difference_of(alone, BASE, other) == pytest.approx(difference_of(without, BASE, other))


def test_short_trainings_do_not_decide_on_depth() -> None:
    """The proxy of a deep candidate is as far from its own optimum: no loss can tell of depth."""
    before = make_judge(settings())
    after = make_judge(settings(), [trained(BASE, 2.0), trained(DEEP, 2.3)])
    moved = difference_of(after, DEEP, BASE) - difference_of(before, DEEP, BASE)
    assert moved < 0.2 * math.log(2.3 / 2.0)


def test_a_longer_horizon_favours_depth() -> None:
    def deep_minus_base(horizon: float) -> float:
        proxy = ProxySettings(horizon_tokens_per_parameter=horizon)
        judge = make_judge(dataclasses.replace(settings("prior"), proxy=proxy))
        return difference_of(judge, DEEP, BASE)

    assert deep_minus_base(700) < deep_minus_base(100) < deep_minus_base(20)


def test_anchors_are_left_out_one_by_one() -> None:
    losses = [trained(BASE, 2.0), trained(PLAIN, 2.1), trained(DEEP, 2.0, passed=False)]
    judge = make_judge(settings(), losses)
    errors = left_out(judge, losses)
    assert len(errors) == 2
    assert all(error.sd > 0 for error in errors)
    assert left_out(judge, losses[:1]) == ()


def own(*trainings: tuple[Candidate, ProxyLoss]) -> dict[int, Score]:
    return scores_of_own(make_judge(settings("each")), dict(enumerate(trainings)))


def test_a_training_of_its_own_is_corrected_for_what_the_budget_buys() -> None:
    """Two candidates whose proxies end alike: the one with fewer parameters has the smaller proxy,
    and the full-size difference in parameters is worth less than the small one's."""
    small = dataclasses.replace(BASE, intermediate_size=4096)
    base, less = own((BASE, trained(BASE, 2.0)), (small, trained(small, 2.0))).values()
    assert base.kind == "each"
    assert base.log_loss == pytest.approx(base.law + base.prior + base.proxy)
    assert abs(base.log_loss - less.log_loss) < 0.02
    assert np.isfinite(base.shared).all()


def test_a_training_of_its_own_says_more_of_the_candidate_than_of_one_alike() -> None:
    """And less than its face value, as most of what a training differs by is luck."""
    alike = dataclasses.replace(BASE, num_hidden_layers=30, hidden_size=2176)
    other = dataclasses.replace(BASE, num_key_value_heads=8)
    even = [(one, trained(one, 2.0)) for one in (BASE, other, PLAIN, alike)]
    worse = [(BASE, trained(BASE, 2.2)), *even[1:]]
    before, after = own(*even), own(*worse)
    moved = {number: after[number].log_loss - before[number].log_loss for number in before}
    assert 0 < moved[3] < moved[0] < 0.5 * math.log(2.2 / 2.0)
    assert after[0].own_sd < after[0].sd
    unlike = own(*worse[:3], (alike, trained(alike, 2.0, passed=False)))
    assert unlike[3].own_sd > after[3].own_sd


def test_trainings_of_the_past_are_judged_anew_by_later_ones() -> None:
    first = (BASE, trained(BASE, 2.0))
    alone = own(first)[0]
    assert alone.proxy == pytest.approx(0.0, abs=1e-9)  # a level alone says nothing
    assert own(first, (PLAIN, trained(PLAIN, 2.4)))[0].proxy < -1e-4


def test_candidates_of_one_proxy_share_one_training() -> None:
    """Counted twice, it would seem surer than it is."""
    twin = dataclasses.replace(BASE, max_position_embeddings=4096)
    pair = ((BASE, trained(BASE, 2.0)), (PLAIN, trained(PLAIN, 2.1)))
    thrice = own(*pair, (twin, pair[0][1]))
    assert thrice[0].log_loss == pytest.approx(own(*pair)[0].log_loss)
    assert thrice[0].sd == pytest.approx(own(*pair)[0].sd)


def test_a_longer_training_makes_its_candidate_surer_and_one_alone_tells_nothing() -> None:
    """The better of two after more tokens is believed to be better than it was."""
    trainings = {
        number: (one, trained(one, 2.0))
        for number, one in enumerate(
            (BASE, PLAIN, dataclasses.replace(BASE, num_key_value_heads=8))
        )
    }
    judge = make_judge(settings("each"))

    def after(candidate: Candidate, bits_per_byte: float, passed: bool = True) -> ProxyLoss:
        loss = trained(candidate, bits_per_byte, passed=passed)
        return dataclasses.replace(loss, tokens=2000)

    short = scores_of_own(judge, trainings)
    both = scores_of_own(judge, trainings, [after(BASE, 1.7), after(PLAIN, 1.9)])
    assert both[0].log_loss - both[1].log_loss < short[0].log_loss - short[1].log_loss - 1e-3
    assert both[0].own_sd < short[0].own_sd
    assert difference_sd(both[0], both[1]) < difference_sd(short[0], short[1])
    for useless in ([after(BASE, 1.7)], [after(BASE, 1.7), after(PLAIN, 1.9, passed=False)]):
        found = scores_of_own(judge, trainings, useless)
        assert [one.log_loss for one in found.values()] == pytest.approx(
            [one.log_loss for one in short.values()]
        )
