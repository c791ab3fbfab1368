"""What `phonesearch run` was asked to do, from its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonesearch.study.settings import RunSettings

_FEW_TRIALS = 16
_MANY_TRIALS = 64
_MOST_TIMED_TRIALS = 2000
"""Of a run that is given a time; more change little, and cost their sampler seconds each."""
_ANCHORS = 16


def settings_of(
    *,
    device: str,
    measure_on: str | None,
    cpus: str | None,
    threads: int | None,
    engine: str | None,
    space: str,
    tokenizer: Path | None,
    budget: str,
    count: str,
    trials: int | None,
    time_s: float | None,
    early_stopping: bool,
    speed: str,
    prompt: int,
    generate: int,
    max_ttft: str | None,
    max_memory: str | None,
    min_speed: float | None,
    sampler: str | None,
    seed: int,
    jobs: int | None,
    data: tuple[str, ...],
    data_field: str,
    scored_by: str,
    anchors: int | None,
    horizon: float,
    proxy_parameters: str | None,
    proxy_tokens: str | None,
) -> RunSettings:
    """The settings of a new run, from its options as typed.

    Raises:
        SettingsError: If one of them does not say what it should.
    """
    from dataclasses import replace

    from phonesearch.candidate.count import COUNTINGS
    from phonesearch.cli.options import one_of, optional, parsed
    from phonesearch.cli.phone_device import is_phone
    from phonesearch.device.speed import SPEED_OBJECTIVES
    from phonesearch.proxy.hub import is_hub_dataset
    from phonesearch.proxy.settings import ProxySettings
    from phonesearch.study.meter import HOST
    from phonesearch.study.score import SCORE_KINDS
    from phonesearch.study.settings import SAMPLERS, Constraints, RunSettings, default_jobs
    from phonesearch.units import parse_bytes, parse_count, parse_seconds

    proxy = ProxySettings(
        data=tuple(
            given if is_hub_dataset(given) else str(Path(given).expanduser().resolve())
            for given in data
        ),
        data_field=data_field,
        seed=seed,
        horizon_tokens_per_parameter=horizon,
    )
    kind = one_of("--proxy", scored_by, SCORE_KINDS)
    is_measured = measure_on is None and (device == HOST or is_phone(device))
    is_dear = kind == "each" or is_measured
    few_or_many = _FEW_TRIALS if is_dear else _MANY_TRIALS
    usual = "gp" if is_measured else "gain"
    size = optional("--proxy-parameters", proxy_parameters, parse_count)
    tokens = optional("--proxy-tokens", proxy_tokens, parse_count)
    return RunSettings(
        device=device,
        measure_on=measure_on,
        cpus=cpus,
        threads=threads,
        engine=engine,
        space=space,
        tokenizer=None if tokenizer is None else str(tokenizer.expanduser().resolve()),
        budget=parsed("--budget", budget, parse_count),
        counting=one_of("--count", count, COUNTINGS),
        trials=trials or (_MOST_TIMED_TRIALS if time_s else few_or_many),
        time_s=time_s,
        early_stopping=early_stopping,
        speed=one_of("--speed", speed, SPEED_OBJECTIVES),
        prompt_tokens=prompt,
        generate_tokens=generate,
        constraints=Constraints(
            max_ttft_s=optional("--max-ttft", max_ttft, parse_seconds),
            max_memory_bytes=optional("--max-memory", max_memory, parse_bytes),
            min_speed_tokens_per_s=min_speed,
        ),
        sampler=one_of("--sampler", sampler or usual, SAMPLERS),
        seed=seed,
        scored_by=kind,
        num_anchors=anchors or _ANCHORS,
        jobs=jobs or default_jobs(),
        proxy=replace(proxy, parameters=size or proxy.parameters, tokens=tokens or proxy.tokens),
    )
