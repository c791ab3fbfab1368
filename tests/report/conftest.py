"""Runs as the study leaves them: seeded records with plausible speeds and losses."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import pytest

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import (
    non_embedding_parameters,
    peak_memory_bytes,
    total_parameters,
    weight_bytes,
)
from phonesearch.device.speed import Span, Speed
from phonesearch.front.pareto import front
from phonesearch.proxy.result import ProxyLoss
from phonesearch.report.data import AnchorRow, KnownSpeed, QualityReport, ReportInput
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score, ScoreKind

HOSTILE = "</script><img src=x onerror=alert(1)> & \"quoted\" 'text' $x_1$"
"""What no page may let through."""


def span(value_s: float, low: float = 0.82, high: float = 1.24) -> Span:
    return Span(value_s=value_s, low_s=value_s * low, high_s=value_s * high)


def record(number: int, rng: random.Random) -> TrialRecord:
    """Deeper is slower and of lower loss; a little noise on both."""
    layers = rng.choice([12, 16, 20, 24, 28, 32, 36])
    hidden = 128 * round((1.5e9 / (11.5 * layers)) ** 0.5 / 128)
    gated = rng.random() < 0.6
    heads = rng.choice([12, 16, 24])
    shape = Candidate(
        vocab_size=rng.choice([32000, 49152]),
        hidden_size=hidden,
        intermediate_size=1,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // rng.choice([1, 2, 4]),
        head_dim=rng.choice([64, 128]),
        ffn_type="gated" if gated else "plain",
        hidden_act=rng.choice(["silu", "gelu"]) if gated else "relu2",
        tie_word_embeddings=rng.random() < 0.8,
    )
    per_width = total_parameters(dataclasses.replace(shape, intermediate_size=2))
    per_width -= total_parameters(shape)
    width = 32 * round((1.5e9 - total_parameters(shape)) / per_width / 32)
    candidate = dataclasses.replace(shape, intermediate_size=width)
    tpot_s = 0.0155 + 0.00022 * layers + rng.uniform(0, 0.0015)
    shares = {
        "ffn": 0.52,
        "attention projections": 0.21,
        "head": 0.12,
        "attention": 0.05,
        "norms and element-wise": 0.04,
        "dispatch": 0.05,
        "embedding": 0.01,
    }
    ttft_s = tpot_s * 128 / rng.uniform(3.0, 3.6)
    return TrialRecord(
        number=number,
        state="complete",
        reason=None,
        candidate=candidate,
        candidate_id=candidate_id(candidate),
        num_parameters=total_parameters(candidate),
        num_non_embedding_parameters=non_embedding_parameters(candidate),
        weight_bytes=weight_bytes(candidate, weight_bits=4),
        peak_memory_bytes=peak_memory_bytes(
            candidate, weight_bits=4, prompt_tokens=128, context_length=256
        ),
        predicted=Speed(
            prompt_tokens=128,
            generate_tokens=128,
            ttft=span(ttft_s),
            tpot=span(tpot_s),
            turn=span(ttft_s + 127 * tpot_s),
            coverage=0.9,
        ),
        measured=None,
        prefill_seconds_by_operator={name: ttft_s * share for name, share in shares.items()},
        decode_seconds_by_operator={name: tpot_s * share for name, share in shares.items()},
        score=None,
        proxy=ProxyLoss(
            bits_per_byte=2.05 - 0.0045 * layers + rng.uniform(0, 0.07),
            standard_error=rng.uniform(0.004, 0.008),
            passed_transition=True,
            copy_gap_nats=rng.uniform(0.1, 0.4),
            tokens=2_000_000,
            seconds=rng.uniform(30, 70),
            proxy={"hidden_size": 128, "num_hidden_layers": layers // 4},
            recipe={"tokens": 2_000_000, "seed": 0},
            curve=((0, 5.5), (1_000_000, 2.1), (2_000_000, 1.7)),
        ),
        started_at=f"2026-11-24T00:{number:02d}:00+00:00",
        seconds=rng.uniform(35, 80),
    )


def judged(record: TrialRecord, kind: ScoreKind) -> TrialRecord:
    """With a score of that kind, the law for the deeper and some luck for the rest."""
    proxy = record.proxy
    assert proxy is not None
    rng = random.Random(record.number)
    law = -0.004 * record.candidate.num_hidden_layers
    prior = rng.uniform(-0.02, 0.02)
    trained = {"prior": 0.0, "anchors": rng.uniform(-0.01, 0.01)}.get(
        kind, math.log(proxy.bits_per_byte)
    )
    score = Score(
        kind=kind,
        log_loss=law + prior + trained,
        law=law,
        prior=prior,
        proxy=trained,
        shared=(0.05, 0.03 * rng.random() if kind == "prior" else 0.012 * rng.random()),
        own_sd=0.005,
    )
    return dataclasses.replace(record, score=score, proxy=proxy if kind == "each" else None)


def rejudged(records: tuple[TrialRecord, ...], kind: ScoreKind) -> tuple[TrialRecord, ...]:
    """The same candidates in a run of another kind."""
    return tuple(judged(one, kind) if one.score is not None else one for one in records)


def quality_report(kind: ScoreKind) -> QualityReport:
    """As the study leaves it: two of sixteen anchors cannot be used."""
    rng = random.Random(3)
    rows = [
        AnchorRow(
            shape=f"plain relu2, feed-forward {2 + number / 4:.2f} x width, 8/{2 << number % 2}",
            bits_per_byte=rng.uniform(1.9, 2.1),
            standard_error=0.01,
            copy_gap_nats=0.01 if number == 9 else rng.uniform(0.2, 0.5),
            passed=number != 9,
            tokens=2_000_000,
            seconds=rng.uniform(30, 60),
            left_out_error=None if number == 9 else rng.gauss(0, 0.008),
            left_out_sd=None if number == 9 else 0.009,
        )
        for number in range(15)
    ]
    broken = AnchorRow(
        shape="gated silu, feed-forward 8.00 x width, 8/8 heads",
        bits_per_byte=None,
        standard_error=None,
        copy_gap_nats=None,
        passed=False,
        tokens=None,
        seconds=None,
        left_out_error=None,
        left_out_sd=None,
        reason=f"loss is not a number {HOSTILE}",
    )
    return QualityReport(
        kind=kind,
        anchors=(*rows, broken) if kind == "anchors" else (),
        num_anchors=16 if kind == "anchors" else 0,
        num_used=14 if kind == "anchors" else 0,
        leave_one_out_rms=0.0083 if kind == "anchors" else None,
        horizon_tokens_per_parameter=100.0,
        notes=("Depth against width is the law's alone.", f"Nothing of your text {HOSTILE}."),
    )


def realistic_records(count: int = 30) -> tuple[TrialRecord, ...]:
    """Mostly complete; the odd ones failed, broke a limit, or did not learn to copy."""
    rng = random.Random(5)
    records = []
    for number in range(count):
        made = judged(record(number, rng), "each")
        if number in (7, 19):
            reason = "ttft_s 1.43 is above --max-ttft 1.2"
            made = dataclasses.replace(
                made, state="infeasible", reason=reason, score=None, proxy=None
            )
        elif number == 11:
            reason = f"loss is not a number after 400 steps {HOSTILE}"
            made = dataclasses.replace(made, state="failed", reason=reason, score=None, proxy=None)
        elif number in (4, 22):
            assert made.proxy is not None
            early = dataclasses.replace(made.proxy, passed_transition=False, bits_per_byte=2.11)
            made = judged(dataclasses.replace(made, proxy=early), "each")
        records.append(made)
    return tuple(records)


KNOWN = (
    KnownSpeed(
        name="PhoneLM-1.5B", num_parameters=1_600_000_000, tokens_per_s=49.0, low=40.0, high=59.0
    ),
    KnownSpeed(
        name="Qwen2.5-1.5B", num_parameters=1_543_714_304, tokens_per_s=43.5, low=35.2, high=53.1
    ),
    KnownSpeed(
        name="Llama-3.2-1B", num_parameters=1_235_814_400, tokens_per_s=55.7, low=45.3, high=67.9
    ),
    KnownSpeed(
        name="SmolLM2-1.7B", num_parameters=1_711_376_384, tokens_per_s=40.1, low=32.5, high=48.9
    ),
)


def make_report(records: tuple[TrialRecord, ...]) -> ReportInput:
    return ReportInput(
        name="20261124-snapdragon8gen3-1.5B",
        settings={
            "device": "snapdragon8gen3",
            "budget": "1.50B parameters, total",
            "search space": "decoder",
            "sampler": "gp, seed 0",
            "phonesearch": "0.1.0",
            "hostile": HOSTILE,
        },
        objective="decode",
        records=records,
        front=front(records, "decode"),
        known=KNOWN,
        device_note="Speeds are predicted, not measured: profile snapdragon8gen3.",
        loss_note="Loss is that of a scaled-down proxy. It ranks shapes.",
        warnings=("Proxies were trained on Python sources.",),
        commands={"Config of the knee": "phonesearch export results/run --knee --to hf"},
    )


@pytest.fixture(name="make_report")
def _make_report() -> Callable[[tuple[TrialRecord, ...]], ReportInput]:
    return make_report


@pytest.fixture(name="records")
def _records() -> tuple[TrialRecord, ...]:
    return realistic_records()


@pytest.fixture(name="report")
def _report() -> ReportInput:
    return make_report(realistic_records())


@pytest.fixture(name="report_of")
def _report_of() -> Callable[[ScoreKind], ReportInput]:
    def made(kind: ScoreKind) -> ReportInput:
        report = make_report(rejudged(realistic_records(), kind))
        return dataclasses.replace(report, quality=quality_report(kind))

    return made


@pytest.fixture(name="hostile")
def _hostile() -> str:
    return HOSTILE
