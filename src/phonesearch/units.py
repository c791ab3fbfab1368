"""The only place where units are converted: counts in, text out, and back.

Inside the package every quantity is in base units (seconds, bytes, parameters, tokens) and
says so in its name.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

_SUFFIXES: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_BYTE_SUFFIXES: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
}
_SECOND_SUFFIXES: Final = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER: Final = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")


def _parse(text: str, suffixes: dict[str, float] | dict[str, int], example: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match.group(2).lower() not in suffixes:
        raise ValueError(f"expected a number such as {example}, got {text!r}")
    value = float(match.group(1).replace("_", "")) * suffixes[match.group(2).lower()]
    if value <= 0:
        raise ValueError(f"must be more than zero, got {text!r}")
    return value


def parse_count(text: str) -> int:
    """Number of parameters or tokens from `1.5B`, `350M`, `64k` or `1_500_000_000`.

    Raises:
        ValueError: If the text is none of these, or not positive.
    """
    return round(_parse(text, _SUFFIXES, "1.5B, 350M or 1_500_000_000"))


def parse_bytes(text: str) -> int:
    """Bytes from `2GB`, `1.5GiB`, `800MB` or a plain number.

    Raises:
        ValueError: If the text is none of these, or not positive.
    """
    return round(_parse(text, _BYTE_SUFFIXES, "2GB, 1.5GiB or 800MB"))


def parse_seconds(text: str) -> float:
    """Seconds from `500ms`, `0.5s`, `2min`, `2h` or a plain number.

    Raises:
        ValueError: If the text is none of these, or not positive.
    """
    return _parse(text, _SECOND_SUFFIXES, "500ms, 0.5s or 2h")


def format_count(count: float) -> str:
    """`1.50B`, `350M`, `12.3k`: three significant digits, for people."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= scale * 0.9995:
            value = count / scale
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f}{suffix}"
    return f"{count:.0f}"


def format_bytes(size_bytes: float) -> str:
    """`912 MB`, `1.62 GB` (decimal units, as phone makers and llama.cpp print them)."""
    for suffix, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size_bytes) >= scale:
            value = size_bytes / scale
            return f"{value:.2f} {suffix}" if value < 10 else f"{value:.0f} {suffix}"
    return f"{size_bytes:.0f} B"


def format_hertz(hertz: float) -> str:
    """`3.30 GHz`, `960 MHz`."""
    return f"{hertz / 1e9:.2f} GHz" if hertz >= 1e9 else f"{hertz / 1e6:.0f} MHz"


def format_seconds(seconds: float) -> str:
    """`850 us`, `12.3 ms`, `4.20 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
