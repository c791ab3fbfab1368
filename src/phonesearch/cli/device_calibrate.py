"""`phonesearch device calibrate`: a profile of a machine that can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

_OPERATOR_ROUNDS: Final = 2
"""Operators alone count little, so that their scatter does too."""


def calibrate(
    machine: Annotated[
        str,
        typer.Argument(
            help="`host`, the machine that this runs on; `adb`, the phone that is plugged in; or "
            "`adb:SERIAL`."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the profile goes, a .yaml file.")],
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads; default: physical cores, on a phone those of --cpus."),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(
            metavar="CORES",
            help="Cores of a phone to run on, as 4-7 or 4,5,7; default: what `phone doctor "
            "--sweep` found best, else the prime and the big ones.",
        ),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=2, help="Random candidates to check it on, measured whole.")
    ] = 30,
    seed: Annotated[int, typer.Option(help="Of the drawing of candidates.")] = 0,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each graph is timed, in a process of its own.")
    ] = 5,
    largest: Annotated[
        str | None,
        typer.Option(
            metavar="COUNT",
            help="Parameters of the largest model that is timed, as 200M; default: 500M. Less is "
            "quicker, and predicts larger models less well.",
        ),
    ] = None,
) -> None:
    """Time operators on this machine, fit what they cost, and check that on unseen models.

    Operators alone, small decoders and random candidates are timed, again and again in turn. The
    cost of each kind of work is fitted to the first two; the candidates, which the fit does not
    see, tell how far off it is. Leave the machine quiet meanwhile.

    Everything timed stands in PROFILE.probes.jsonl beside the profile: the same command goes on
    from there when it was stopped. PROFILE.checked.json holds each unseen candidate's times,
    measured and predicted.

    On a phone each is run when it is cool, and again if it slowed down meanwhile.

    Examples:

        phonesearch device calibrate host --threads 1 --out results/laptop.yaml

        phonesearch device calibrate adb --out results/my-phone.yaml
    """
    from contextlib import ExitStack
    from dataclasses import asdict
    from datetime import date

    from phonesearch import files
    from phonesearch.cli.console import console
    from phonesearch.cli.countdown import Countdown
    from phonesearch.cli.machine import check_cores
    from phonesearch.cli.options import optional
    from phonesearch.cli.phone_device import is_phone, phone_backend
    from phonesearch.device.fitted import PROFILE_HEADER, profile_content
    from phonesearch.errors import SettingsError
    from phonesearch.timing.calibrate import CheckScore, check, fit_operators, probe_times, score
    from phonesearch.timing.calibrate_profile import calibrated_profile
    from phonesearch.timing.host import (
        HostBackend,
        last_cache_bytes,
        num_physical_cores,
    )
    from phonesearch.timing.probe_run import ProbeRecord, Timer, run_probes
    from phonesearch.timing.probes import (
        CONTEXTS,
        PROMPT_TOKENS,
        Probe,
        decoder_probes,
        operator_probes,
        unseen_probes,
    )
    from phonesearch.units import parse_count

    if machine != "host" and not is_phone(machine):
        raise SettingsError(
            f"Only `host`, `adb` and `adb:SERIAL` can be calibrated, got {machine!r}."
        )
    check_cores(machine, cpus, threads)
    if out.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"`--out` must end in .yaml, got {out}.")
    kind = machine.partition(":")[0]  # without the serial number, which is personal
    limit = optional("--largest", largest, parse_count)
    decoders = decoder_probes(largest=limit)
    unseen = unseen_probes(candidates, seed=seed, largest=limit)

    with console() as shown, ExitStack() as stack:
        countdown: Countdown | None = None

        def say(message: str) -> None:
            (countdown or shown).say(message)

        timer: Timer
        if machine == "host":
            timer = HostBackend()
            num_threads = threads or num_physical_cores()
            cache_bytes = last_cache_bytes()
        else:
            phone = stack.enter_context(phone_backend(machine, cpus=cpus, threads=threads, say=say))
            timer = phone
            num_threads, cache_bytes = phone.num_threads, phone.last_cache_bytes()
        operators = operator_probes(cache_bytes, largest=limit)

        def timed(what: str, probes: Sequence[Probe], rounds: int) -> list[ProbeRecord]:
            nonlocal countdown
            with Countdown(what) as countdown:
                return run_probes(
                    probes,
                    out.with_suffix(".probes.jsonl"),
                    timer=timer,
                    num_threads=num_threads,
                    rounds=rounds,
                    progress=countdown.begin,
                )

        try:
            records = timed("operators alone", operators, min(rounds, _OPERATOR_ROUNDS))
            records += timed("small decoders and unseen candidates", (*decoders, *unseen), rounds)
        except KeyboardInterrupt:
            typer.echo("\nWhat was timed is kept; the same command goes on from there.", err=True)
            raise

    times = [*probe_times(operators, records), *probe_times(decoders, records)]
    known = fit_operators(times, num_threads=num_threads, last_cache_bytes=cache_bytes)
    checked = check(probe_times(unseen, records), known)
    files.write_json(out.with_suffix(".checked.json"), [asdict(one) for one in checked])
    profile = calibrated_profile(
        out.stem,
        times=times,
        records=records,
        known=known,
        checked=checked,
        today=date.today(),
        machine=kind,
    )
    made_by = f"Made by `phonesearch device calibrate {kind}`."
    files.write_yaml(out, profile_content(profile), header=f"{made_by}\n{PROFILE_HEADER}")

    def told(found: CheckScore) -> str:
        where = (
            f"prompt {PROMPT_TOKENS}" if found.phase == "prefill" else f"context {found.context}"
        )
        tau = "" if found.kendall_tau is None else f", Kendall tau {found.kendall_tau:.3f}"
        scatter = f"; its rounds scatter by {found.median_repeat_spread:.1%}" * (rounds > 1)
        return (
            f"{found.phase:8} {where:13} median error {found.median_error:.1%}, "
            f"{found.within_10:.0%} within 10 %{tau}{scatter}"
        )

    typer.echo(
        f"{candidates} candidates that the fit had not seen, "
        f"{num_threads} thread{'s' * (num_threads != 1)}:"
    )
    typer.echo(told(score(checked, "prefill", 0)))
    for context in CONTEXTS:
        typer.echo(told(score(checked, "decode", context)))
    typer.echo(f"\n{out}  `phonesearch time CONFIG --device {out}` predicts with it")
