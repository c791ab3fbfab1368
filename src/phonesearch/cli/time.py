"""`phonesearch time`: one model on one device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phonesearch.candidate.config import Candidate
    from phonesearch.device.speed import Speed
    from phonesearch.study.stopwatch import Turn


def time(
    config: Annotated[
        Path,
        typer.Argument(help="Hugging Face `config.json`, or the YAML or JSON file of a candidate."),
    ],
    device: Annotated[
        str,
        typer.Option(
            help="Device profile, or path to one, to predict; `host` measures on this machine, "
            "`adb` or `adb:SERIAL` on a phone."
        ),
    ] = "snapdragon8gen3",
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 128,
    generate: Annotated[int, typer.Option(min=2, help="Tokens of the answer.")] = 128,
    engine: Annotated[
        str | None, typer.Option(help="Inference engine of the profile; default: its own.")
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(
            help="Cores of the phone: `4-7`, `4,5,7`; default: what `phone doctor --sweep` found "
            "best, else the prime and the big ones."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads where it is measured; default: physical cores, on a phone those of "
            "--cpus.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Predict, or on `host` and `adb` measure, how fast one model reads a prompt and answers.

    Only the shape matters, so no weights are needed; their width is the engine's (int4 where it is
    measured).

    Example:

        phonesearch time PhoneLM-1.5B/config.json --device snapdragon8gen3 --json
    """
    import json

    from phonesearch.candidate.huggingface import read_candidate
    from phonesearch.cli.console import console
    from phonesearch.cli.machine import check_cores, opened_meter, profile_of
    from phonesearch.device.profile import read_profile
    from phonesearch.errors import ProfileError
    from phonesearch.study.stopwatch import Turn, predicted, weight_bits

    check_cores(device, cpus, threads)
    candidate = read_candidate(config)
    profile = read_profile(profile_of(device))
    if profile.measured and engine is not None:
        raise ProfileError(
            f"--engine cannot be chosen for {profile.name!r}, which is measured with ONNX Runtime."
        )
    turn = Turn(prompt_tokens=prompt, generate_tokens=generate)
    extra: dict[str, Any]
    if profile.measured:
        with (
            console() as shown,
            opened_meter(device, cpus=cpus, threads=threads, say=shown.say) as meter,
        ):
            assert meter is not None
            measurement = meter.measure(candidate, turn)
        speed = measurement.speed
        extra = {
            "source": "measured",
            "device": measurement.device,
            "engine": measurement.engine,
            "process_peak_memory_bytes": measurement.peak_memory_bytes,
            "num_threads": measurement.num_threads,
            "prefill_samples_s": measurement.prefill_samples_s,
            "decode_samples_s": measurement.decode_samples_s,
            "conditions": measurement.conditions,
        }
    else:
        estimate = predicted(candidate, profile, engine=engine, turn=turn)
        speed = estimate.speed
        extra = {
            "source": "predicted",
            "device": estimate.device,
            "engine": estimate.engine,
            "profile_sha256": estimate.profile_sha256,
            "prefill_seconds_by_operator": estimate.prefill_seconds_by_operator,
            "decode_seconds_by_operator": estimate.decode_seconds_by_operator,
        }
    bits = weight_bits(profile, engine)
    found = _figures(candidate, speed, turn, weight_bits=bits) | extra
    typer.echo(json.dumps(found, indent=2) if as_json else _text(found))


def _figures(candidate: Candidate, speed: Speed, turn: Turn, *, weight_bits: int) -> dict[str, Any]:
    from phonesearch.candidate.config import candidate_id
    from phonesearch.candidate.count import non_embedding_parameters, total_parameters
    from phonesearch.device.speed import SPEED_OBJECTIVES
    from phonesearch.study.stopwatch import turn_memory_bytes

    interval: dict[str, Any] = {"coverage": speed.coverage}
    for objective in SPEED_OBJECTIVES:
        interval[f"{objective}_tokens_per_s"] = list(speed.tokens_per_s(objective)[1:])
    interval["ttft_s"] = [speed.ttft.low_s, speed.ttft.high_s]
    interval["tpot_s"] = [speed.tpot.low_s, speed.tpot.high_s]
    return {
        "candidate_id": candidate_id(candidate),
        "num_parameters": total_parameters(candidate),
        "num_non_embedding_parameters": non_embedding_parameters(candidate),
        "prompt_tokens": speed.prompt_tokens,
        "generate_tokens": speed.generate_tokens,
        "prefill_tokens_per_s": speed.prefill_tokens_per_s,
        "decode_tokens_per_s": speed.decode_tokens_per_s,
        "turn_tokens_per_s": speed.turn_tokens_per_s,
        "ttft_s": speed.ttft.value_s,
        "tpot_s": speed.tpot.value_s,
        "turn_s": speed.turn.value_s,
        "weight_bits": weight_bits,
        "peak_memory_bytes": turn_memory_bytes(candidate, turn, weight_bits=weight_bits),
        "interval": interval,
    }


def _text(found: dict[str, Any]) -> str:
    from phonesearch.units import format_bytes, format_count, format_seconds

    interval = found["interval"]

    def rate(objective: str) -> str:
        low, high = interval[f"{objective}_tokens_per_s"]
        value = found[f"{objective}_tokens_per_s"]
        return f"{value:8.4g} tokens/s   {low:.4g} to {high:.4g}"

    lines = [
        f"{format_count(found['num_parameters'])} parameters "
        f"({format_count(found['num_non_embedding_parameters'])} without embeddings)",
        f"{found['source']} on {found['device']}, {found['engine']}; intervals hold "
        f"{interval['coverage']:.0%} of cases",
        "",
        f"prefill  {rate('prefill')}   TTFT {format_seconds(found['ttft_s'])}, "
        f"prompt of {found['prompt_tokens']}",
        f"decode   {rate('decode')}   TPOT {format_seconds(found['tpot_s'])}, "
        f"in the middle of {found['generate_tokens']}",
        f"turn     {rate('turn')}   {format_seconds(found['turn_s'])} in all",
        f"memory   {format_bytes(found['peak_memory_bytes'])} at the peak (counted)",
    ]
    return "\n".join(lines)
