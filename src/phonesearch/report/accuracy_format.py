"""Numbers and names as `docs/device-accuracy.md` prints them."""

from __future__ import annotations


def percent(share: float | None, *, digits: int = 1) -> str:
    """`7.9 %` of a fraction; a dash of None."""
    return "-" if share is None else f"{share * 100:.{digits}f} %"


def signed(error: float) -> str:
    """`+8 %` of a relative error."""
    return f"{error * 100:+.0f} %"


def rate(tokens_per_s: float) -> str:
    """Tokens a second to three digits."""
    return f"{tokens_per_s:.3g}" if tokens_per_s < 1000 else f"{tokens_per_s:.0f}"


def gb(bytes_per_s: float) -> str:
    """Bytes a second as `47.1 GB/s`."""
    return f"{bytes_per_s / 1e9:.3g} GB/s"


def counted(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def cell(text: str) -> str:
    """Text for a table or a line of Markdown, which `|`, `<` and line ends would break."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
