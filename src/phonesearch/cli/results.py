"""What a finished run says on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from phonesearch.units import format_count

if TYPE_CHECKING:
    from phonesearch.front.pareto import Point
    from phonesearch.report.build import Built


def print_results(built: Built) -> None:
    """The front as a table, and where the files are."""
    front = built.front
    if not front.members:
        typer.echo("No candidate could be ranked; the report says why.")
    else:
        source = "measured" if front.members[0].measured else "predicted"
        typer.echo(
            f"Front of {len(front.ranked)} ranked candidates, fastest first "
            f"({front.objective}, {source}):\n"
        )
        typer.echo(
            f"{'trial':>5} {'tokens/s':>9} {'interval':>15} {'bits/byte':>9} {'+-':>6}  "
            f"{'params':>7}  shape"
        )
        for member in front.members:
            typer.echo(_row(member) + ("  <- knee" if member.number == front.knee else ""))
    if front.censored:
        numbers = ", ".join(str(point.number) for point in front.censored)
        typer.echo(f"\nNot ranked, as their proxies have not learned to copy yet: trials {numbers}")
    typer.echo(f"\n{built.report}  open this one\n{built.folder}  trials, front, configs, graphs")


def _row(member: Point) -> str:
    candidate = member.record.candidate
    tied = "tied" if candidate.tie_word_embeddings else "untied"
    return (
        f"{member.number:>5} {member.speed_tokens_per_s:>9.4g} "
        f"{f'{member.speed_low:.4g}-{member.speed_high:.4g}':>15} "
        f"{member.bits_per_byte:>9.3f} {member.standard_error:>6.3f}  "
        f"{format_count(member.record.num_parameters):>7}  "
        f"{candidate.num_hidden_layers} x {candidate.hidden_size}, "
        f"{candidate.num_attention_heads}/{candidate.num_key_value_heads} heads of "
        f"{candidate.head_dim}, {candidate.ffn_type} {candidate.hidden_act} "
        f"{candidate.intermediate_size}, {tied}"
    )
