"""Published speeds and shapes that the shipped profiles are fitted on, carried row by row.

`data/measurements.csv` holds every row that was looked at for a shipped profile, also those
left out of the fit, with the reason; `data/model_configs.csv` the shape of each model;
`data/soc_facts.csv` what is known of each chip. Every row names its source. They are excerpts,
unchanged in their figures, of tables of published phone speeds collected for this project in
November 2026.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from phonesearch.candidate.config import ACTIVATIONS, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One published model as a candidate."""

    model_id: str
    name: str
    candidate: Candidate
    """Its shape; `max_position_embeddings` is the default, as the source tables lack it, and
    stretched rotary frequencies are left out. Neither changes a count or a time."""
    well_known: bool
    """Whether it is shown beside the candidates of a run."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSpeed:
    """One published figure: a model, timed whole on a phone by somebody else."""

    id: int
    device: str
    soc_id: str
    engine: str
    """Our name of the engine and weight width, as in the profiles."""
    model_id: str
    quantisation: str
    """As printed."""
    block_size: int
    """Weights that share a scale."""
    prompt_tokens: int | None
    """None where the source does not say."""
    generate_tokens: int | None
    prefill_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    confidence: str
    """A: printed by those who measured; B: one report; C: second hand."""
    source: str
    left_out_because: str
    """Why it is in no fit; empty where it is."""


def published_speeds() -> tuple[PublishedSpeed, ...]:
    """Every carried speed, also those left out of the fits."""
    return tuple(
        PublishedSpeed(
            id=int(row["id"]),
            device=row["device"],
            soc_id=row["soc_id"],
            engine=row["engine"],
            model_id=row["model_id"],
            quantisation=row["quantisation"],
            block_size=int(row["block_size"]),
            prompt_tokens=int(row["prompt_tokens"]) if row["prompt_tokens"] else None,
            generate_tokens=int(row["generate_tokens"]) if row["generate_tokens"] else None,
            prefill_tokens_per_s=_number(row["prefill_tokens_per_s"]),
            decode_tokens_per_s=_number(row["decode_tokens_per_s"]),
            confidence=row["confidence"],
            source=f"{row['source']}, {row['source_where']}, {row['date']}",
            left_out_because=row["left_out_because"],
        )
        for row in _rows("measurements.csv")
    )


def model_shapes() -> dict[str, ModelShape]:
    """Every carried model, by `model_id`."""
    shapes = {}
    for row in _rows("model_configs.csv"):
        activation = next(name for name in ACTIVATIONS if name == row["hidden_act"])
        shapes[row["model_id"]] = ModelShape(
            model_id=row["model_id"],
            name=row["name"],
            candidate=Candidate(
                vocab_size=int(row["vocab_size"]),
                hidden_size=int(row["hidden_size"]),
                intermediate_size=int(row["intermediate_size"]),
                num_hidden_layers=int(row["num_hidden_layers"]),
                num_attention_heads=int(row["num_attention_heads"]),
                num_key_value_heads=int(row["num_key_value_heads"]),
                head_dim=int(row["head_dim"]),
                hidden_act=activation,
                tie_word_embeddings=row["tie_word_embeddings"] == "yes",
                attention_bias=row["attention_bias"] == "yes",
                qk_norm=row["qk_norm"] == "yes",
                rope_theta=_number(row["rope_theta"]) or 10000.0,
            ),
            well_known=row["known"] == "yes",
            source=f"{row['source']} ({row['read_from']})",
        )
    return shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class SocFact:
    """One published fact about a chip, as its source prints it."""

    soc_id: str
    category: str
    fact: str
    value: str
    """With its unit."""
    source: str


def soc_facts(soc_id: str) -> tuple[SocFact, ...]:
    """Carried facts about one chip."""
    return tuple(
        SocFact(
            soc_id=row["soc_id"],
            category=row["category"],
            fact=row["fact"],
            value=f"{row['value']} {row['unit']}".strip(),
            source=", ".join(filter(None, (row["source"], row["source_where"])))
            + f" ({row['measured_or_spec']})",
        )
        for row in _rows("soc_facts.csv")
        if row["soc_id"] == soc_id
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    path = resources.files("phonesearch") / "device" / "data" / name
    yield from csv.DictReader(path.read_text(encoding="utf-8").splitlines())


def _number(text: str) -> float | None:
    return float(text) if text else None
