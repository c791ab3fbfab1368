"""The published suites of a table, as arrays: which rows, what they count, what they weigh."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from phonesearch.errors import QualityError
from phonesearch.quality.law import Array
from phonesearch.quality.shape_table import ShapeTable, TrainedShape

_GEMSTONES: Final = "gemstones"
_GEMSTONES_METRIC: Final = "FineWeb-Edu validation loss, nats/token"
_MORPH: Final = "morph"
_EMBEDDING: Final = re.compile(r"embedding dim (\d+)")
_NOMINAL: Final = re.compile(r"open_lm_(\w+)_v\d+")
FEWEST_POINTS: Final = 15
"""Below this, nine coefficients cannot be fitted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suite:
    """Trainings of one suite; all arrays of one length, in the table's order."""

    name: str
    source: str
    licence: str
    shapes: tuple[str, ...]
    """Name of each point's architecture; points of one shape are not independent."""
    groups: tuple[str, ...]
    """Points to be compared with each other: of one nominal size, after as long a training."""
    parameters: Array
    """As the suite counts them, with embeddings."""
    tokens: Array
    log_aspect: Array
    """log(d / L)."""
    log_loss: Array
    """Natural log of nats a token."""
    weights: Array
    """Of each point in a fit, one on average."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnchorSet:
    """Trained architectures of one LiteTransformerSearch set, for a regression on shape."""

    name: str
    features: Array
    """(n, 8): log parameters and its square, log d/L and square, log share of attention in a
    layer and square, log head width, log embedding width."""
    log_parameters: Array
    log_perplexity: Array
    """Natural log of the perplexity."""


def gemstones(table: ShapeTable) -> Suite:
    """The Gemstones models on FineWeb-Edu, constant learning rate, six checkpoints of each.

    The authors logged one every 10B tokens; the table has six of them, closer together early.
    Each weighs as many tokens as it stands for, from the middle between it and the one before
    to the middle between it and the next, so that the fit is not ruled by the first 20B, where
    the base term is a percent off and a penalty linear in log(d/L) would make up for it.

    Raises:
        QualityError: If the table has too few of them.
    """
    chosen = [
        row
        for row in table.rows
        if row.dataset == _GEMSTONES and row.metric == _GEMSTONES_METRIC and _has_shape(row)
    ]
    tokens = sorted({row.tokens or 0.0 for row in chosen})
    if len(tokens) > 1:
        middles = [(one + other) / 2 for one, other in itertools.pairwise(tokens)]
        edges = [tokens[0] / 2, *middles, tokens[-1]]
        spans = dict(zip(tokens, np.diff(edges).tolist(), strict=True))
    else:
        spans = dict.fromkeys(tokens, 1.0)
    groups = tuple(f"{(row.tokens or 0) / 1e9:.0f}B tokens" for row in chosen)
    return _suite(_GEMSTONES, chosen, groups, [spans[row.tokens or 0.0] for row in chosen])


def morph(table: ShapeTable) -> Suite:
    """The Morph (Open-LM) models; every row is a training of its own, so all weigh the same.

    Raises:
        QualityError: If the table has too few of them.
    """
    chosen = [row for row in table.rows if row.dataset == _MORPH and _has_shape(row)]
    groups = []
    for row in chosen:
        match = _NOMINAL.match(row.arch)
        nominal = match.group(1) if match else f"{(row.parameters or 0) / 1e6:.0f}m"
        groups.append(f"{nominal}, {(row.tokens or 0) / 1e9:g}B tokens")
    return _suite(_MORPH, chosen, tuple(groups), [1.0] * len(chosen))


def anchor_set(table: ShapeTable, name: str) -> AnchorSet:
    """The rows of one LiteTransformerSearch data set.

    Raises:
        QualityError: If the table has none with all that the features need.
    """
    features, log_parameters, log_perplexity = [], [], []
    for row in table.rows:
        if row.dataset != name or row.parameters is None or row.hidden_size is None:
            continue
        if None in (row.num_hidden_layers, row.intermediate_size, row.num_attention_heads):
            continue
        match = _EMBEDDING.search(row.notes)
        embedding = float(match.group(1)) if match else row.hidden_size
        size = float(np.log(row.parameters))
        aspect = float(np.log(row.hidden_size / (row.num_hidden_layers or 1)))
        attention = 4 * row.hidden_size
        share = float(np.log(attention / (attention + 2 * (row.intermediate_size or 0))))
        head = float(np.log(row.hidden_size / (row.num_attention_heads or 1)))
        features.append(
            [size, size**2, aspect, aspect**2, share, share**2, head, float(np.log(embedding))]
        )
        log_parameters.append(size)
        log_perplexity.append(float(np.log(row.value)))
    if not features:
        raise QualityError(f"The table has no complete row of dataset {name!r}.")
    return AnchorSet(
        name=name,
        features=np.array(features),
        log_parameters=np.array(log_parameters),
        log_perplexity=np.array(log_perplexity),
    )


def _has_shape(row: TrainedShape) -> bool:
    known = (row.hidden_size, row.num_hidden_layers, row.parameters, row.tokens)
    return None not in known and row.value > 0


def _suite(
    name: str, rows: list[TrainedShape], groups: tuple[str, ...], weights: list[float]
) -> Suite:
    if len(rows) < FEWEST_POINTS:
        raise QualityError(
            f"The law needs at least {FEWEST_POINTS} rows of dataset {name!r} with d_model, "
            f"n_layer, params_m and tokens_b, got {len(rows)}. Use the whole table."
        )
    weighed = np.array(weights)
    return Suite(
        name=name,
        source=rows[0].source,
        licence=rows[0].licence,
        shapes=tuple(row.arch for row in rows),
        groups=groups,
        parameters=np.array([row.parameters for row in rows], dtype=np.float64),
        tokens=np.array([row.tokens for row in rows], dtype=np.float64),
        log_aspect=np.log(
            [(row.hidden_size or 1) / (row.num_hidden_layers or 1) for row in rows],
            dtype=np.float64,
        ),
        log_loss=np.log([row.value for row in rows], dtype=np.float64),
        weights=weighed / weighed.mean(),
    )
