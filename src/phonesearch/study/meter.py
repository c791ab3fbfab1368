"""The stopwatch of a real machine: this one, or a phone."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.backend import PhoneBackend
from phonesearch.study.stopwatch import Turn
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.host import HostBackend

HOST: Final = "host"


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

    backend: PhoneBackend
    """Within its `with` block."""

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        return self.backend.fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        return self.backend.time(candidate, _settings(turn), seed=seed)


def _settings(turn: Turn) -> TimingSettings:
    return TimingSettings(prompt_tokens=turn.prompt_tokens, generate_tokens=turn.generate_tokens)
