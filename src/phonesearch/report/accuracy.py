"""Writes `docs/device-accuracy.md`: how far off each shipped profile is, with a plot of each.

python -m phonesearch.report.accuracy                   # writes docs/device-accuracy.md and plots
python -m phonesearch.report.accuracy --check           # fails if they differ from that

Every figure is worked out here from the carried rows and the shipped profiles; none is typed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from phonesearch.device.held_out import left_out_cases
from phonesearch.device.profile import DeviceProfile, list_profiles, read_profile
from phonesearch.device.score import Case
from phonesearch.files import write_text
from phonesearch.report.accuracy_plot import accuracy_png
from phonesearch.report.accuracy_text import page_text, plot_name

PAGE: Final = "device-accuracy.md"
_DIGITS: Final = 3


def shipped_cases() -> dict[str, tuple[DeviceProfile, tuple[Case, ...]]]:
    """Every shipped profile that predicts, with its cases of models left out, by name."""
    profiles = [read_profile(one.name) for one in list_profiles() if not one.measured]
    return {profile.name: (profile, left_out_cases(profile)) for profile in profiles}


def write_page(folder: Path) -> list[Path]:
    """Write the page and its plots to `folder`; the paths written.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    shipped = shipped_cases()
    page = folder / PAGE
    write_text(page, page_text(shipped))
    paths = [page]
    for name, (_, cases) in shipped.items():
        if cases:
            path = folder / plot_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(accuracy_png(plot_title(name), cases, digest=digest_of(cases)))
            paths.append(path)
    return paths


def differing_files(folder: Path) -> list[str]:
    """Names of files in `folder` that are not what `write_page` gives, missing and stray ones too.

    The page is compared byte by byte; a plot by the digest of its data, as another release of
    the drawing library sets its pixels otherwise.
    """
    shipped = shipped_cases()
    differing = []
    page = folder / PAGE
    if not page.exists() or page.read_text(encoding="utf-8") != page_text(shipped):
        differing.append(PAGE)
    wanted = {plot_name(name): digest_of(cases) for name, (_, cases) in shipped.items() if cases}
    there = {
        path.relative_to(folder).as_posix()
        for path in (folder / Path(plot_name("x")).parent).glob("*.png")
    }
    for name in sorted(wanted.keys() | there):
        path = folder / name
        if name not in wanted or name not in there or png_digest(path) != wanted[name]:
            differing.append(name)
    return differing


def plot_title(name: str) -> str:
    """What stands above the plot of one profile."""
    return f"{name}: each model predicted by a fit without it"


def digest_of(cases: Sequence[Case]) -> str:
    """Hash of what a plot shows, its numbers to three significant digits."""
    shown = [
        [case.engine, case.phase, case.row]
        + [
            f"{value:.{_DIGITS}g}"
            for value in (
                case.measured_tokens_per_s,
                case.predicted_tokens_per_s,
                case.predicted_low_tokens_per_s,
                case.predicted_high_tokens_per_s,
            )
        ]
        for case in cases
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def png_digest(path: Path) -> str | None:
    """The `Data` text of a PNG file; None where it has none, or is damaged."""
    content = path.read_bytes()
    position = 8
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, body = content[position + 4 : position + 8], content[position + 8 :][:length]
        check = content[position + 8 + length :][:4]
        if struct.pack(">I", zlib.crc32(kind + body)) != check:
            return None
        if kind == b"tEXt" and body.startswith(b"Data\0"):
            return body[5:].decode("latin-1")
        position += 12 + length
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with `--check` compare it; exit code."""
    parser = argparse.ArgumentParser(prog="python -m phonesearch.report.accuracy")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="default: docs")
    chosen = parser.parse_args(arguments)
    if not chosen.check:
        for path in write_page(chosen.folder):
            sys.stdout.write(f"wrote {path}\n")
        return 0
    differing = differing_files(chosen.folder)
    for name in differing:
        sys.stderr.write(f"{chosen.folder / name} is not what this command gives; run it again\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
