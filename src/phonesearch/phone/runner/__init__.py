"""The program that times models on the phone: source, how it is built, and the built one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RUNNER: Final = Path(__file__).with_name("runner")
"""Executable for 64-bit ARM Android 7 or later, made by `build.py` from the files beside it."""
