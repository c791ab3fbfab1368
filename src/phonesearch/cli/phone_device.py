"""Phones as typed by the user, `adb`, `adb:SERIAL` or several of those, made ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from phonesearch.phone.backend import PhoneBackend
    from phonesearch.phone.pool import PhonePool

_ANY = "adb"


def is_phone(device: str) -> bool:
    """Whether `device` names phones: `adb`, the one that is plugged in, `adb:SERIAL`, or several
    of the latter with commas between."""
    return device == _ANY or device.startswith((f"{_ANY}:", f"{_ANY},"))


def serials(device: str) -> tuple[str | None, ...]:
    """Serial numbers of phones as typed; None is the one that is plugged in.

    Raises:
        SettingsError: If a serial is missing or named twice.
    """
    from phonesearch.errors import SettingsError

    if device == _ANY:
        return (None,)
    found = []
    for part in device.split(","):
        kind, _, serial = part.strip().partition(":")
        if kind != _ANY or not serial:
            raise SettingsError(
                f"{device!r} does not name phones: one is `adb` or `adb:SERIAL`, several are "
                "`adb:SERIAL,adb:SERIAL` (serial numbers: `adb devices`)."
            )
        if serial in found:
            raise SettingsError(f"{device!r} names the phone {serial!r} twice.")
        found.append(serial)
    return tuple(found)


def phone_pool(
    device: str,
    *,
    cpus: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> PhonePool:
    """The phones, not yet entered; arguments and errors as in `phone_backend`."""
    from phonesearch.phone.pool import PhonePool

    named = serials(device)

    def say_of(place: int) -> Callable[[str], None] | None:
        if say is None or len(named) == 1:
            return say
        return lambda message: say(f"Phone {place}: {message}")

    backends = [
        phone_backend(
            _ANY if serial is None else f"{_ANY}:{serial}",
            cpus=cpus,
            threads=threads,
            say=say_of(place),
        )
        for place, serial in enumerate(named, start=1)
    ]
    return PhonePool(backends, say=say)


def phone_backend(
    device: str,
    *,
    cpus: str | None = None,
    threads: int | None = None,
    adb: str | None = None,
    say: Callable[[str], None] | None = None,
) -> PhoneBackend:
    """One phone, not yet entered.

    Args:
        device: `adb` or `adb:SERIAL`.
        cpus: Cores as typed, `4-7` or `4,5,7`; None for the best that is known.
        threads: None for as many as cores, or what a sweep found best.
        adb: The adb program, as typed.
        say: Told what is waited for.

    Raises:
        SettingsError: If `cpus` is no list of cores, or `device` names several phones.
        PhoneError: If there is no adb, no such phone, or no ONNX Runtime for it.
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.errors import SettingsError
    from phonesearch.phone.adb import Adb
    from phonesearch.phone.backend import PhoneBackend, PhoneSettings
    from phonesearch.phone.cores import parse_cpus
    from phonesearch.phone.runtime import installed

    serial, *others = serials(device)
    if others:
        raise SettingsError(f"One phone is needed here, and {device!r} names {1 + len(others)}.")
    settings = PhoneSettings(cpus=None if cpus is None else parse_cpus(cpus), num_threads=threads)
    library = installed(cache_dir())
    phone = Adb.find(adb).choose(serial)
    return PhoneBackend(phone, library, settings, cache=cache_dir(), say=say)
