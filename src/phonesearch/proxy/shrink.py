"""A candidate scaled down to a proxy that keeps what short training can tell about it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import ffn_matrices, non_embedding_parameters
from phonesearch.errors import InvalidCandidateError, ProxyError
from phonesearch.proxy.settings import ProxySettings

HEAD_DIM: Final = 16
"""Of all proxies: at widths of about 100, larger heads are too few to keep their ratios."""
FEWEST_LAYERS: Final = 2
"""Copying from context needs two layers of attention. Source: Olsson et al., arXiv 2209.11895."""
_MIN_WIDTH: Final = 16
_LOG_ASPECT_OPTIMUM: Final = 3.874
_LOG_ASPECT_PER_LOG_SIZE: Final = 0.311
_LOG_ASPECT_PER_LOG_HORIZON: Final = -0.286
_WEIGHT_FFN, _WEIGHT_HEADS, _WEIGHT_GROUP, _WEIGHT_ASPECT = 4.0, 1.0, 0.5, 0.3
"""How much one unit of log error in each ratio costs when whole numbers force a choice."""
_GOOD_SIZE, _WORST_SIZE, _WORST_FFN = 0.005, 0.02, 0.25
"""Share by which a proxy may miss its parameters (wanted, allowed) and feed-forward ratio."""


def log_best_aspect(parameters: float, *, tokens_per_parameter: float) -> float:
    """Natural log of the best `hidden_size / num_hidden_layers` after a given training.

    mu = 3.874 + 0.311 log(N / 1e9) - 0.286 log((D / N) / 100)

    Args:
        parameters: N, non-embedding.
        tokens_per_parameter: D / N, training tokens for each of them.

    Source: joint fit to the published losses of the Gemstones suite (McLeish et al., arXiv
    2502.06857; 22 shapes of 50M to 2B) and the Morph suite (Bian et al., arXiv 2501.18107; 35
    shapes of 80M to 1B), 5 to 7,000 tokens a parameter; standard errors 0.10, 0.05 and 0.02.
    The drift with size is its weakest part (0.25 and 0.45 in the separate fits). At a proxy's
    size, three orders of magnitude below those suites, it is an extrapolation.
    """
    return (
        _LOG_ASPECT_OPTIMUM
        + _LOG_ASPECT_PER_LOG_SIZE * math.log(parameters / 1e9)
        + _LOG_ASPECT_PER_LOG_HORIZON * math.log(tokens_per_parameter / 100)
    )


def proxy_parameters(
    candidate: Candidate, settings: ProxySettings, *, reference_parameters: int
) -> int:
    """Non-embedding parameters of the candidate's proxy.

    Proportional to the candidate's own, so that one that spends its budget on embeddings has
    the smaller proxy too.
    """
    share = non_embedding_parameters(candidate) / reference_parameters
    return round(settings.parameters * share)


def shrink(
    candidate: Candidate, settings: ProxySettings, *, reference_parameters: int
) -> Candidate:
    """The proxy of a candidate: small, of the same kind.

    Kept: type, activation and ratio of the feed-forward network, width of attention over
    `hidden_size`, query heads a key/value head, tying, biases, q/k norms, rotary base; as near
    as whole numbers allow, the feed-forward ratio first. Not kept: head width (16), vocabulary,
    stretched rotary frequencies and a sliding window (the proxy's context is shorter).

    The depth-to-width ratio is not copied. Short training favours shallow, wide shapes, so what
    is copied is the distance from the optimum, each at its own size and length of training:

        log(d/L) of the proxy = log(d/L) - [mu(N, horizon) - mu(N_p, D_p / N_p)]

    with mu as in `log_best_aspect`. That makes the proxy consistent with the published law; it
    does not test the law.

    Args:
        candidate: Architecture at full size.
        settings: Size and length of the proxy's training, and the planned one's horizon.
        reference_parameters: Parameters of a candidate whose proxy has `settings.parameters`;
            the run's budget.

    Raises:
        ProxyError: If the proxy is too small for a network of this kind.
    """
    target = proxy_parameters(candidate, settings, reference_parameters=reference_parameters)
    size = non_embedding_parameters(candidate)
    log_aspect = (
        math.log(candidate.hidden_size / candidate.num_hidden_layers)
        - log_best_aspect(size, tokens_per_parameter=settings.horizon_tokens_per_parameter)
        + log_best_aspect(target, tokens_per_parameter=settings.tokens / target)
    )
    best, best_cost = None, math.inf
    depth = _exact_depth(candidate, target, log_aspect)
    for num_layers in range(max(FEWEST_LAYERS, int(depth) - 1), max(FEWEST_LAYERS, int(depth)) + 3):
        for proxy in _widths(candidate, settings, target, num_layers):
            cost = _cost(candidate, proxy, log_aspect, target)
            if cost < best_cost:
                best, best_cost = proxy, cost
    if best is None:
        raise ProxyError(
            f"There is no proxy of {target:,} non-embedding parameters for this architecture "
            f"(feed-forward ratio {_ffn_ratio(candidate):.2f}). Give more --proxy-parameters, "
            f"got {settings.parameters:,}."
        )
    return best


def _ffn_ratio(candidate: Candidate) -> float:
    return candidate.intermediate_size / candidate.hidden_size


def _heads_ratio(candidate: Candidate) -> float:
    return candidate.num_attention_heads * candidate.head_dim / candidate.hidden_size


def _group(candidate: Candidate) -> float:
    return candidate.num_attention_heads / candidate.num_key_value_heads


def _per_layer_and_square(candidate: Candidate) -> float:
    """Parameters of a layer over the square of its width; norms and biases left out."""
    attention = 2 * _heads_ratio(candidate) * (1 + 1 / _group(candidate))
    return attention + ffn_matrices(candidate) * _ffn_ratio(candidate)


def _exact_depth(candidate: Candidate, target: int, log_aspect: float) -> float:
    """L of L c (a L)^2 = target, with c parameters a layer and squared width, a = d/L."""
    return float(
        (target / (_per_layer_and_square(candidate) * math.exp(2 * log_aspect))) ** (1 / 3)
    )


def _widths(
    candidate: Candidate, settings: ProxySettings, target: int, num_layers: int
) -> list[Candidate]:
    """Proxies of one depth at the widths around the exact one, feed-forward width solved."""
    exact = math.sqrt(target / (num_layers * _per_layer_and_square(candidate)))
    step = max(2, 2 ** int(math.log2(max(exact, 1.0) / 48))) if exact > 48 else 2
    nearest = round(exact / step) * step
    found = []
    for hidden in range(max(_MIN_WIDTH, nearest - 8 * step), nearest + 8 * step + 1, step):
        exact_heads = _heads_ratio(candidate) * hidden / HEAD_DIM
        fewest = max(1, math.floor(exact_heads))
        for heads in (fewest, fewest + 1):
            for key_value_heads in _divisors_nearest(heads, _group(candidate)):
                proxy = _solved(
                    candidate, settings, target, num_layers, hidden, heads, key_value_heads
                )
                if proxy is not None:
                    found.append(proxy)
    return found


def _divisors_nearest(heads: int, group: float) -> list[int]:
    """Key/value heads that divide `heads`, the one whose group is nearest to `group`.

    Where the candidate has groups, a proxy of more than one head has them too.
    """
    counts = [count for count in range(1, heads + 1) if heads % count == 0]
    if group > 1 and heads > 1:
        counts = [count for count in counts if count < heads]
    return [min(counts, key=lambda count: abs(math.log(heads / count / group)))]


def _solved(
    candidate: Candidate,
    settings: ProxySettings,
    target: int,
    num_layers: int,
    hidden: int,
    heads: int,
    key_value_heads: int,
) -> Candidate | None:
    """The proxy with these sizes whose feed-forward width meets the target, if one does."""

    def with_width(intermediate: int) -> Candidate:
        return replace(
            candidate,
            vocab_size=settings.vocab_size,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=num_layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=HEAD_DIM,
            rope_scaling=None,
            sliding_window=None,
            max_position_embeddings=settings.context_length,
        )

    try:
        one = non_embedding_parameters(with_width(1))
        unit = non_embedding_parameters(with_width(2)) - one
        intermediate = 1 + round((target - one) / unit)
        return with_width(intermediate) if intermediate >= 1 else None
    except InvalidCandidateError:
        return None


def _cost(candidate: Candidate, proxy: Candidate, log_aspect: float, target: int) -> float:
    """How badly a proxy keeps what should be kept; 0 is exact, infinity not at all."""

    def error(have: float, want: float) -> float:
        return abs(math.log(have / want))

    miss = abs(non_embedding_parameters(proxy) / target - 1)
    if miss > _WORST_SIZE or error(_ffn_ratio(proxy), _ffn_ratio(candidate)) > _WORST_FFN:
        return math.inf
    aspect = math.log(proxy.hidden_size / proxy.num_hidden_layers)
    return (
        _WEIGHT_FFN * error(_ffn_ratio(proxy), _ffn_ratio(candidate))
        + _WEIGHT_HEADS * error(_heads_ratio(proxy), _heads_ratio(candidate))
        + _WEIGHT_GROUP * error(_group(proxy), _group(candidate))
        + _WEIGHT_ASPECT * abs(aspect - log_aspect)
        + (1000 * miss if miss > _GOOD_SIZE else 0.0)
    )
