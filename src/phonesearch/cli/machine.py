"""The machine that a command measures on, from what was typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonesearch.study.meter import Meter


@contextmanager
def opened_meter(
    device: str | None,
    *,
    folder: Path | None = None,
    cpus: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[Meter | None]:
    """The stopwatch of a machine, as long as the block lasts; None for no machine.

    Args:
        device: `host`, or phones as in `phone_device.serials`.
        folder: Where this machine's exported models lie meanwhile.
        cpus: Cores of the phones, as typed; None for the best that are known.
        threads: Inside an operator; None for the usual number.
        say: Told what a phone is waited for.

    Raises:
        PhoneError: If the phones cannot be measured.
        SettingsError: If the options do not go together.
    """
    from phonesearch.cli.console import cache_dir
    from phonesearch.cli.phone_device import is_phone, phone_pool
    from phonesearch.study.meter import HostMeter, PhoneMeter
    from phonesearch.study.workers import quiet_of

    if device is None:
        yield None
    elif is_phone(device):
        with phone_pool(device, cpus=cpus, threads=threads, say=say) as phones:
            yield PhoneMeter(phones=phones)
    else:
        yield HostMeter(folder=folder, num_threads=threads, quiet=quiet_of(cache_dir()))


def check_cores(device: str | None, cpus: str | None, threads: int | None) -> None:
    """Refuse cores and threads where nothing is measured, or that the machine does not have.

    Raises:
        SettingsError: If so.
    """
    from phonesearch.cli.phone_device import is_phone
    from phonesearch.errors import SettingsError
    from phonesearch.study.meter import HOST
    from phonesearch.timing.host import num_logical_cores

    if device is not None and is_phone(device):
        return
    if cpus is not None:
        raise SettingsError("`--cpus` is for phones; on this machine give `--threads`.")
    if threads is None:
        return
    if device != HOST:
        raise SettingsError("`--threads` goes with `host` and `adb`, which are measured.")
    if threads > num_logical_cores():
        raise SettingsError(
            f"`--threads` must be at most {num_logical_cores()}, the cores that this process may "
            f"use, got {threads}: more would only wait for each other."
        )


def profile_of(device: str) -> str:
    """Name of the profile, or its path, of a device as typed."""
    from phonesearch.cli.phone_device import is_phone

    return "adb" if is_phone(device) else device


def machine_of(device: str, measure: str | None, profile: str | None) -> tuple[str, str | None]:
    """Where speeds of the search come from, and where its front is measured afterwards.

    Raises:
        SettingsError: If the options do not go together, or no profile predicts the phone.
    """
    from phonesearch.cli.options import one_of
    from phonesearch.cli.phone_device import is_phone
    from phonesearch.errors import SettingsError
    from phonesearch.study.meter import HOST

    if device != HOST and not is_phone(device):
        for name, value in (("--measure", measure), ("--profile", profile)):
            if value is not None:
                raise SettingsError(
                    f"{name} goes with `--device host` or `--device adb`; {device!r} is predicted."
                )
        return device, None
    chosen = measure or ("front" if profile is not None or is_phone(device) else "all")
    if one_of("--measure", chosen, ("front", "all")) == "all":
        if profile is not None:
            raise SettingsError("--profile goes with `--measure front`; `all` predicts nothing.")
        return device, None
    if profile is not None:
        return profile, device
    if not is_phone(device):
        raise SettingsError(
            "`--measure front` needs a profile of this machine: make one with `phonesearch device "
            "calibrate host --out FILE.yaml`, and give it with --profile."
        )
    return _profile_of_phone(device), device


def _profile_of_phone(device: str) -> str:
    """The shipped profile of the chip of the phone, of several of the first."""
    from phonesearch.catalog import resolve
    from phonesearch.cli.phone_device import serials
    from phonesearch.errors import NotInCatalogError, SettingsError
    from phonesearch.phone.adb import Adb
    from phonesearch.phone.device import survey

    chip = survey(Adb.find().choose(serials(device)[0])).identity.soc_model
    try:
        return resolve(chip or "", "device_profiles").stem
    except NotInCatalogError:
        raise SettingsError(
            f"No shipped profile predicts the chip of this phone ({chip or 'unknown'}). Name the "
            "one that is most like it with --profile (`phonesearch device list`), or measure every "
            "candidate with `--measure all`."
        ) from None
