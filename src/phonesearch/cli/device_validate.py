"""`phonesearch device validate`: a profile held against measured speeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phonesearch.device.score import Case, Group, Score
    from phonesearch.device.validate import Validation

_EXPOSURE_TITLES = {
    "unseen": "not seen by the fit",
    "fitted model": "model seen by the fit",
    "fitted figure": "in the fit, no test",
}
_MARKS = {"unseen": " ", "fitted model": "m", "fitted figure": "f"}


def validate(
    name: Annotated[str, typer.Argument(help="Name of a profile, or path to its YAML file.")],
    against: Annotated[Path, typer.Option(help="CSV table of measured speeds, one row a figure.")],
    configs: Annotated[
        Path | None,
        typer.Option(help="CSV table of the models' shapes; default: those carried along."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="One engine of the profile; default: all of them.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw predicted against measured to this .png or .html file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare what a profile predicts with what others measured, model by model.

    Rows of other devices, of engines that the profile has not, and of models that a candidate
    cannot stand for are skipped and counted with their reason. Rows that the profile was fitted
    on are marked: what they say is how well it fits, not how well it predicts.

    The form of both tables, and how a row finds its engine, stand at the end of
    docs/device-accuracy.md.

    Example:

        phonesearch device validate snapdragon8gen3 --against speeds.csv --plot check.png
    """
    import json

    from phonesearch.catalog import resolve
    from phonesearch.device.profile import read_profile
    from phonesearch.device.speed_table import carried_models, read_model_table, read_speed_table
    from phonesearch.device.validate import validate as compare

    if plot is not None:
        _check_plot(plot)
    profile = read_profile(str(resolve(name, "device_profiles")))
    models = carried_models() if configs is None else read_model_table(configs)
    found = compare(profile, read_speed_table(against), models, engine=engine)
    if plot is not None:
        _draw(plot, f"{found.profile}: predicted against {against.name}", found.cases)
    typer.echo(json.dumps(_content(found, against), indent=2) if as_json else _text(found, against))
    if plot is not None and not as_json:
        typer.echo(f"\n{plot}  predicted against measured")


def _check_plot(path: Path) -> None:
    from phonesearch.errors import SettingsError

    if path.suffix.lower() not in (".png", ".html"):
        raise SettingsError(f"--plot: must end in .png or .html, got {str(path)!r}.")


def _draw(path: Path, title: str, cases: Sequence[Case]) -> None:
    from phonesearch.report.accuracy_plot import write_plot

    write_plot(path, title, cases)


def _content(found: Validation, against: Path) -> dict[str, Any]:
    """What `--json` prints; shares are fractions, `null` where there is too little to say."""
    from dataclasses import asdict

    from phonesearch.device.score import groups

    return {
        "profile": found.profile,
        "profile_sha256": found.profile_sha256,
        "against": str(against),
        "interval_coverage_meant": found.coverage,
        "rows_in_table": found.num_rows,
        "groups": [
            {
                "processor": group.processor,
                "engine": group.engine,
                "weight_bits": group.weight_bits,
                **_phases(group.cases),
            }
            for group in groups(found.cases)
        ],
        "all": _phases(found.cases),
        "skipped": [asdict(one) for one in found.skipped],
        "cases": [
            {
                "row": case.row,
                "device": case.device,
                "model": case.model,
                "processor": case.processor,
                "engine": case.engine,
                "weight_bits": case.weight_bits,
                "phase": case.phase,
                "prompt_tokens": case.prompt_tokens,
                "generate_tokens": case.generate_tokens,
                "lengths_assumed": case.lengths_assumed,
                "measured_tokens_per_s": case.measured_tokens_per_s,
                "predicted_tokens_per_s": case.predicted_tokens_per_s,
                "predicted_interval_tokens_per_s": [
                    case.predicted_low_tokens_per_s,
                    case.predicted_high_tokens_per_s,
                ],
                "error": case.error,
                "inside_interval": case.is_inside,
                "seen_by_fit": case.exposure,
                "left_out_of_fit_because": case.doubt or None,
                "confidence": case.confidence,
                "source": case.source,
            }
            for case in found.cases
        ],
    }


