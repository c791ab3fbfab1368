"""The candidates of a run as a table and as JSON: units in the names, sources apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phonesearch.candidate.config import as_dict
from phonesearch.device.speed import SPEED_OBJECTIVES, Span, Speed, SpeedObjective
from phonesearch.front.pareto import Front, Point, front, loss_against
from phonesearch.proxy.result import ProxyLoss
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import Score

FRONT_SCHEMA = "phonesearch.front/2"
"""Name and version of what `front_json` writes; the version rises when a field changes."""

_WHOLE_NUMBERS = (
    "sliding_window",
    "predicted_prompt_tokens",
    "predicted_generate_tokens",
    "measured_prompt_tokens",
    "measured_generate_tokens",
    "proxy_tokens",
    "longer_tokens",
    "dropped_after_tokens",
    "dropped_beaten_by",
)
_TIMES = (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("turn", "turn_s"))


def trials_table(records: Sequence[TrialRecord], objective: SpeedObjective) -> pd.DataFrame:
    """One row a candidate, by trial number; what is not known of one is missing there.

    Columns come in one order for all runs: what became of the trial, its architecture
    (Hugging Face names), counts, predicted times, measured times, score, proxy, and last the
    predicted seconds by operator, sorted by name. Speeds of all three kinds are given,
    `ranked_by` names the column that decided about the front. `score_log_loss` is relative: only
    differences mean anything. `score_sd` is its own deviation, much of it shared with other
    candidates; `loss_above_best_sd` is that of the difference, in natural log. Proxy columns are
    empty where a candidate had no short training of its own.

    Raises:
        RunFolderError: As `front`.
    """
    found = front(records, objective)
    ordered = sorted(records, key=lambda record: record.number)
    points = {point.number: point for point in found.ranked}
    operators = _operator_names(ordered)
    frame = pd.DataFrame(
        [_row(record, found, points.get(record.number), operators) for record in ordered]
    )
    whole = [name for name in _WHOLE_NUMBERS if name in frame.columns]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _row(
    record: TrialRecord,
    found: Front,
    point: Point | None,
    operators: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """`point` is that of the record, where it is ranked."""
    candidate = as_dict(record.candidate)
    candidate["rope_scaling"] = _json_or_none(candidate["rope_scaling"])
    source = "measured" if record.measured is not None else "predicted"
    proxy, longer, dropped = record.proxy, record.longer, record.dropped
    by_phase = {
        "prefill": record.prefill_seconds_by_operator,
        "decode": record.decode_seconds_by_operator,
    }
    return {
        "number": record.number,
        "state": record.state,
        "ranking": _ranking(record, found),
        "on_front": any(point.number == record.number for point in found.members),
        "knee": record.number == found.knee,
        "recommended": record.number == found.recommended,
        "ranked_by": f"{source}_{found.objective}_tokens_per_s" if record.speed else None,
        "reason": record.reason,
        "candidate_id": record.candidate_id,
        **candidate,
        "num_parameters": record.num_parameters,
        "num_non_embedding_parameters": record.num_non_embedding_parameters,
        "weight_bytes": record.weight_bytes,
        "peak_memory_bytes": record.peak_memory_bytes,
        **_speed_columns("predicted", record.predicted),
        **_speed_columns("measured", record.measured),
        **_score_columns(record.score),
        **_above_best(point, found),
        "dropped_after_tokens": dropped.tokens if dropped else None,
        "dropped_expected_log_loss": dropped.log_loss if dropped else None,
        "dropped_expected_log_loss_sd": dropped.sd if dropped else None,
        "dropped_beaten_by": dropped.beaten_by if dropped else None,
        "proxy_bits_per_byte": proxy.bits_per_byte if proxy else None,
        "proxy_standard_error_bits_per_byte": proxy.standard_error if proxy else None,
        "proxy_passed_transition": proxy.passed_transition if proxy else None,
        "proxy_copy_gap_nats": proxy.copy_gap_nats if proxy else None,
        "proxy_tokens": proxy.tokens if proxy else None,
        "proxy_s": proxy.seconds if proxy else None,
        "proxy_candidate": _json_or_none(proxy.proxy) if proxy else None,
        "longer_bits_per_byte": longer.bits_per_byte if longer else None,
        "longer_standard_error_bits_per_byte": longer.standard_error if longer else None,
        "longer_tokens": longer.tokens if longer else None,
        "longer_s": longer.seconds if longer else None,
        "started_at": record.started_at,
        "evaluation_s": record.seconds,
        **{
            f"predicted_{phase}_{_slug(name)}_s": (by_phase[phase] or {}).get(name)
            for phase, name in operators
        },
    }


def _ranking(record: TrialRecord, found: Front) -> str:
    """`front`, `dominated`, `dominated within noise`, or why the trial is not ranked."""
    if record.state != "complete":
        return record.state
    if any(point.number == record.number for point in found.members):
        return "front"
    if record.number in found.near:
        return "dominated within noise"
    if any(point.number == record.number for point in found.dominated):
        return "dominated"
    return "censored"


def _speed_columns(source: str, speed: Speed | None) -> dict[str, Any]:
    """The same columns whether there is a speed or not."""
    row: dict[str, Any] = {}
    for objective in SPEED_OBJECTIVES:
        rates = speed.tokens_per_s(objective) if speed else (None, None, None)
        for suffix, rate in zip(("", "_low", "_high"), rates, strict=True):
            row[f"{source}_{objective}_tokens_per_s{suffix}"] = rate
    for field, name in _TIMES:
        span: Span | None = getattr(speed, field) if speed else None
        row[f"{source}_{name}"] = span.value_s if span else None
        row[f"{source}_{name}_low"] = span.low_s if span else None
        row[f"{source}_{name}_high"] = span.high_s if span else None
    row[f"{source}_interval_coverage"] = speed.coverage if speed else None
    row[f"{source}_prompt_tokens"] = speed.prompt_tokens if speed else None
    row[f"{source}_generate_tokens"] = speed.generate_tokens if speed else None
    return row


def _score_columns(score: Score | None) -> dict[str, Any]:
    return {
        "score_kind": score.kind if score else None,
        "score_log_loss": score.log_loss if score else None,
        "score_sd": score.sd if score else None,
        "score_law": score.law if score else None,
        "score_prior": score.prior if score else None,
        "score_proxy": score.proxy if score else None,
    }


def _above_best(point: Point | None, found: Front) -> dict[str, float | None]:
    """Of ranked candidates only: the loss of others must not be held against that of the best."""
    if point is None or found.best is None:
        return {"loss_above_best": None, "loss_above_best_sd": None}
    above = loss_against(point, found.best)
    return {"loss_above_best": above.fraction, "loss_above_best_sd": above.sd}


def _operator_names(records: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """(phase, operator) of all records, prefill first, sorted by name."""
    prefill = {name for record in records for name in record.prefill_seconds_by_operator or ()}
    decode = {name for record in records for name in record.decode_seconds_by_operator or ()}
    return [
        *(("prefill", name) for name in sorted(prefill)),
        *(("decode", name) for name in sorted(decode)),
    ]


def _slug(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").split())


def _json_or_none(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True)


def front_json(front: Front, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `front.json`: every member with its architecture, speed, loss and sources.

    Args:
        front: The front to write.
        settings: What the run was asked to do, as JSON can hold it.
    """
    return {
        "schema": FRONT_SCHEMA,
        "objectives": {
            "speed": f"{front.objective}_tokens_per_s",
            "loss": "score_log_loss",
        },
        "settings": dict(settings),
        "knee": front.knee,
        "fastest": front.fastest,
        "best_loss": front.best_loss,
        "recommended": front.recommended,
        "ties": [list(pair) for pair in front.ties],
        "members": [_member(point, front) for point in front.members],
        "dominated": [point.number for point in front.dominated],
        "dominated_within_noise": list(front.near),
        "censored": [point.number for point in front.censored],
        "infeasible": [record.number for record in front.infeasible],
        "dropped": [record.number for record in front.dropped],
        "failed": [record.number for record in front.failed],
        "score_kinds": list(front.score_kinds),
        "differing_recipe_fields": list(front.differing_recipe_fields),
    }


