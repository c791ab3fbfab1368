"""Which cores of a phone are fastest: all sensible choices timed with the reference model.

What is found is kept by the build of the phone (`ro.build.fingerprint`) in the user's cache, and
is what later measurements run on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.errors import CoresWithheldError, InvalidFileError
from phonesearch.phone.cores import Core, default_cores, group
from phonesearch.phone.device import Identity
from phonesearch.phone.judge import ReferenceTime
from phonesearch.phone.protocol import Bench

_THREADS: Final = (1, 2, 4)
_GENERATED: Final = 127
"""Decode steps after a prompt by which choices are ranked: those of an answer of 128 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Cores to run on, and how many threads."""

    name: str
    """`prime`, `big`, `prime+big` or `all`."""
    cpus: tuple[int, ...]
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A choice, and what the reference model took on it; None where its cores were withheld."""

    choice: Choice
    time: ReferenceTime | None

    @property
    def turn_s(self) -> float:
        """Prompt and answer of 128 tokens each; infinite where it could not run."""
        if self.time is None:
            return float("inf")
        return self.time.prefill_s + _GENERATED * self.time.decode_s


def choices(cores: Sequence[Core]) -> tuple[Choice, ...]:
    """What is worth trying, each set of cores once, with 1, 2, 4 and as many threads as cores.

    The fastest group is the prime one; the others of the default are the big ones.
    """
    online = tuple(core.number for core in cores if core.is_online)
    both = default_cores(cores)
    groups = [entry for entry in group(cores) if entry.max_clock_hz is not None]
    prime = tuple(cpu for cpu in groups[-1].cores if cpu in both) if groups else ()
    big = tuple(cpu for cpu in both if cpu not in prime)
    found: dict[tuple[tuple[int, ...], int], Choice] = {}
    for name, cpus in (("prime", prime), ("prime+big", both), ("big", big), ("all", online)):
        for num_threads in sorted({*_THREADS, len(cpus)}):
            if 1 <= num_threads <= len(cpus):
                key = (cpus, num_threads)
                found.setdefault(key, Choice(name=name, cpus=cpus, num_threads=num_threads))
    return tuple(found.values())


def sweep(
    bench: Bench, tried: Sequence[Choice], *, progress: Callable[[Choice], None]
) -> tuple[Swept, ...]:
    """Time the reference model on each choice, fastest first.

    Args:
        bench: The phone; it runs on the fastest choice from then on.
        tried: What to try.
        progress: Told what runs next.

    Raises:
        CoresWithheldError: If no choice could be run.
        PhoneError: If one cannot be measured otherwise.
    """
    found = []
    withheld: CoresWithheldError | None = None
    for choice in tried:
        progress(choice)
        bench.choose(choice.cpus, choice.num_threads)
        try:
            found.append(Swept(choice=choice, time=bench.time_reference()))
        except CoresWithheldError as error:
            withheld = error
            found.append(Swept(choice=choice, time=None))
    ranked = tuple(sorted(found, key=lambda swept: swept.turn_s))
    if ranked and ranked[0].time is None and withheld is not None:
        raise withheld
    bench.choose(ranked[0].choice.cpus, ranked[0].choice.num_threads)
    return ranked


def keep_best(best: Choice, identity: Identity, *, cache: Path) -> Path:
    """Keep what later measurements of this phone run on, and say where.

    Args:
        best: The choice.
        identity: The phone.
        cache: Folder of the user's caches that is ours.
    """
    path = _path(identity, cache)
    files.write_json(path, {"phone": identity.fingerprint, **asdict(best)})
    return path


def best_choice(identity: Identity, *, cache: Path) -> Choice | None:
    """What a sweep of this phone found; None if there was none, or its file is damaged.

    Args:
        identity: The phone.
        cache: Folder of the user's caches that is ours.
    """
    path = _path(identity, cache)
    if not path.is_file():
        return None
    try:
        content = {
            name: value for name, value in files.read_mapping(path).items() if name != "phone"
        }
        return files.structure(content, Choice, path=path)
    except (InvalidFileError, OSError):
        return None


def _path(identity: Identity, cache: Path) -> Path:
    """Phones without a build are told apart by their model."""
    name = identity.fingerprint or f"{identity.maker} {identity.model}"
    return cache / "phones" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
