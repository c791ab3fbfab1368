"""`phonesearch phone`: a phone on a cable, looked at, made ready and left clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.phone.adb import Adb
    from phonesearch.phone.sweep import Swept

app = typer.Typer(
    no_args_is_help=True,
    help="A phone on a cable: look at it, make it ready, leave it clean.\n\n"
    "First time: switch on USB debugging on the phone (tap Build number in Settings > About phone "
    "seven times; then Developer options > USB debugging), plug it in, and run "
    "`phonesearch phone doctor`. Then `phonesearch phone setup --from-npm`, once.",
)

_Serial = Annotated[
    str | None,
    typer.Option(
        "--serial",
        "-s",
        metavar="SERIAL",
        help="Which phone, as `adb devices` calls it; by default $ANDROID_SERIAL, or the only one.",
    ),
]
_AdbPath = Annotated[
    str | None,
    typer.Option(
        "--adb",
        metavar="PROGRAM",
        help="The adb program; by default $ADB, that on PATH, in $ANDROID_HOME/platform-tools, or "
        "of the Python package adbutils.",
    ),
]


@app.command()
def doctor(
    serial: _Serial = None,
    adb: _AdbPath = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object, to be sent to us or kept beside results; it holds "
            "nothing about you, neither the serial number nor names of apps.",
        ),
    ] = False,
    include_private: Annotated[
        bool,
        typer.Option(
            "--include-private",
            help="Put the serial number and the name of the busiest program into --json too.",
        ),
    ] = False,
    with_sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Also time a small model on several sets of cores, and keep the fastest for "
            "later measurements of this phone. Takes minutes and needs `phone setup`.",
        ),
    ] = False,
) -> None:
    """Show what a phone is, what state it is in, and what would spoil a measurement on it.

    Takes about 3 s and changes nothing on the phone (with --sweep, our program and library come to
    it). Each problem comes with its remedy. The exit
    code is 1 if a measurement would be refused now, else 0.

    Examples: `phonesearch phone doctor`; with two phones plugged in
    `phonesearch phone doctor --serial R5CT10ABCDE`; for a bug report
    `phonesearch phone doctor --json > phone.json`; once for each phone
    `phonesearch phone doctor --sweep`.
    """
    from phonesearch.cli import phone_text
    from phonesearch.cli.console import cache_dir
    from phonesearch.errors import RuntimeLibraryError
    from phonesearch.phone.adb import Adb
    from phonesearch.phone.device import survey
    from phonesearch.phone.hazards import hazards
    from phonesearch.phone.runtime import installed, runtime_hazards

    phone = Adb.find(adb).choose(serial)
    report = survey(phone)
    problems = hazards(report)
    library = None
    try:
        library = installed(cache_dir())
        problems = (*runtime_hazards(library, report.identity), *problems)
        no_library = ""
    except RuntimeLibraryError as error:
        no_library = str(error)
    found = phone_text.Findings(
        report=report,
        hazards=tuple(sorted(problems, key=lambda hazard: hazard.rank)),
        library=library,
        no_library=no_library,
        adb_version=phone.version(),
    )
    is_refused = any(hazard.severity == "refuse" for hazard in problems)
    if not as_json:
        typer.echo(phone_text.as_text(found))
    swept = _sweep(phone) if with_sweep and not is_refused else ()
    if as_json:
        content = phone_text.as_json(found, include_private=include_private)
        if with_sweep:
            content["sweep"] = phone_text.sweep_json(swept)
        typer.echo(json.dumps(content, indent=2))
    elif swept:
        typer.echo(f"\n{phone_text.sweep_text(swept)}")
    if is_refused:
        raise typer.Exit(code=1)


def _sweep(phone: Adb) -> tuple[Swept, ...]:
    """Time the reference model on several sets of cores, and keep the best."""
    from phonesearch.cli.console import cache_dir
    from phonesearch.cli.countdown import Countdown
    from phonesearch.phone.backend import PhoneBackend
    from phonesearch.phone.runtime import installed
    from phonesearch.phone.sweep import Choice, choices, keep_best, sweep

    cache, countdown = cache_dir(), Countdown("cores")
    library = installed(cache)
    with PhoneBackend(phone, library, cache=cache, say=countdown.say) as backend, countdown:
        tried = choices(backend.report.cores)

        def show(choice: Choice) -> None:
            what = f"{choice.name}, {choice.num_threads} threads"
            countdown.begin(what, tried.index(choice), len(tried))

        swept = sweep(backend.bench, tried, progress=show)
        keep_best(swept[0].choice, backend.report.identity, cache=cache)
    return swept


@app.command()
def setup(
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="FILE",
            help="ONNX Runtime for Android: the AAR (onnxruntime-android, Maven), a NuGet or npm "
            "package that holds it, or its libonnxruntime.so for arm64-v8a.",
        ),
    ] = None,
    from_npm: Annotated[
        bool,
        typer.Option(
            "--from-npm", help="Download the npm package that holds the AAR (143 MiB), with npm."
        ),
    ] = False,
) -> None:
    """Check an ONNX Runtime library for phones and keep it, once for all phones.

    No phone need be plugged in: the library goes to it with the first measurement. A library that
    is not one of those that we have run is taken too, and every result says so.

    Examples: `phonesearch phone setup --from-npm`;
    `phonesearch phone setup --runtime onnxruntime-android-1.29.0.aar`.
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.errors import SettingsError
    from phonesearch.phone.runtime import set_up, set_up_from_npm
    from phonesearch.units import format_bytes

    if (runtime is None) != from_npm:
        raise SettingsError(
            "Give one of --runtime FILE (an AAR that you have) and --from-npm (downloads one)."
        )
    if runtime is not None:
        library = set_up(runtime, cache=cache_dir())
    else:
        typer.echo("downloading 143 MiB with npm; this can take minutes", err=True)
        library = set_up_from_npm(cache=cache_dir())
    checked = "one that we have run" if library.is_checked else "not one that we have run"
    typer.echo(
        f"ONNX Runtime {library.version or 'of unknown version'} from {library.source}, {checked}\n"
        f"{format_bytes(library.size_bytes)}, sha256 {library.sha256}\n"
        f"kept in {library.path}"
    )
    for warning in library.warnings:
        typer.echo(f"warning: {warning}", err=True)


@app.command()
def clean(serial: _Serial = None, adb: _AdbPath = None) -> None:
    """Remove everything of ours from a phone: running measurements and /data/local/tmp/phonesearch.

    The library kept on this computer stays; the next measurement pushes it again. Refused while
    another phonesearch of this account on this computer measures on the phone.

    Example: `phonesearch phone clean`.
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.phone import clean as cleaning
    from phonesearch.phone.adb import REMOTE_FOLDER, Adb
    from phonesearch.phone.lock import phone_held
    from phonesearch.units import format_bytes

    phone = Adb.find(adb).choose(serial)
    assert phone.serial is not None, "a phone was chosen"
    with phone_held(phone.serial, cache=cache_dir()):
        cleaned = cleaning.clean(phone)
    if cleaned.processes:
        pids = ", ".join(str(pid) for pid in cleaned.processes)
        typer.echo(f"ended process {pids}")
    typer.echo(f"removed {REMOTE_FOLDER}, {format_bytes(cleaned.folder_bytes)}")
