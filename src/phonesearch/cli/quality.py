"""`phonesearch quality`: the law of final loss, what it stands on, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phonesearch.quality.fit_law import LawFit
    from phonesearch.quality.shipped import Evidence, ShapeLaw

app = typer.Typer(
    no_args_is_help=True, help="Final loss of an architecture: the law, and what it stands on."
)
_ASPECTS = (12, 20, 32, 50, 80, 128, 200, 320)


@app.command()
def fit(
    tables: Annotated[Path, typer.Argument(help="CSV table of trained architectures.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the fits to this .json file, as they are shipped.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit the law of final loss to published suites, and hold each fit against the other suite.

    Needs the rows of the suites Gemstones and Morph and of LiteTransformerSearch's sets. Says
    whether the coefficients that come with the package are what the table gives.

    Example:

        phonesearch quality fit tables.csv --out shape_law.json
    """
    import json

    from phonesearch import files
    from phonesearch.quality.shape_table import read_shape_table
    from phonesearch.quality.shipped import differences, law_content, make_shape_law, shipped_law

    _check_out(out)
    law = make_shape_law(read_shape_table(tables))
    differing = differences(law, shipped_law())
    if out is not None:
        files.write_json(out, law_content(law))
    if as_json:
        found = law_content(law) | {"differs_from_shipped": list(differing)}
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(_text(law))
    if differing:
        shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
        typer.echo(f"\nThe shipped law is another: {len(differing)} fields differ ({shown}).")
    else:
        typer.echo("\nThe shipped law is what this table gives.")
    if out is not None:
        typer.echo(f"{out}  the fits, with their standard errors and evidence")


