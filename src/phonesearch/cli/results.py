"""What a finished run says on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from phonesearch.units import format_count

if TYPE_CHECKING:
    from phonesearch.front.pareto import Front, Point
    from phonesearch.report.build import Built


def print_results(built: Built) -> None:
    """The front as a table, and where the files are."""
    from phonesearch.report.loss import how_judged, judged_by

    front = built.front
    if not front.members:
        typer.echo("No candidate could be ranked; the report says why.")
    else:
        source = "measured" if front.members[0].measured else "predicted"
        typer.echo(
            f"Front of {len(front.ranked)} ranked candidates, fastest first "
            f"({front.objective}, {source}; loss: {judged_by(front, built.quality)}):\n"
        )
        has_own = any(member.proxy for member in front.members)
        typer.echo(
            f"{'trial':>5} {'tokens/s':>9} {'interval':>15} {'loss':>9} {'+-':>6}  "
            + (f"{'bits/byte':>9}  " if has_own else "")
            + f"{'params':>7}  shape"
        )
        for member in front.members:
            typer.echo(_row(member, front, has_own=has_own))
        typer.echo(
            f"\nLoss is the expected one above that of trial {front.best_loss}, +- one standard "
            f"deviation of the difference. {how_judged(front, built.quality)}"
        )
    if front.censored:
        numbers = ", ".join(str(point.number) for point in front.censored)
        typer.echo(f"\nNot ranked, as their proxies have not learned to copy yet: trials {numbers}")
    typer.echo(f"\n{built.report}  open this one\n{built.folder}  trials, front, configs, graphs")


def _row(member: Point, front: Front, *, has_own: bool) -> str:
    from phonesearch.report.data import roles_of
    from phonesearch.report.loss import above_best, format_percent

    above = above_best(member, front)
    loss, sd = format_percent(above.fraction), f"{above.sd * 100:.1f} %"
    if member.number == front.best_loss:
        loss, sd = "lowest", ""
    roles = ", ".join(
        role for role in roles_of(member.number, front) if role in ("recommended", "knee")
    )
    own = f"{member.proxy.bits_per_byte:.3f}" if member.proxy else ""
    candidate = member.record.candidate
    tied = "tied" if candidate.tie_word_embeddings else "untied"
    figures = [
        f"{member.number:>5}",
        f"{member.speed_tokens_per_s:>9.4g}",
        f"{f'{member.speed_low:.4g}-{member.speed_high:.4g}':>15}",
        f"{loss:>9}",
        f"{sd:>6} ",
        *([f"{own:>9} "] if has_own else []),
        f"{format_count(member.record.num_parameters):>7} ",
    ]
    shape = (
        f"{candidate.num_hidden_layers} x {candidate.hidden_size}, "
        f"{candidate.num_attention_heads}/{candidate.num_key_value_heads} heads of "
        f"{candidate.head_dim}, {candidate.ffn_type} {candidate.hidden_act} "
        f"{candidate.intermediate_size}, {tied}"
    )
    return " ".join([*figures, shape]) + (f"  <- {roles}" if roles else "")
