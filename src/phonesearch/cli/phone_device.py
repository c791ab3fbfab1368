"""A phone as typed by the user, `adb` or `adb:SERIAL`, made ready to be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from phonesearch.phone.backend import PhoneBackend


def is_phone(device: str) -> bool:
    """Whether `device` names a phone: `adb`, the one that is plugged in, or `adb:SERIAL`."""
    return device == "adb" or (device.startswith("adb:") and device != "adb:")


def phone_backend(
    device: str,
    *,
    cpus: str | None = None,
    threads: int | None = None,
    adb: str | None = None,
    say: Callable[[str], None] | None = None,
) -> PhoneBackend:
    """The phone, not yet entered.

    Args:
        device: `adb` or `adb:SERIAL`.
        cpus: Cores as typed, `4-7` or `4,5,7`; None for the best that is known.
        threads: None for as many as cores, or what a sweep found best.
        adb: The adb program, as typed.
        say: Told what is waited for.

    Raises:
        SettingsError: If `cpus` is no list of cores.
        PhoneError: If there is no adb, no such phone, or no ONNX Runtime for it.
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.phone.adb import Adb
    from phonesearch.phone.backend import PhoneBackend, PhoneSettings
    from phonesearch.phone.cores import parse_cpus
    from phonesearch.phone.runtime import installed

    settings = PhoneSettings(cpus=None if cpus is None else parse_cpus(cpus), num_threads=threads)
    library = installed(cache_dir())
    phone = Adb.find(adb).choose(device.partition(":")[2] or None)
    return PhoneBackend(phone, library, settings, cache=cache_dir(), say=say)
