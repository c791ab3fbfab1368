from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import pandas as pd
import pytest

from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.device.speed import Span, Speed
from phonesearch.front.pareto import front
from phonesearch.front.table import FRONT_SCHEMA, front_json, trials_table
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score

CANDIDATE = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)
SPEED = Speed(
    prompt_tokens=128,
    generate_tokens=64,
    ttft=Span(value_s=0.5, low_s=0.4, high_s=0.8),
    tpot=Span(value_s=0.1, low_s=0.08, high_s=0.125),
    turn=Span(value_s=6.8, low_s=5.0, high_s=8.0),
    coverage=0.9,
)
COMPLETE = TrialRecord(
    number=0,
    state="complete",
    reason=None,
    candidate=CANDIDATE,
    candidate_id=candidate_id(CANDIDATE),
    num_parameters=1000,
    num_non_embedding_parameters=900,
    weight_bytes=500,
    peak_memory_bytes=700,
    predicted=SPEED,
    measured=None,
    prefill_seconds_by_operator={"ffn": 0.3, "norms and element-wise": 0.2},
    decode_seconds_by_operator={"ffn": 0.1},
    score=Score(
        kind="each",
        log_loss=-0.5,
        law=-0.3,
        prior=0.2,
        proxy=-0.4,
        shared=(0.3,),
        own_sd=0.4,
    ),
    proxy=ProxyLoss(
        bits_per_byte=0.1 + 0.2,
        standard_error=0.01,
        passed_transition=True,
        copy_gap_nats=0.5,
        tokens=1000,
        seconds=3.0,
        proxy={"hidden_size": 32},
        recipe={"seed": 0},
        curve=((0, 5.0),),
    ),
    started_at="2026-11-24T00:00:00+00:00",
    seconds=2.0,
)
FAILED = dataclasses.replace(
    COMPLETE,
    number=1,
    state="failed",
    reason="loss, is NaN",
    score=None,
    proxy=None,
    predicted=None,
)
MEASURED = dataclasses.replace(COMPLETE, number=2, measured=SPEED, predicted=None)


def test_predicted_and_measured_speeds_stand_in_different_columns() -> None:
    table = trials_table([COMPLETE, MEASURED], "decode")

    assert table["predicted_decode_tokens_per_s"].tolist() == [
        10.0,
        pytest.approx(float("nan"), nan_ok=True),
    ]
    assert table["measured_decode_tokens_per_s"].isna().tolist() == [True, False]
    assert table["ranked_by"].tolist() == [
        "predicted_decode_tokens_per_s",
        "measured_decode_tokens_per_s",
    ]


def test_rates_keep_their_interval_the_right_way_round() -> None:
    row = trials_table([COMPLETE], "prefill").iloc[0]

    assert row["predicted_prefill_tokens_per_s_low"] == 128 / 0.8
    assert row["predicted_prefill_tokens_per_s"] == 128 / 0.5
    assert row["predicted_prefill_tokens_per_s_high"] == 128 / 0.4
    assert row["predicted_ttft_s_low"] == 0.4


def test_a_failed_trial_keeps_its_row_and_reason() -> None:
    table = trials_table([FAILED, COMPLETE], "decode")

    assert table["number"].tolist() == [0, 1]
    assert table["ranking"].tolist() == ["front", "failed"]
    assert table["reason"].tolist()[1] == "loss, is NaN"
    assert table["proxy_tokens"].tolist() == [1000, pd.NA]


def test_all_fields_of_the_candidate_are_columns() -> None:
    columns = set(trials_table([COMPLETE], "decode").columns)

    assert {field.name for field in dataclasses.fields(Candidate)} <= columns


def test_columns_do_not_depend_on_which_trials_succeeded() -> None:
    assert (
        trials_table([COMPLETE], "decode").columns.tolist()
        == trials_table([FAILED, COMPLETE, MEASURED], "decode").columns.tolist()
        == trials_table([MEASURED], "decode").columns.tolist()
    )


