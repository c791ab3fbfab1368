"""The study's arithmetic, on truths that are made from the model itself."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from phonesearch.candidate.config import Candidate, as_dict
from phonesearch.candidate.count import non_embedding_parameters
from phonesearch.errors import QualityError
from phonesearch.quality.features import Training, feature_rows
from phonesearch.quality.lengths import across_lengths
from phonesearch.quality.model import prior_model
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.study import judge_study
from phonesearch.quality.study_table import StudyRow, read_study
from phonesearch.quality.terms import LENGTH_SCALE, TRANSFER_SCALE
from phonesearch.quality.transfer_fit import likeliest_length_scale, likeliest_transfer_scale
from phonesearch.quality.update import LENGTH_TRANSFER_SDS, SIZE_TRANSFER_SDS

SMALL = Candidate(
    vocab_size=1024,
    hidden_size=80,
    intermediate_size=224,
    num_hidden_layers=4,
    num_attention_heads=5,
    num_key_value_heads=1,
    head_dim=16,
)


def shapes() -> list[Candidate]:
    found = []
    for layers, width in ((4, 80), (7, 60), (2, 114)):
        for kind, act in (
            ("gated", "silu"),
            ("gated", "gelu"),
            ("plain", "gelu"),
            ("plain", "relu2"),
        ):
            for wide in (0.7, 1.0, 1.5):
                ratio = (2.75 if kind == "gated" else 4.0) * wide
                found.append(
                    dataclasses.replace(
                        SMALL,
                        num_hidden_layers=layers,
                        hidden_size=width,
                        intermediate_size=round(ratio * width),
                        ffn_type=kind,  # type: ignore[arg-type]
                        hidden_act=act,  # type: ignore[arg-type]
                    )
                )
    return found


def study(seed: int, *, noise: float = 0.004) -> list[StudyRow]:
    """Coefficients drawn from the prior decide both trainings, but for noise and for how far each
    moves from the short to the long one."""
    draw = np.random.default_rng(seed)
    tokens, size = 700_000, 280_000
    candidates = shapes()
    rows = []
    short, long = (
        Training(
            reference_parameters=size, tokens_per_parameter=times * tokens / size, is_short=True
        )
        for times in (1, 4)
    )
    prior = prior_model(shipped_law(), long)
    covariance = prior.prior.covariance + np.diag(SIZE_TRANSFER_SDS**2)
    coefficients = draw.multivariate_normal(prior.prior.mean, covariance)
    moved = draw.normal(0, 1, len(coefficients)) * LENGTH_TRANSFER_SDS
    own = draw.normal(0, prior.residual_sd, len(candidates))
    for times, training in ((1, short), (4, long)):
        worth = coefficients + (moved if times == 1 else 0)
        losses = feature_rows(candidates, training, prior.aspect) @ worth + own
        losses = losses + draw.normal(0, noise, len(losses))
        for place, (candidate, loss) in enumerate(zip(candidates, losses, strict=True)):
            rows.append(
                StudyRow(
                    name=str(place),
                    seed=0,
                    longer=times,
                    is_neutral=candidate.num_hidden_layers == 4,
                    tokens=times * tokens,
                    bits_per_byte=2 * math.exp(loss),
                    standard_error=2 * noise,
                    passed_transition=True,
                    parameters=non_embedding_parameters(candidate),
                    proxy=candidate,
                )
            )
    return rows


def test_where_the_model_is_true_it_ranks_best() -> None:
    results = [judge_study(study(seed)) for seed in range(8)]
    alone, prior, model, own = (
        float(np.mean([found.rankings[place].overall for found in results])) for place in range(4)
    )
    assert results[0].num_architectures == len(shapes())
    assert results[0].num_of_one_depth == len(shapes()) // 3
    assert model > 0.8
    assert model > prior
    assert model > alone
    assert own > model


def test_where_the_model_is_true_its_intervals_hold_what_they_should() -> None:
    results = [judge_study(study(seed)) for seed in range(12)]
    for place in (1, 2, 3):
        held = [found.rankings[place].held for found in results]
        assert 0.83 <= np.mean(held) <= 0.98, results[0].rankings[place].what  # type: ignore[arg-type]


def test_trainings_short_of_the_transition_are_not_used() -> None:
    rows = study(0)
    spoilt = [
        dataclasses.replace(row, passed_transition=False, bits_per_byte=9.0)
        if row.longer == 1 and int(row.name) % 5 == 0
        else row
        for row in rows
    ]
    found = judge_study(spoilt)
    assert found.num_passed == found.num_short - 8
    assert found.rankings[2].overall > 0.85


def test_an_order_of_the_text_that_is_better_for_all_changes_nothing() -> None:
    """A second seed for some architectures, its losses those of the first times a factor."""
    rows = study(3)
    twice = [row for row in rows if int(row.name) < 15]

    def with_second(factor: float) -> list[StudyRow]:
        second = [
            dataclasses.replace(
                row,
                seed=1,
                bits_per_byte=row.bits_per_byte * factor,
                standard_error=row.standard_error * factor,
            )
            for row in twice
        ]
        return [*rows, *second]

    alike, better = judge_study(with_second(1.0)), judge_study(with_second(0.9))
    for one, other in zip(alike.rankings, better.rankings, strict=True):
        assert one.overall == pytest.approx(other.overall, abs=1e-9)
        assert one.held == other.held
    assert alike.transfer_scale == better.transfer_scale
    assert alike.length_scale == better.length_scale
    assert better.seed_difference == pytest.approx(0, abs=1e-9)


def test_scatter_over_seeds_bounds_what_any_ranking_can_reach() -> None:
    """Truths as they would be without scatter, held against the truths with it."""
    quiet, loud = judge_study(study(0)), judge_study(study(0, noise=0.015))
    assert loud.ceiling < quiet.ceiling < 1
    rows = study(0, noise=0.0)
    exact = np.log([row.bits_per_byte for row in rows if row.longer == 4])
    scattered = exact + np.random.default_rng(1).normal(0, 0.02, (400, len(exact)))
    reached = np.mean([np.corrcoef(exact, one)[0, 1] for one in scattered])
    for one in scattered[:5]:
        made = [
            dataclasses.replace(
                row, bits_per_byte=math.exp(loss), standard_error=0.02 * math.exp(loss)
            )
            for row, loss in zip([r for r in rows if r.longer == 4], one, strict=True)
        ]
        short = [
            dataclasses.replace(row, standard_error=0.02 * row.bits_per_byte)
            for row in rows
            if row.longer == 1
        ]
        assert judge_study([*short, *made]).ceiling == pytest.approx(reached, abs=0.12)


def test_the_scales_that_made_the_losses_are_found_again() -> None:
    found = [likeliest_transfer_scale(study(seed)) for seed in range(12)]
    assert np.median(found) == pytest.approx(TRANSFER_SCALE, abs=2)
    found = [likeliest_length_scale(study(seed)) for seed in range(12)]
    assert np.median(found) == pytest.approx(LENGTH_SCALE, abs=1.5)


def test_the_shipped_scales_are_what_the_committed_study_says() -> None:
    table = Path(__file__).parents[2] / "docs" / "proxy" / "study.csv"
    rows = read_study(table, least_copy_gap_nats=0.4)
    assert likeliest_transfer_scale(rows) == pytest.approx(TRANSFER_SCALE, abs=0.5)
    assert likeliest_length_scale(rows) == pytest.approx(LENGTH_SCALE, abs=0.5)


def test_curves_tell_when_the_order_of_the_end_is_there() -> None:
    """Curves that are noise up to half of the training, and the end's own order after it."""
    draw = np.random.default_rng(0)
    rows = [
        dataclasses.replace(
            row,
            curve=tuple(
                (at * row.tokens // 10, row.bits_per_byte if at > 5 else draw.normal(3, 1))
                for at in range(1, 11)
            ),
        )
        for row in study(0)
    ]
    along = judge_study(rows).along
    assert [at.tokens for at in along] == [280_000 * times for times in range(1, 8)]
    assert all(abs(at.overall) < 0.6 for at in along[:5])
    assert all(at.overall == at.one_depth == 1 for at in along[5:])


def test_too_small_a_study_says_how_to_go_on() -> None:
    rows = [row for row in study(0) if int(row.name) < 3]
    with pytest.raises(QualityError, match=r"has 3 architectures.*proxy_study.py train"):
        judge_study(rows)


def test_a_damaged_table_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    proxy = json.dumps(as_dict(SMALL)).replace('"', '""')
    path.write_text(f'name,seed,proxy\na,0,"{proxy}"\n')
    with pytest.raises(QualityError, match=r"study.csv, line 2"):
        read_study(path, least_copy_gap_nats=0.4)


def test_every_length_is_held_against_every_longer_one() -> None:
    """A third length whose order is that of the longest turned round."""
    rows = study(1)
    long = [row for row in rows if row.longer == 4]
    turned = [
        dataclasses.replace(row, longer=2, tokens=1_400_000, bits_per_byte=4 / row.bits_per_byte)
        for row in long
    ]
    extra = dataclasses.replace(turned[0], name="in one length only")

    pairs = {
        (one.tokens, one.longer_tokens): one for one in across_lengths([*rows, *turned, extra])
    }

    assert set(pairs) == {(700_000, 1_400_000), (700_000, 2_800_000), (1_400_000, 2_800_000)}
    assert pairs[1_400_000, 2_800_000].overall == pytest.approx(-1)
    assert pairs[1_400_000, 2_800_000].num_architectures == len(shapes())
    first = pairs[700_000, 2_800_000]
    assert first.overall == pytest.approx(judge_study(rows).rankings[0].overall)
    assert first.one_depth == pytest.approx(judge_study(rows).rankings[0].one_depth)
    assert across_lengths(rows[:3]) == ()
