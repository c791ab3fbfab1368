"""`phonesearch run`: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phonesearch.cli.console import Console
    from phonesearch.device.profile import DeviceProfile
    from phonesearch.space.schema import SearchSpace
    from phonesearch.study.folder import RunFolder
    from phonesearch.study.prepare import Prepared
    from phonesearch.study.settings import RunSettings

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
            "measures on this machine, `adb` or `adb:SERIAL` on the phone that is plugged in.",
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
    trials: Annotated[
        int,
        typer.Option(
            min=1,
            help="Candidates to evaluate. With --resume: raises the number of that run.",
            rich_help_panel=_SEARCH,
        ),
    ] = 16,
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
    sampler: Annotated[
        str,
        typer.Option(
            help="gp (best while trials are few), tpe, nsga2 or random.", rich_help_panel=_SEARCH
        ),
    ] = "gp",
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
            help="Text to train proxies on: .txt, .jsonl, .parquet files, or folders of them; may "
            "be given several times. Default: the Python library's own sources.",
            rich_help_panel=_PROXY,
        ),
    ] = None,
    data_field: Annotated[
        str,
        typer.Option(help="Field that holds the text.", rich_help_panel=_PROXY),
    ] = "text",
    proxy_parameters: Annotated[
        str | None,
        typer.Option(help="Non-embedding parameters of a proxy, e.g. 1M.", rich_help_panel=_PROXY),
    ] = None,
    proxy_tokens: Annotated[
        str | None,
        typer.Option(help="Tokens that each proxy is trained on, e.g. 4M.", rich_help_panel=_PROXY),
    ] = None,
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
    from phonesearch.cli.machine import machine_of
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import open_folder

    with console() as shown:
        if resume is not None:
            others = [name for name in _typed(ctx) if name not in ("resume", "trials")]
            if others:
                raise SettingsError(
                    f"--{others[0].replace('_', '-')} cannot be given with --resume, which goes "
                    "by the settings of the run; only --trials can be raised."
                )
            folder = open_folder(resume)
            if "trials" in _typed(ctx):
                folder = _with_trials(folder, trials)
            _go_on(folder, shown)
            return
        predicting, measure_on = machine_of(device, measure, profile)
        settings = _settings(
            device=predicting,
            measure_on=measure_on,
            engine=engine,
            space=space,
            budget=budget,
            count=count,
            trials=trials,
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
            proxy_parameters=proxy_parameters,
            proxy_tokens=proxy_tokens,
        )
        _start(settings, out or _default_folder(settings), shown)


def _typed(ctx: typer.Context) -> list[str]:
    """Names of the options that stand on the command line."""
    sources: dict[str, Any] = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]


def _settings(
    *,
    device: str,
    measure_on: str | None,
    engine: str | None,
    space: str,
    budget: str,
    count: str,
    trials: int,
    speed: str,
    prompt: int,
    generate: int,
    max_ttft: str | None,
    max_memory: str | None,
    min_speed: float | None,
    sampler: str,
    seed: int,
    jobs: int | None,
    data: tuple[str, ...],
    data_field: str,
    proxy_parameters: str | None,
    proxy_tokens: str | None,
) -> RunSettings:
    from dataclasses import replace

    from phonesearch.candidate.count import COUNTINGS
    from phonesearch.cli.options import one_of, optional, parsed
    from phonesearch.device.speed import SPEED_OBJECTIVES
    from phonesearch.proxy.settings import ProxySettings
    from phonesearch.study.settings import SAMPLERS, Constraints, RunSettings, default_jobs
    from phonesearch.units import parse_bytes, parse_count, parse_seconds

    proxy = ProxySettings(
        data=tuple(str(Path(path).expanduser().resolve()) for path in data),
        data_field=data_field,
        seed=seed,
    )
    size = optional("--proxy-parameters", proxy_parameters, parse_count)
    tokens = optional("--proxy-tokens", proxy_tokens, parse_count)
    return RunSettings(
        device=device,
        measure_on=measure_on,
        engine=engine,
        space=space,
        budget=parsed("--budget", budget, parse_count),
        counting=one_of("--count", count, COUNTINGS),
        trials=trials,
        speed=one_of("--speed", speed, SPEED_OBJECTIVES),
        prompt_tokens=prompt,
        generate_tokens=generate,
        constraints=Constraints(
            max_ttft_s=optional("--max-ttft", max_ttft, parse_seconds),
            max_memory_bytes=optional("--max-memory", max_memory, parse_bytes),
            min_speed_tokens_per_s=min_speed,
        ),
        sampler=one_of("--sampler", sampler, SAMPLERS),
        seed=seed,
        jobs=jobs or default_jobs(),
        proxy=replace(proxy, parameters=size or proxy.parameters, tokens=tokens or proxy.tokens),
    )


def _default_folder(settings: RunSettings) -> Path:
    from datetime import datetime

    from phonesearch.study.settings import without_serial
    from phonesearch.units import format_count

    now = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    budget = format_count(settings.budget).replace(" ", "")
    device = without_serial(settings.measure_on or Path(settings.device).stem)
    return Path("results") / f"{now}-{device}-{budget}"


def _start(settings: RunSettings, path: Path, shown: Console) -> None:
    from phonesearch import files
    from phonesearch.catalog import resolve
    from phonesearch.cli.machine import profile_of
    from phonesearch.device.profile import read_profile
    from phonesearch.space.schema import SearchSpace
    from phonesearch.study.folder import check_new, create

    space_file = resolve(settings.space, "search_spaces")
    device_file = resolve(profile_of(settings.device), "device_profiles")
    check_new(path)
    prepared = _prepare(
        settings, files.read(space_file, SearchSpace), read_profile(str(device_file)), shown
    )
    folder = create(path, settings, space_file=space_file, device_file=device_file)
    _search(folder, prepared, shown)


def _with_trials(folder: RunFolder, trials: int) -> RunFolder:
    from phonesearch.errors import SettingsError
    from phonesearch.study.folder import raise_trials

    if trials < folder.settings.trials:
        raise SettingsError(
            f"--trials: this run was asked for {folder.settings.trials}, which can be raised, "
            f"not lowered to {trials}."
        )
    return raise_trials(folder, trials)


def _go_on(folder: RunFolder, shown: Console) -> None:
    _search(folder, _prepare(folder.settings, folder.space, folder.profile, shown), shown)


def _prepare(
    settings: RunSettings, space: SearchSpace, profile: DeviceProfile, shown: Console
) -> Prepared:
    from phonesearch.cli.console import cache_dir
    from phonesearch.study.prepare import prepare

    return prepare(settings, space, profile, cache_dir=cache_dir(), observer=shown)


def _search(folder: RunFolder, prepared: Prepared, shown: Console) -> None:
    from phonesearch.cli.machine import opened_meter
    from phonesearch.cli.results import print_results
    from phonesearch.errors import PhoneError
    from phonesearch.front.confirm import confirm
    from phonesearch.report.build import build
    from phonesearch.study.run import search
    from phonesearch.study.store import read_records

    shown.say(f"Results go to {folder.path}")
    settings = folder.settings
    target = settings.device if folder.profile.measured else settings.measure_on
    try:
        # Opened before the search, so that a phone that cannot be measured costs no hours.
        with opened_meter(target, folder=folder.path, say=shown.say) as meter:
            after = settings.measure_on is not None
            search(folder, prepared, observer=shown, meter=None if after else meter)
            if meter is not None and after:
                confirm(folder, meter, observer=shown)
    except KeyboardInterrupt:
        shown.close()
        typer.echo(
            f"\nStopped with {len(read_records(folder))} of {folder.settings.trials} trials "
            f"finished. Go on with: phonesearch run --resume {folder.path}",
            err=True,
        )
        raise typer.Exit(code=130) from None
    except PhoneError:
        shown.close()
        typer.echo(
            f"The run stopped; what is finished is kept. Go on with: phonesearch run --resume "
            f"{folder.path}",
            err=True,
        )
        raise
    shown.say("Writing the report")
    built = build(folder)
    shown.close()
    print_results(built)
