"""The YAML of a device: what its chip is, and what a cost model needs to know of each engine.

Every number stands beside the source it comes from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from phonesearch import catalog, files
from phonesearch.device.operators import TERMS
from phonesearch.errors import InvalidFileError, ProfileError

Basis = Literal["fit", "prior"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing known about the hardware, as its source prints it."""

    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One coefficient, and where it comes from."""

    value: float
    source: str

    def __post_init__(self) -> None:
        if not (self.value > 0 and math.isfinite(self.value)):
            raise ProfileError(f"a coefficient must be finite and above 0, got {self.value}.")
        if not self.source.strip():
            raise ProfileError("a coefficient must name its `source`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCosts:
    """What a machine that could be measured spends on each term of the cost model.

    Far finer than `Coefficients`, which are what whole-model speeds can tell.
    """

    num_threads: int
    """Threads inside an operator, at calibration and at prediction."""
    cache_bytes: Number
    """Of the last cache, what one process gets: weights and keys and values below this stay there
    from step to step."""
    far_bytes: Number
    """Weights and keys and values beyond this cost more again."""
    seconds: Mapping[str, Number]
    """Seconds a unit of each term of `device/operators.py`; a term not named costs nothing."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.seconds) - set(TERMS))
        if unknown:
            raise ProfileError(
                f"`operators.seconds` has no term {', '.join(unknown)}; it knows "
                f"{', '.join(TERMS)}."
            )
        if not self.seconds:
            raise ProfileError("`operators.seconds` must name at least one term.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """What whole-model speeds tell of one engine on one processor, for the cost model of
    `device/operators.py`."""

    memory_bandwidth_bytes_per_s: Number
    """Bytes a second of the graph's weights, cache and activations, as the engine streams
    them. Not the data sheet's peak."""
    seconds_per_call: Number
    """Added by every node of the graph that touches activations: dispatch, and the
    hand-over between threads."""
    matmul_ops_per_s: Number
    """Multiplications and additions a second in products of many rows with the weights."""
    attention_ops_per_s: Number
    """The same in attention over the cache."""
    matmul_tile_rows: Number
    """Rows that a kernel takes at a time; fewer cost as much, except a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How wrong the cost model is for one phase, found on models it was not fitted on."""

    basis: Basis
    """`fit`: all coefficients of this phase come from rows of this device and engine.
    `prior`: one or more come from elsewhere, so the interval is an assumption."""
    num_models: int
    """Distinct architectures behind the fit."""
    rows: tuple[int, ...]
    """Their `id`s in `device/data/measurements.csv`."""
    median_error: float | None
    """Median absolute relative error, each architecture predicted by a fit without it."""
    kendall_tau: float | None
    """Rank correlation of those predictions with the measurements, architecture by
    architecture."""
    interval_log_half_width: float
    """Half the width of the interval of `coverage`, in natural log: the truth is expected
    between value / exp(w) and value * exp(w)."""
    source: str
    """Where these numbers come from."""

    def __post_init__(self) -> None:
        if not self.interval_log_half_width > 0:
            raise ProfileError("`interval_log_half_width` must be above 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One inference engine at one weight width on one processor of the device."""

    description: str
    processor: Literal["CPU", "NPU"] = "CPU"
    weight_bits: int
    """Width that a weight is counted with, whatever the graph's."""
    assumptions: tuple[str, ...]
    """What the sources did not say and was assumed in the fit."""
    coefficients: Coefficients | None = None
    """Of an engine fitted on whole-model speeds."""
    operators: OperatorCosts | None = None
    """Of an engine calibrated on this very machine."""
    decode: Accuracy
    prefill: Accuracy

    def __post_init__(self) -> None:
        if (self.coefficients is None) == (self.operators is None):
            raise ProfileError("an engine must have either `coefficients` or `operators`.")

    @property
    def fitted(self) -> Coefficients:
        """The coefficients of an engine fitted on whole-model speeds.

        Raises:
            ProfileError: If it was calibrated.
        """
        if self.coefficients is None:
            raise ProfileError(
                "An engine calibrated on a machine has costs of operators, no coefficients."
            )
        return self.coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A phone, or a machine that is measured rather than predicted."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other names that people have for it; found like `name`."""
    description: str
    soc: str
    processor: Literal["CPU"]
    measured: bool = False
    """Timed with a stopwatch (`timing/`); such a profile has no engines and predicts nothing."""
    coverage: float = 0.9
    """Share of cases that the intervals of its engines are meant to hold."""
    hardware: Mapping[str, Fact] = field(default_factory=dict)
    default_engine: str | None = None
    engines: Mapping[str, Engine] = field(default_factory=dict)
    sha256: str = ""
    """Hash of the file it was read from; filled in by `read_profile`, not by the file."""

    def __post_init__(self) -> None:
        if self.measured and (self.engines or self.default_engine):
            raise ProfileError("a profile with `measured: true` has no engines.")
        if not self.measured and self.default_engine not in self.engines:
            raise ProfileError(
                f"`default_engine` must be one of {', '.join(self.engines) or '(no engines)'}, "
                f"got {self.default_engine!r}."
            )
        if not 0 < self.coverage < 1:
            raise ProfileError(f"`coverage` must lie between 0 and 1, got {self.coverage}.")

    def engine(self, name: str | None) -> tuple[str, Engine]:
        """The engine called `name`, or the default one, with its name.

        Raises:
            ProfileError: If there is none of that name, or the device is measured.
        """
        if self.measured:
            raise ProfileError(
                f"Device {self.name!r} is measured, not predicted: it has no cost model. Time "
                "the exported graph with `timing.host.HostBackend`."
            )
        wanted = name or self.default_engine or ""
        if wanted not in self.engines:
            raise ProfileError(
                f"Device {self.name!r} has no engine {wanted!r}; it has "
                f"{', '.join(sorted(self.engines))}."
            )
        return wanted, self.engines[wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSummary:
    """One line of `phonesearch device list`."""

    name: str
    aliases: tuple[str, ...]
    description: str
    soc: str
    processor: str
    measured: bool
    default_engine: str | None
    engines: Mapping[str, Engine]


def profile_sha256(path: Path) -> str:
    """Hash of a profile file, hexadecimal.

    Raises:
        InvalidFileError: If it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidFileError(path, [f"cannot be read: {error.strerror}"]) from error


def read_profile(name_or_path: str) -> DeviceProfile:
    """The shipped profile of that name, or the user's own file ending in `.yaml`.

    Raises:
        NotInCatalogError: If there is none; names the nearest one.
        InvalidFileError: If the file does not fit; all problems at once.
    """
    path = catalog.resolve(name_or_path, "device_profiles")
    profile = files.read(path, DeviceProfile)
    return replace(profile, sha256=profile_sha256(path))


def list_profiles() -> tuple[ProfileSummary, ...]:
    """All shipped profiles, by name.

    Raises:
        InvalidFileError: If one is damaged.
    """
    profiles = [read_profile(name) for name in catalog.names("device_profiles")]
    return tuple(
        ProfileSummary(
            name=profile.name,
            aliases=profile.aliases,
            description=profile.description,
            soc=profile.soc,
            processor=profile.processor,
            measured=profile.measured,
            default_engine=profile.default_engine,
            engines=profile.engines,
        )
        for profile in profiles
    )