def test_operators_become_columns_in_seconds() -> None:
    table = trials_table([COMPLETE], "decode")

    assert table.columns.tolist()[-3:] == [
        "predicted_prefill_ffn_s",
        "predicted_prefill_norms_and_element_wise_s",
        "predicted_decode_ffn_s",
    ]
    assert table["predicted_prefill_norms_and_element_wise_s"].tolist() == [0.2]


def test_csv_gives_every_number_back_to_the_last_digit() -> None:
    text = trials_table([COMPLETE, FAILED], "decode").to_csv(index=False)

    again = list(csv.DictReader(io.StringIO(text)))

    assert float(again[0]["proxy_bits_per_byte"]) == 0.1 + 0.2
    assert again[1]["proxy_bits_per_byte"] == ""
    assert again[1]["reason"] == "loss, is NaN"


def test_front_json_says_which_speeds_are_predicted() -> None:
    assert MEASURED.score is not None
    better = dataclasses.replace(MEASURED, score=dataclasses.replace(MEASURED.score, log_loss=-0.6))
    found = front([COMPLETE, better, FAILED], "decode")

    content = front_json(found, settings={"budget": 1000})

    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["schema"] == FRONT_SCHEMA
    assert content["settings"] == {"budget": 1000}
    assert content["failed"] == [1]
    assert [member["source"] for member in content["members"]] == ["measured"]
    member = content["members"][0]
    assert member["decode_tokens_per_s"] == {"value": 10.0, "low": 8.0, "high": 12.5}
    assert member["candidate"]["hidden_size"] == 64
    assert member["proxy"]["recipe"] == {"seed": 0}
    assert member["score_kind"] == "each"
    assert member["score_log_loss"] == -0.6
    assert member["loss_above_best"] == member["loss_above_best_sd"] == 0.0
    assert content["recommended"] == 2
    assert content["score_kinds"] == ["each"]


def test_a_score_has_its_parts_and_its_distance_from_the_best() -> None:
    assert COMPLETE.score is not None
    slower = dataclasses.replace(
        COMPLETE,
        number=3,
        predicted=None,
        measured=dataclasses.replace(SPEED, tpot=Span(value_s=1.0, low_s=0.8, high_s=1.25)),
        score=dataclasses.replace(COMPLETE.score, log_loss=-0.6, shared=(0.0,), own_sd=0.0),
    )
    table = trials_table([dataclasses.replace(COMPLETE, measured=SPEED), slower, FAILED], "decode")
    worse, failed, best = (table.iloc[place] for place in range(3))

    assert worse["score_sd"] == pytest.approx(0.5)
    assert [worse[f"score_{part}"] for part in ("law", "prior", "proxy")] == [-0.3, 0.2, -0.4]
    assert worse["loss_above_best"] == pytest.approx(math.exp(0.1) - 1)
    assert worse["loss_above_best_sd"] == pytest.approx(0.5)
    assert (best["loss_above_best"], best["loss_above_best_sd"]) == (0.0, 0.0)
    assert best["recommended"] != worse["recommended"]
    assert pd.isna(failed["score_log_loss"])
    assert pd.isna(failed["loss_above_best"])


def test_a_candidate_without_a_training_of_its_own_has_empty_proxy_columns() -> None:
    assert COMPLETE.score is not None
    judged = dataclasses.replace(
        COMPLETE, score=dataclasses.replace(COMPLETE.score, kind="prior"), proxy=None
    )
    row = trials_table([judged], "decode").iloc[0]
    member = front_json(front([judged], "decode"), settings={})["members"][0]

    assert row["score_kind"] == member["score_kind"] == "prior"
    assert pd.isna(row["proxy_bits_per_byte"])
    assert member["proxy"] is None
    assert json.loads(json.dumps(member, allow_nan=False)) == member
