"""`phonesearch device calibrate`: a profile of a machine that can be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    machine: Annotated[str, typer.Argument(help="`host`, the machine that this runs on.")],
    out: Annotated[Path, typer.Option(help="Where the profile goes, a .yaml file.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: physical cores.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=2, help="Random candidates to check it on, measured whole.")
    ] = 30,
    seed: Annotated[int, typer.Option(help="Of the drawing of candidates.")] = 0,
) -> None:
    """Time single operators on this machine, fit what they cost, and check that on unseen models.

    Finished probes stand in PROFILE.probes.jsonl beside the profile; the same command goes on
    from there. PROFILE.checked.json holds each candidate's times, measured and predicted. Leave
    the machine quiet meanwhile.

    Example:

        phonesearch device calibrate host --threads 1 --out results/laptop.yaml
    """
    from dataclasses import asdict
    from datetime import date

    from phonesearch import files
    from phonesearch.device.fitted import PROFILE_HEADER, profile_content
    from phonesearch.errors import SettingsError
    from phonesearch.timing.calibrate import (
        CONTEXTS,
        CheckScore,
        check,
        fit_operators,
        last_cache_bytes,
        probe_times,
        score,
    )
    from phonesearch.timing.calibrate_draw import draw_candidates
    from phonesearch.timing.calibrate_profile import calibrated_profile
    from phonesearch.timing.host import num_physical_cores
    from phonesearch.timing.probe_run import run_probes
    from phonesearch.timing.probes import designed_probes

    if machine != "host":
        raise SettingsError(f"Only `host` can be calibrated, got {machine!r}.")
    if out.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"`--out` must end in .yaml, got {out}.")

    def progress(line: str) -> None:
        typer.echo(line, err=True)

    cores = threads or num_physical_cores()
    cache_bytes = last_cache_bytes()
    probes = designed_probes(cache_bytes)
    records = run_probes(
        probes,
        out.with_suffix(".probes.jsonl"),
        num_threads=cores,
        rounds=2,
        repetitions=2,
        progress=progress,
    )
    times = probe_times(probes, records)
    known = fit_operators(times, cache_bytes=cache_bytes)
    checked = check(
        draw_candidates(candidates, seed=seed), known, num_threads=cores, progress=progress
    )
    files.write_json(out.with_suffix(".checked.json"), [asdict(one) for one in checked])
    profile = calibrated_profile(
        out.stem, times=times, records=records, known=known, checked=checked, today=date.today()
    )
    files.write_yaml(
        out,
        profile_content(profile),
        header=f"Made by `phonesearch device calibrate host`.\n{PROFILE_HEADER}",
    )

    def told(found: CheckScore) -> str:
        where = "prompt 128" if found.phase == "prefill" else f"context {found.context}"
        tau = "" if found.kendall_tau is None else f", Kendall tau {found.kendall_tau:.3f}"
        return (
            f"{found.phase:8} {where:13} median error {found.median_error:.1%}, "
            f"{found.within_10:.0%} within 10 %{tau}; the measurement itself repeats to "
            f"{found.median_repeat_spread:.1%}"
        )

    typer.echo(f"{candidates} candidates that the fit had not seen, {cores} threads:")
    typer.echo(told(score(checked, "prefill", 0)))
    for context in CONTEXTS:
        typer.echo(told(score(checked, "decode", context)))
    typer.echo(f"\n{out}  `phonesearch time CONFIG --device {out}` predicts with it")
