"""The stopwatch of a real machine: this one, a phone, or several phones of one model."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from phonesearch.candidate.config import Candidate
from phonesearch.locks import Quiet
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.pool import PhonePool
from phonesearch.study.stopwatch import Turn
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.host import HostBackend

HOST: Final = "host"


class Meter(Protocol):
    """Measures candidates on machines of one kind."""

    @property
    def num_at_once(self) -> int:
        """Candidates that may be measured at once, from as many threads."""
        ...

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

    def stop(self) -> None:
        """Let what is being measured end soon; from any thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMeter:
    """ONNX Runtime on this machine."""

    folder: Path | None = None
    """Where an exported model lies meanwhile (about as large as its weights); None is the
    system's folder for temporary files."""
    num_threads: int | None = None
    """Inside an operator; None is one a physical core."""
    quiet: Quiet | None = None
    """Keeps timings of this machine apart from each other and from trainings, whoever makes them;
    None where nobody else can be."""

    @property
    def num_at_once(self) -> int:
        """See `Meter`."""
        return 1

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        return HostBackend().fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        with tempfile.TemporaryDirectory(prefix=".timing-", dir=self.folder) as name:
            model = export(candidate, Path(name), GraphSettings(), seed=seed)
            with nullcontext() if self.quiet is None else self.quiet.alone():
                return HostBackend().time(model.path, _settings(turn, num_threads=self.num_threads))

    def stop(self) -> None:
        """Nothing: it measures in the caller's own thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneMeter:
    """ONNX Runtime on phones, each measuring one candidate at a time."""

    phones: PhonePool
    """Within its `with` block."""

    @property
    def num_at_once(self) -> int:
        """See `Meter`."""
        return self.phones.num_phones

    @property
    def fingerprint(self) -> str:
        """See `Meter`."""
        return self.phones.fingerprint

    def measure(self, candidate: Candidate, turn: Turn, *, seed: int = 0) -> Measurement:
        """See `Meter`."""
        return self.phones.time(candidate, _settings(turn), seed=seed)

    def stop(self) -> None:
        """See `Meter`."""
        self.phones.stop()


def _settings(turn: Turn, *, num_threads: int | None = None) -> TimingSettings:
    return TimingSettings(
        prompt_tokens=turn.prompt_tokens,
        generate_tokens=turn.generate_tokens,
        num_threads=num_threads,
    )