def _proxy(trained: ProxyLoss | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    return {
        "bits_per_byte": trained.bits_per_byte,
        "standard_error": trained.standard_error,
        "copy_gap_nats": trained.copy_gap_nats,
        "tokens": trained.tokens,
        "recipe": trained.recipe,
        "candidate": trained.proxy,
    }


def _member(point: Point, front: Front) -> dict[str, Any]:
    record = point.record
    speed = record.speed
    assert speed is not None
    source = "measured" if point.measured else "predicted"
    return {
        "number": point.number,
        "candidate_id": record.candidate_id,
        "candidate": as_dict(record.candidate),
        "num_parameters": record.num_parameters,
        "num_non_embedding_parameters": record.num_non_embedding_parameters,
        "weight_bytes": record.weight_bytes,
        "peak_memory_bytes": record.peak_memory_bytes,
        "source": source,
        "interval_coverage": speed.coverage,
        "prompt_tokens": speed.prompt_tokens,
        "generate_tokens": speed.generate_tokens,
        f"{front.objective}_tokens_per_s": {
            "value": point.speed_tokens_per_s,
            "low": point.speed_low,
            "high": point.speed_high,
        },
        **{
            name: {"value": span.value_s, "low": span.low_s, "high": span.high_s}
            for name, span in (
                ("ttft_s", speed.ttft),
                ("tpot_s", speed.tpot),
                ("turn_s", speed.turn),
            )
        },
        **_score_columns(record.score),
        **_above_best(point, front),
        "proxy": _proxy(record.proxy),
        "longer_proxy": _proxy(record.longer),
        "loss_tied_with": list(front.tied_with(point.number)),
    }