def _phases(cases: Sequence[Case]) -> dict[str, Any]:
    """Figures of each phase over all rows, and over each kind of exposure apart."""
    from dataclasses import asdict

    from phonesearch.device.score import EXPOSURES, PHASES, score

    content: dict[str, Any] = {}
    for phase in PHASES:
        own = [case for case in cases if case.phase == phase]
        content[phase] = asdict(score(own)) | {
            "by_exposure": {
                exposure: asdict(score(case for case in own if case.exposure == exposure))
                for exposure in EXPOSURES
            }
        }
    return content


def _text(found: Validation, against: Path) -> str:
    from phonesearch.device.score import groups

    compared = len({case.row for case in found.cases})
    lines = [
        f"{found.profile} against {against}: {found.num_rows} rows, {compared} compared",
        "Errors are of tokens/s. Only rows that the fit has not seen test the profile.",
    ]
    parts = groups(found.cases)
    for group in parts:
        lines += ["", f"{group.processor}, {group.engine}, {group.weight_bits}-bit weights"]
        lines += _scores(group.cases, found.coverage)
        lines += _models(group)
    if len(parts) > 1:
        lines += ["", "all together", *_scores(found.cases, found.coverage)]
    if found.skipped:
        lines += ["", "skipped"]
        for one in found.skipped:
            what = {"row": "row", "decode": "decode rate", "prefill": "prefill rate"}[one.what]
            lines.append(f"{one.count:>6} {what}{'' if one.count == 1 else 's'}: {one.because}")
    return "\n".join(lines)


def _scores(cases: Sequence[Case], coverage: float) -> list[str]:
    from phonesearch.device.score import EXPOSURES, PHASES, score

    lines = [
        f"  {'':31} {'rows':>4} {'models':>6} {'median':>7} {'p90':>7} {'in 10%':>7} {'in 20%':>7} "
        f"{'tau':>6}  inside interval ({coverage:.0%} meant)"
    ]
    for phase in PHASES:
        for exposure in reversed(EXPOSURES):
            own = [c for c in cases if (c.phase, c.exposure) == (phase, exposure)]
            if own:
                lines.append(_score_line(f"{phase}, {_EXPOSURE_TITLES[exposure]}", score(own)))
    return lines


def _score_line(title: str, figures: Score) -> str:
    tau = "-" if figures.kendall_tau is None else f"{figures.kendall_tau:.2f}"
    shares = (
        figures.median_error,
        figures.p90_error,
        figures.within_10,
        figures.within_20,
    )
    shown = " ".join("      -" if share is None else f"{share:>7.1%}" for share in shares)
    inside = "-" if figures.interval_coverage is None else f"{figures.interval_coverage:.1%}"
    return f"  {title:31} {figures.rows:>4} {figures.models:>6} {shown} {tau:>6}  {inside}"


def _models(group: Group) -> list[str]:
    """Every case on a line of its own, by phase and measured speed, and what the marks mean."""
    from phonesearch.device.score import PHASES

    doubts = list(dict.fromkeys(case.doubt for case in group.cases if case.doubt))
    lines = [
        "",
        f"  {'':1} {'row':>5}  {'phase':7} {'model':34} {'measured':>9} {'predicted':>9} "
        f"{'interval':>17} {'error':>7}",
    ]
    for phase in PHASES:
        own = [case for case in group.cases if case.phase == phase]
        for case in sorted(own, key=lambda case: -case.measured_tokens_per_s):
            low, high = case.predicted_low_tokens_per_s, case.predicted_high_tokens_per_s
            interval = f"{low:.4g} to {high:.4g}"
            outside = "" if case.is_inside else "  outside"
            doubt = f"  [{doubts.index(case.doubt) + 1}]" if case.doubt else ""
            lines.append(
                f"  {_MARKS[case.exposure]} {case.row:>5}  {case.phase:7} {case.model[:34]:34} "
                f"{case.measured_tokens_per_s:>9.4g} {case.predicted_tokens_per_s:>9.4g} "
                f"{interval:>17} {case.error:>+7.1%}{outside}{doubt}"
            )
    if any(case.exposure != "unseen" for case in group.cases):
        lines.append("  f: this figure is in the fit; m: another figure of the model is")
    lines += [f"  [{n}] left out of the fit: {why}" for n, why in enumerate(doubts, start=1)]
    assumed = sum(case.lengths_assumed for case in group.cases)
    if assumed:
        lines.append(f"  lengths were assumed for {assumed} of {len(group.cases)} figures")
    return lines
