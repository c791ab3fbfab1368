"""What a run was asked to do. Written into its folder, and all that a resumed run goes by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from phonesearch.candidate.count import Counting
from phonesearch.device.speed import SpeedObjective
from phonesearch.errors import SettingsError
from phonesearch.proxy.settings import ProxySettings
from phonesearch.study.score import ScoreKind

_MOST_JOBS = 8
"""Default limit of `jobs`: candidates of one batch do not learn from each other."""

OptunaSamplerName = Literal["gp", "tpe", "nsga2", "random"]
OPTUNA_SAMPLERS: tuple[OptunaSamplerName, ...] = ("gp", "tpe", "nsga2", "random")
SamplerName = Literal["gain", "gp", "tpe", "nsga2", "random"]
SAMPLERS: tuple[SamplerName, ...] = ("gain", *OPTUNA_SAMPLERS)
"""`gain` knows the predicted speed of what it draws, see `study.gain`; the others are Optuna's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Limits that a candidate must meet to be trained at all; None is no limit."""

    max_ttft_s: float | None = None
    """Longest time to first token."""
    max_memory_bytes: int | None = None
    """Most memory at the peak of the turn, as `candidate.count.peak_memory_bytes` counts it."""
    min_speed_tokens_per_s: float | None = None
    """Least speed, in the run's own speed objective."""

    def __post_init__(self) -> None:
        for field in self.__slots__:
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise SettingsError(f"`{field}` must be above zero, got {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The worker processes of a run, and where they find their study."""

    workers: int = 1
    """That the run starts itself; 0 for none, as all are started elsewhere."""
    storage: str | None = None
    """URL of the database with its password masked; None is SQLite in the run's folder."""
    study: str
    """Name of the study in that database."""
    ray: str | None = None
    """Ray cluster that places the workers, as typed; None for processes of this machine."""
    heartbeat_s: int = 15
    """Between two signs of life of a trial that is being evaluated."""
    grace_s: int = 60
    """Without one of them, after which a trial is given to another worker."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise SettingsError(f"`workers` must be at least 0, got {self.workers}.")
        if not 0 < self.heartbeat_s < self.grace_s:
            raise SettingsError(
                "`heartbeat_s` must be above 0 and below `grace_s`, got "
                f"{self.heartbeat_s} and {self.grace_s}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Everything that decides which candidates a run evaluates, and how."""

    device: str
    """Name of the device profile; its content is copied into the run folder."""
    measure_on: str | None = None
    """Machine on which those that may be on the front are measured after the search, as typed:
    `host`, `adb`, `adb:SERIAL` or several phones. None with a device that is measured itself, or
    not at all."""
    cpus: str | None = None
    """Cores of the phone to measure on, as typed; None for the best that are known."""
    threads: int | None = None
    """Inside an operator where something is measured; None for the usual number."""
    scored_by: ScoreKind = "anchors"
    """What losses are judged by."""
    num_anchors: int = 16
    """Architectures that are trained to judge all others by, where `scored_by` is `anchors`."""
    engine: str | None
    """Inference engine of the profile; None is the profile's default."""
    space: str
    """Name of the search space; its content is copied into the run folder."""
    tokenizer: str | None = None
    """Folder of the tokenizer that the vocabulary is of; its files are copied into the run folder.
    None where the vocabulary is the space's."""
    budget: int
    """Parameters of every candidate, to within 1 %."""
    counting: Counting = "total"
    trials: int = 16
    speed: SpeedObjective = "decode"
    prompt_tokens: int = 128
    generate_tokens: int = 128
    constraints: Constraints = Constraints()
    sampler: SamplerName = "gp"
    seed: int = 0
    jobs: int = 1
    """Proxies trained side by side. Candidates are drawn in batches of this size, so it
    belongs to what makes a run repeatable."""
    time_s: float | None = None
    """How long the run may take, where it was given a time; then `trials` is the most it makes."""
    early_stopping: bool = True
    """Whether trainings of candidates are given up that cannot bring them onto the front."""
    fleet: Fleet | None = None
    """Workers that take trials from a common database; None for a run that needs none, and is
    repeatable."""
    proxy: ProxySettings

    def __post_init__(self) -> None:
        for field in ("budget", "trials", "prompt_tokens", "jobs", "num_anchors"):
            if getattr(self, field) < 1:
                raise SettingsError(f"`{field}` must be at least 1, got {getattr(self, field)}.")
        if self.time_s is not None and not self.time_s > 0:
            raise SettingsError(f"`time_s` must be above 0, got {self.time_s}.")
        if self.time_s is not None and self.measure_on is not None:
            raise SettingsError(
                "--time plans the search, and measuring its front afterwards takes what it takes. "
                "With `--measure front` give --trials."
            )
        if self.generate_tokens < 2:
            raise SettingsError(
                f"`generate_tokens` must be at least 2, got {self.generate_tokens}: the first "
                "token belongs to the prefill, so one leaves no decode step to time."
            )


def without_serial(device: str) -> str:
    """A device as typed, less the serial numbers of phones, which are personal."""
    if not device.startswith("adb:"):
        return device
    count = device.count(",") + 1
    return "adb" if count == 1 else f"adb, {count} phones"


def default_jobs() -> int:
    """One a core that this process may use, up to 8; one where proxies train on a GPU."""
    import torch  # here, as reading the settings of a run must not wait for it

    if torch.cuda.is_available():
        return 1
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        cores = os.cpu_count() or 1
    return min(cores, _MOST_JOBS)
