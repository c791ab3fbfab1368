"""The stopwatch of a real machine: this one, or a phone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from phonesearch.candidate.config import Candidate
from phonesearch.errors import SettingsError
from phonesearch.onnx_export.recipe import Parts
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone import backend as phone_backend
from phonesearch.phone.adb import Adb
from phonesearch.phone.runtime import installed
from phonesearch.phone.session import Session
from phonesearch.study.stopwatch import Turn
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.host import HostBackend

HOST: Final = "host"
PHONE: Final = "adb"


class Meter(Protocol):
    """Measures candidates on one machine, one after the other."""

    @property
    def fingerprint(self) -> str:
        """The machine in words."""
        ...

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """Run the turn on random int4 weights.

        Raises:
            ExportError: If there is no room for the model.
            TimingError: If it could not be timed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMeter:
    """ONNX Runtime on this machine."""

    folder: Path | None = None
    """Where an exported model lies meanwhile (about as large as its weights); None is the
    system's folder for temporary files."""

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        return HostBackend().fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        with tempfile.TemporaryDirectory(prefix=".timing-", dir=self.folder) as name:
            model = export(candidate, Path(name), GraphSettings(), seed=seed)
            return HostBackend().time(model.path, _settings(turn))


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneMeter:
    """ONNX Runtime on a phone."""

    backend: phone_backend.PhoneBackend

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        return self.backend.fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        return self.backend.time(candidate, _settings(turn), seed=seed)


def is_phone(device: str) -> bool:
    """Whether a device as typed is a phone on a cable: `adb` or `adb:SERIAL`."""
    return device.partition(":")[0] == PHONE


def profile_of(device: str) -> str:
    """Name of the profile, or its path, of a device as typed."""
    return PHONE if is_phone(device) else device


def open_meter(
    device: str,
    *,
    cache_dir: Path,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Meter:
    """The stopwatch of a device as typed.

    Args:
        device: `host`, `adb` or `adb:SERIAL`.
        cache_dir: Where the phone's library and what is pushed to it are kept.
        folder: For this machine's exported models, see `HostMeter`.
        say: Told what is waited for.

    Raises:
        SettingsError: If the device is no machine.
        PhoneError: If the phone cannot be measured.
    """
    if device == HOST:
        return HostMeter(folder=folder)
    if not is_phone(device):
        raise SettingsError(
            f"{device!r} is not a machine that can be measured: `host`, `adb` and `adb:SERIAL` are."
        )
    library = installed(cache_dir)
    session = Session(Adb.find().choose(device.partition(":")[2] or None), library)
    cores = session.report.default_cores
    return PhoneMeter(
        backend=phone_backend.PhoneBackend(
            session=session,
            parts=Parts(cache_dir / "phone-parts"),
            cores=cores,
            num_threads=len(cores),
            protocol=phone_backend.PROTOCOL,
            say=say,
        )
    )


def _settings(turn: Turn) -> TimingSettings:
    return TimingSettings(prompt_tokens=turn.prompt_tokens, generate_tokens=turn.generate_tokens)
