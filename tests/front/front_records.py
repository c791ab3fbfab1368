"""Trials to make fronts of."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.device.speed import Span, Speed
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score, ScoreKind

TINY = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)


def speed(decode_tokens_per_s: float) -> Speed:
    """A turn at that speed, a fifth less to a quarter more."""
    tpot_s = 1 / decode_tokens_per_s

    def span(value_s: float) -> Span:
        return Span(value_s=value_s, low_s=value_s * 0.8, high_s=value_s * 1.25)

    return Speed(
        prompt_tokens=128,
        generate_tokens=128,
        ttft=span(2 * tpot_s),
        tpot=span(tpot_s),
        turn=span(129 * tpot_s),
        coverage=0.9,
    )


def score_of_training(proxy: ProxyLoss) -> Score:
    """By its own short training alone, with nothing that candidates share."""
    return Score(
        kind="each",
        log_loss=math.log(proxy.bits_per_byte),
        law=0.0,
        prior=0.0,
        proxy=math.log(proxy.bits_per_byte),
        shared=(),
        own_sd=proxy.standard_error / proxy.bits_per_byte,
    )


def trained(
    number: int,
    tokens_per_s: float,
    bits_per_byte: float,
    *,
    standard_error: float = 0.001,
    passed: bool = True,
    **changes: Any,
) -> TrialRecord:
    """A complete trial with a short training of its own, its speed predicted."""
    proxy = ProxyLoss(
        bits_per_byte=bits_per_byte,
        standard_error=standard_error,
        passed_transition=passed,
        copy_gap_nats=0.5,
        tokens=1000,
        seconds=1.0,
        proxy={"hidden_size": 32},
        recipe={"tokens": 1000, "seed": 0},
        curve=((0, 5.0), (1000, 2.0)),
    )
    record = TrialRecord(
        number=number,
        state="complete",
        reason=None,
        candidate=TINY,
        candidate_id=candidate_id(TINY),
        num_parameters=1000,
        num_non_embedding_parameters=900,
        weight_bytes=500,
        peak_memory_bytes=700,
        predicted=speed(tokens_per_s),
        measured=None,
        prefill_seconds_by_operator={"ffn": 1.0},
        decode_seconds_by_operator={"ffn": 0.01},
        score=score_of_training(proxy),
        proxy=proxy,
        started_at="2026-11-24T00:00:00+00:00",
        seconds=2.0,
    )
    return dataclasses.replace(record, **changes)


def judged(
    number: int,
    tokens_per_s: float,
    log_loss: float,
    *,
    kind: ScoreKind = "anchors",
    shared: tuple[float, ...] = (),
    own_sd: float = 0.001,
    **changes: Any,
) -> TrialRecord:
    """A complete trial without a training of its own."""
    score = Score(
        kind=kind,
        log_loss=log_loss,
        law=log_loss - 0.03,
        prior=0.02,
        proxy=0.01,
        shared=shared,
        own_sd=own_sd,
    )
    return trained(number, tokens_per_s, 2.0, score=score, proxy=None, **changes)