@app.command()
def show(
    parameters: Annotated[
        str, typer.Option(help="Parameters for which to show penalties: 1.5B, 350M.")
    ] = "1.5B",
    horizon: Annotated[
        float, typer.Option(min=1, help="Tokens a parameter of the planned pre-training.")
    ] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the law that comes with the package, and what it says of depth against width.

    Example:

        phonesearch quality show --parameters 1.5B --horizon 700
    """
    import json
    import math

    from phonesearch.cli.options import parsed
    from phonesearch.quality.law import aspect_penalty, log_best_aspect
    from phonesearch.quality.shipped import law_content, shipped_law
    from phonesearch.units import format_count, parse_count

    law = shipped_law()
    count = parsed("--parameters", parameters, parse_count)
    size = {"parameters": float(count), "tokens": count * horizon}
    fits = (("joint", law.joint), ("Gemstones", law.gemstones), ("Morph", law.morph))
    best = {name: math.exp(log_best_aspect(found.aspect, **size)) for name, found in fits}
    penalties = {
        name: [aspect_penalty(found.aspect, math.log(ratio), **size) for ratio in _ASPECTS]
        for name, found in fits
    }
    if as_json:
        content = {
            **size,
            "best_width_over_depth": best,
            "width_over_depth": list(_ASPECTS),
            "log_loss_penalty": penalties,
            "law": law_content(law),
        }
        typer.echo(json.dumps(content, indent=2))
        return
    lines = [
        _text(law),
        "",
        f"log loss above the best width / depth, {format_count(count)} parameters, "
        f"{horizon:g} tokens each",
        f"  {'fit':10} {'best':>6} {''.join(f'{ratio:>8}' for ratio in _ASPECTS)}",
    ]
    for name, values in penalties.items():
        shown = "".join(f"{value:>8.2%}" for value in values)
        lines.append(f"  {name:10} {best[name]:>6.0f} {shown}")
    typer.echo("\n".join(lines))


def _check_out(out: Path | None) -> None:
    from phonesearch.errors import SettingsError

    if out is None:
        return
    if out.suffix.lower() != ".json":
        raise SettingsError(f"--out: must end in .json, got {str(out)!r}.")
    if not out.parent.is_dir():
        raise SettingsError(f"--out: there is no folder {str(out.parent)!r}; make it first.")


def _text(law: ShapeLaw) -> str:
    lines = [
        "log loss = log(E + A (N/1e8)^-alpha + B (D/1e10)^-beta) + k (log(d/L) - mu)^2",
        "mu = m0 + m1 log(N/1e9) + m2 log(D/N/100)",
        "",
        f"  {'fit':9} {'points':>6} {'shapes':>6} {'rms':>7} {'k':>15} {'m0':>13} {'m1':>13} "
        f"{'m2':>14}",
        _fit_line("Gemstones", law.gemstones),
        _fit_line("Morph", law.morph),
        _fit_line("joint", law.joint),
        f"  standard errors: {law.standard_errors}",
        "",
        *_base_lines(law),
        *(f"  {one.suite}: {one.source}, {one.licence}" for one in law.sources),
        f"  table: sha256 {law.table_sha256}",
        "",
        *_evidence_lines(law.evidence),
    ]
    return "\n".join(lines)


def _fit_line(name: str, fit: LawFit) -> str:
    law, error = fit.aspect, fit.aspect_standard_error
    return (
        f"  {name:9} {fit.num_points:>6} {fit.num_shapes:>6} {fit.rms_log_error:>7.4f} "
        f"{law.curvature:>7.4f} ({error.curvature:.4f}) {law.optimum:>6.3f} ({error.optimum:.2f}) "
        f"{law.per_log_parameters:>6.3f} ({error.per_log_parameters:.2f}) "
        f"{law.per_log_horizon:>7.3f} ({error.per_log_horizon:.2f})"
    )


def _base_lines(law: ShapeLaw) -> list[str]:
    lines = [f"  {'base':20} {'E':>12} {'A':>12} {'alpha':>14} {'B':>12} {'beta':>14}"]
    for name, fit in (("alone", law.gemstones), ("alone", law.morph), ("joint", law.joint)):
        for base in fit.bases:
            own, error = base.law, base.standard_error
            lines.append(
                f"  {f'{base.suite}, {name}':20} "
                f"{own.irreducible:>5.3f} ({error.irreducible:.2f}) "
                f"{own.parameters_scale:>5.3f} ({error.parameters_scale:.2f}) "
                f"{own.parameters_exponent:>6.3f} ({error.parameters_exponent:.3f}) "
                f"{own.tokens_scale:>5.3f} ({error.tokens_scale:.2f}) "
                f"{own.tokens_exponent:>6.3f} ({error.tokens_exponent:.3f})"
            )
    return lines


def _evidence_lines(evidence: Evidence) -> list[str]:
    final, groups = evidence.morph_law_on_gemstones, evidence.gemstones_law_on_morph
    sizes = ", ".join(f"{name} {rank:.2f}" for name, rank in final.by_size)
    lines = [
        "law of Morph on the final losses of Gemstones, Spearman",
        f"  by size: {sizes}; size-corrected over all shapes {final.spearman:.2f}",
        f"  pairs of like size put in order: {final.pairs_right:.0%} of {final.pairs}",
        f"  scatter of size-corrected log loss: {final.scatter:.4f} with the law, "
        f"{final.scatter_without_law:.4f} without",
        "law of Gemstones on Morph, Spearman",
        f"  mean over {groups.groups} groups of one size and training: {groups.mean_spearman:.2f}",
        "Gemstones' checkpoints as predictions of the last, and with the law's shift",
        f"  {'tokens':>6} {'pairs':>6} {'shifted':>8} {'Spearman':>9} {'shifted':>8}",
    ]
    lines += [
        f"  {run.tokens / 1e9:>5.0f}B {run.pairs_right:>6.0%} {run.pairs_right_shifted:>8.0%} "
        f"{run.spearman:>9.2f} {run.spearman_shifted:>8.2f}"
        for run in evidence.short_runs_with_morph_law
    ]
    lines += [
        "regression on shape, pairs of like size put in order (residual sd of log perplexity)",
        f"  {'LiteTransformerSearch set':36} {'by size':>8}  anchors",
    ]
    for name in dict.fromkeys(score.dataset for score in evidence.anchors):
        own = [score for score in evidence.anchors if score.dataset == name]
        shown = "  ".join(f"{s.anchors}: {s.pairs_right:.2f} ({s.residual_sd:.3f})" for s in own)
        lines.append(f"  {name:36} {own[0].pairs_right_by_size:>8.2f}  {shown}")
    return lines
