"""`phonesearch run`: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonesearch.cli import fleet

_SEARCH = "What to search"
_FAST = "What fast means"
_PROXY = "How candidates are trained"
_RUN = "The run"


def run(
    ctx: typer.Context,
    device: Annotated[
        str,
        typer.Option(
            help="Device profile, or path to one (`phonesearch device list`), to predict. `host` "
            "measures on this machine, `adb` or `adb:SERIAL` on a phone, `adb:SERIAL,adb:SERIAL` "
            "on several of one model at once.",
            rich_help_panel=_SEARCH,
        ),
    ] = "snapdragon8gen3",
    budget: Annotated[
        str,
        typer.Option(
            help="Parameters of every candidate, to within 1 %: 1.5B, 350M, 1_500_000_000.",
            rich_help_panel=_SEARCH,
        ),
    ] = "1.5B",
    count: Annotated[
        str,
        typer.Option(
            help="What the budget counts: `total` (a tied table once) or `non-embedding`.",
            rich_help_panel=_SEARCH,
        ),
    ] = "total",
    space: Annotated[
        str,
        typer.Option(
            help="Search space, or path to one (`phonesearch space list`).", rich_help_panel=_SEARCH
        ),
    ] = "decoder",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the tokenizer to use: all candidates get its vocabulary, and exports "
            "take it along. Default: the vocabulary of the space.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Candidates to evaluate; default: 64, and 16 where each is trained (--proxy "
            "each) or measured (--measure all). With --resume: raises the number of that run.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="How long all may take, report included, instead of --trials: 5m, 2h. Anchors "
            "are planned for it, and candidates evaluated until it is over. With --resume: how "
            "much longer; default: the whole time anew.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="With `host` or `adb`: `front` searches by the predictions of --profile and then "
            "measures those that may be on the front; `all` measures every candidate. Default: "
            "front with a --profile, and with a phone.",
            rich_help_panel=_FAST,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Profile to predict with for `--measure front`, best one of that very machine "
            "(`phonesearch device calibrate`); default: the shipped one of the phone's chip.",
            rich_help_panel=_FAST,
        ),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(
            help="Cores of the phone to measure on: `4-7`, `4,5,7`; default: what `phone doctor "
            "--sweep` found best, else the prime and the big ones.",
            rich_help_panel=_FAST,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads that `host` and `adb` measure with; default: physical cores, on a phone "
            "those of --cpus.",
            rich_help_panel=_FAST,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="gain knows the predicted speed of what it draws, and takes what is expected to "
            "add most to the front; gp, tpe, nsga2 and random are Optuna's. Default: gain, and "
            "gp where all are measured.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            help="Tokens/s to raise: `decode` (in the middle of the answer), `prefill`, or `turn` "
            "(answer tokens over the time of the whole turn).",
            rich_help_panel=_FAST,
        ),
    ] = "decode",
    prompt: Annotated[
        int, typer.Option(min=1, help="Tokens of the prompt.", rich_help_panel=_FAST)
    ] = 128,
    generate: Annotated[
        int, typer.Option(min=2, help="Tokens of the answer.", rich_help_panel=_FAST)
    ] = 128,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Inference engine of the profile; default: the profile's own.",
            rich_help_panel=_FAST,
        ),
    ] = None,
    max_ttft: Annotated[
        str | None,
        typer.Option(help="Longest time to first token: 0.5s, 300ms.", rich_help_panel=_FAST),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(help="Most memory in a turn: 1.5GB, 900MiB.", rich_help_panel=_FAST),
    ] = None,
    min_speed: Annotated[
        float | None,
        typer.Option(help="Least tokens/s, of what --speed names.", rich_help_panel=_FAST),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to train proxies on: .txt, .jsonl, .parquet files, folders of them, or a "
            "dataset of the Hugging Face hub, hf:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]; may be "
            "given several times. Default: the Python library's own sources.",
            rich_help_panel=_PROXY,
        ),
    ] = None,
    data_field: Annotated[
        str,
        typer.Option(help="Field that holds the text.", rich_help_panel=_PROXY),
    ] = "text",
    proxy: Annotated[
        str,
        typer.Option(
            help="What losses are judged by. `anchors`: published laws, corrected by short "
            "trainings of a few chosen architectures, once. `each`: a short training of every "
            "candidate, for a GPU box. `prior`: published laws alone, at once.",
            rich_help_panel=_PROXY,
        ),
    ] = "anchors",
    proxy_time: Annotated[
        str,
        typer.Option(
            help="Time for the anchors: their number, size and tokens are fitted to it, at the "
            "speed that is measured here. Not used where one of these is given.",
            rich_help_panel=_PROXY,
        ),
    ] = "15min",
    anchors: Annotated[
        int | None,
        typer.Option(
            min=6,
            help="Architectures to train with `--proxy anchors`; default: planned by --proxy-time.",
            rich_help_panel=_PROXY,
        ),
    ] = None,
    horizon: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Tokens a parameter of the planned pre-training: 20 (Chinchilla), 100, 700 "
            "(PhoneLM). More favours deeper shapes.",
            rich_help_panel=_PROXY,
        ),
    ] = 100.0,
    proxy_parameters: Annotated[
        str | None,
        typer.Option(help="Non-embedding parameters of a proxy, e.g. 1M.", rich_help_panel=_PROXY),
    ] = None,
    proxy_tokens: Annotated[
        str | None,
        typer.Option(help="Tokens that each proxy is trained on, e.g. 4M.", rich_help_panel=_PROXY),
    ] = None,
    early_stopping: Annotated[
        bool,
        typer.Option(
            help="With --proxy each: give up trainings that cannot bring their candidate onto the "
            "front (95 % sure), and train more candidates, and those on the front for longer.",
            rich_help_panel=_PROXY,
        ),
    ] = True,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Proxies trained side by side, one thread each; default: one a CPU core, at most "
            "8, or one on a GPU.",
            rich_help_panel=_PROXY,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the draws and of the trainings.", rich_help_panel=_RUN)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run, new or empty; default: results/DATE-DEVICE-BUDGET.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    workers: fleet.Workers = None,
    storage: fleet.Storage = None,
    study: fleet.Study = None,
    ray: fleet.Ray = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this folder, by its own settings.", rich_help_panel=_RUN
        ),
    ] = None,
) -> None:
    """Search for fast shapes at a parameter budget, and write a Pareto front with a report.

    Every candidate is exported to ONNX, timed (predicted on a phone's profile, measured on
    `host` and `adb`), scaled down and trained for a short while. Ctrl-C or a crash loses at most
    the candidates in work; go on with --resume.

    Examples:

        phonesearch run --device snapdragon8gen3 --budget 1.5B

        phonesearch run --budget 350M --speed turn --prompt 512 --max-memory 400MB --trials 32

        phonesearch run --device adb --budget 1.5B --profile results/my-phone.yaml

        phonesearch run --resume results/2026-11-24-1312-snapdragon8gen3-1.5B --trials 48
    """
    from phonesearch.cli.console import console
    from phonesearch.cli.job import (
        deadline_of,
        default_folder,
        go_on,
        start,
        with_time,
        with_trials,
    )
    from phonesearch.cli.machine import check_cores, machine_of
    from phonesearch.cli.options import optional, parsed, typed
    from phonesearch.cli.run_settings import settings_of
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import open_folder
    from phonesearch.trainer_export.tokenizer import read_tokenizer
    from phonesearch.units import parse_seconds

    with console() as shown:
        if resume is not None:
            others = sorted({*typed(ctx)} - {"resume", "trials", "time", "workers", "storage"})
            if others:
                raise SettingsError(
                    f"--{others[0].replace('_', '-')} cannot be given with --resume, which goes "
                    "by the settings of the run; only --trials can be raised, or another --time "
                    "given."
                )
            folder = open_folder(resume)
            if trials is not None:
                folder = with_trials(folder, trials)
            if time is not None:
                folder = with_time(folder, parsed("--time", time, parse_seconds))
            go_on(fleet.with_other_fleet(folder, workers=workers, storage=storage), shown)
            return
        time_s = optional("--time", time, parse_seconds)
        if time_s is not None and (trials is not None or "proxy_time" in typed(ctx)):
            other = "--trials" if trials is not None else "--proxy-time"
            raise SettingsError(f"--time says how long all may take, so {other} cannot be given.")
        predicting, measure_on = machine_of(device, measure, profile)
        check_cores(measure_on or predicting, cpus, threads)
        settings = settings_of(
            device=predicting,
            measure_on=measure_on,
            cpus=cpus,
            threads=threads,
            engine=engine,
            space=space,
            tokenizer=tokenizer,
            budget=budget,
            count=count,
            trials=trials,
            time_s=time_s,
            early_stopping=early_stopping,
            speed=speed,
            prompt=prompt,
            generate=generate,
            max_ttft=max_ttft,
            max_memory=max_memory,
            min_speed=min_speed,
            sampler=sampler,
            seed=seed,
            jobs=jobs,
            data=tuple(data or ()),
            data_field=data_field,
            scored_by=proxy,
            anchors=anchors,
            horizon=horizon,
            proxy_parameters=proxy_parameters,
            proxy_tokens=proxy_tokens,
        )
        given = (anchors, proxy_parameters, proxy_tokens)
        proxy_time_s = parsed("--proxy-time", proxy_time, parse_seconds)
        is_planned = settings.scored_by == "anchors" and all(value is None for value in given)
        path = out or default_folder(settings)
        start(
            fleet.with_fleet(
                settings, path, workers=workers, storage=storage, study=study, ray=ray
            ),
            path,
            shown,
            is_default_recipe=proxy_parameters is None and proxy_tokens is None,
            proxy_time_s=proxy_time_s if is_planned else None,
            must_fit="proxy_time" in typed(ctx),
            tokenizer=None if tokenizer is None else read_tokenizer(tokenizer),
            deadline=deadline_of(settings),
        )
