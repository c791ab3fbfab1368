"""What tests of the phone need from the machine: skipped without it, but failed in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest
from fakephone_tree import missing_packages

_PROGRAMS = {"adb": "adb", "qemu-aarch64-static": "qemu-user-static"}
_MODULES = ("adbutils", "ziglang")


def need(*names: str) -> None:
    """Skip the test where a program or module is missing; `arm` stands for the ARM libraries.

    `PHONESEARCH_NEED_ALL=1`, which `.ci/run` sets, turns that into a failure.
    """
    missing = []
    for name in names:
        if name == "arm":
            missing += missing_packages()
        elif name in _MODULES:
            missing += [] if importlib.util.find_spec(name) else [name]
        elif shutil.which(name) is None:
            missing.append(_PROGRAMS[name])
    if missing:
        lack(f"needs {', '.join(missing)}")


def lack(message: str) -> NoReturn:
    """Skip the test, or fail it with `PHONESEARCH_NEED_ALL=1`."""
    if os.environ.get("PHONESEARCH_NEED_ALL"):
        pytest.fail(message)
    pytest.skip(message)
