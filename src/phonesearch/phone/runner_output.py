"""What the runner on the phone said, and what became of it when it said no last word.

Pure functions over text and exit codes. Only an `end` line with `"ok": true` is success.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from phonesearch.errors import (
    CoresWithheldError,
    IllegalInstructionError,
    PhoneError,
    PhoneFullError,
    PhoneMemoryError,
    RunnerAbortedError,
    RunnerCrashedError,
    RunnerError,
    RunnerHungError,
    RunnerKilledError,
    RunnerStartError,
    WrongLibraryError,
)
from phonesearch.phone.adb_words import printable, said
from phonesearch.phone.runtime import is_broken_by_sme
from phonesearch.units import KIB

_NS: Final = 1e-9
_KHZ: Final = 1000
_DOT_PRODUCT: Final = 1 << 20
"""HWCAP_ASIMDDP. Source: Linux's arch/arm64/include/uapi/asm/hwcap.h."""
_WRONG_ABI: Final = ("32-bit", "64-bit", "EM_", "ELFCLASS", "ELF class", "e_machine")
_FULL: Final = "no space left on device"
_NO_MEMORY: Final = ("not enough memory", "bad_alloc", "failed to allocate")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run that ended as it should."""

    onnxruntime_version: str
    num_threads: int
    cpus_granted: tuple[int, ...]
    has_dot_product: bool
    """Whether the kernel tells of an int8 dot product, without which ONNX Runtime computes in
    float32."""
    samples_s: tuple[tuple[tuple[float, ...], ...], ...]
    """By stretch, then by round: seconds of each run."""
    clocks_hz: tuple[tuple[int | None, ...], ...]
    """By core, after each stretch of each round."""
    is_finite: bool
    """Whether all numbers that the model gave were finite."""
    peak_memory_bytes: int | None
    cache_bytes: int
    load_s: float

    def all_samples_s(self, stretch: int) -> tuple[float, ...]:
        """Seconds of one stretch in all rounds, in order."""
        return tuple(sample for samples in self.samples_s[stretch] for sample in samples)


def read_lines(text: str) -> tuple[Mapping[str, Any], ...]:
    """The JSON objects among the lines of `text`, one that was cut off left out."""
    found = []
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return tuple(line for line in found if isinstance(line, dict))


def last_word(text: str) -> Mapping[str, Any] | None:
    """The `end` line that says that all went well; None if there is none."""
    lines = read_lines(text)
    if lines and lines[-1].get("event") == "end" and lines[-1].get("ok") is True:
        return lines[-1]
    return None


def read_report(text: str, *, num_stretches: int, rounds: int) -> RunReport | None:
    """What was measured; None if the run did not come to its end or a line is missing.

    Args:
        text: All that the runner printed.
        num_stretches: That it was asked for.
        rounds: That it was asked for.
    """
    end = last_word(text)
    if end is None:
        return None
    start, *middle, _ = read_lines(text)
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    clocks = []
    try:
        for line in middle:
            if line["event"] == "samples":
                found[line["stretch"], line["round"]] = tuple(_NS * ns for ns in line["ns"])
                clocks.append(tuple(None if khz is None else khz * _KHZ for khz in line["khz"]))
        return RunReport(
            onnxruntime_version=str(start["onnxruntime"]),
            num_threads=start["threads"],
            cpus_granted=tuple(start["cpus_granted"]),
            has_dot_product=bool(start["hwcap"] & _DOT_PRODUCT),
            samples_s=tuple(
                tuple(found[stretch, number] for number in range(rounds))
                for stretch in range(num_stretches)
            ),
            clocks_hz=tuple(clocks),
            is_finite=bool(end["finite"]),
            peak_memory_bytes=end["peak_kb"] * KIB or None,
            cache_bytes=start["kv_bytes"],
            load_s=_NS * start["load_ns"],
        )
    except (KeyError, TypeError):
        return None


def failure(
    text: str, errors: str, exit_code: int, *, doing: str, version: str | None
) -> PhoneError:
    """Why a run came to no good end.

    Args:
        text: All that it printed.
        errors: What came beside that, from the shell or the linker.
        exit_code: As the phone's shell tells it; above 128 the number of a signal, and 128.
        doing: What it was to do, as "timing model.onnx".
        version: Of the ONNX Runtime that was pushed, if known.
    """
    lines = read_lines(text)
    last = lines[-1] if lines else {}
    if last.get("event") == "end" and last.get("ok") is False:
        stage, error = printable(str(last.get("stage"))), printable(str(last.get("error")))
        return _refusal(stage, error, exit_code, doing)
    tail = said(errors)
    it_said = f" It said: {tail}" if tail else ""
    known = _SIGNALS.get(exit_code)
    if known is None:
        return RunnerError(
            f"The runner ended with exit code {exit_code} while {doing}, without its last line."
            f"{it_said} Run `phonesearch phone doctor`, and try again; if it comes back, send us "
            "this message.",
            exit_code=exit_code,
        )
    kind, message = known
    return kind(f"{message(doing, version)}{it_said}", exit_code=exit_code)


def _refusal(stage: str, error: str, exit_code: int, doing: str) -> PhoneError:
    if _FULL in error.lower():
        return PhoneFullError(doing)
    if stage == "library":
        remedy = "Set up the official ONNX Runtime for Android with `phonesearch phone setup`."
        if any(word in error for word in _WRONG_ABI):
            remedy = (
                "It is a library for another kind of processor; take the one for arm64-v8a with "
                "`phonesearch phone setup`."
            )
        return WrongLibraryError(
            f"The phone cannot load ONNX Runtime: {error}. {remedy}",
            exit_code=exit_code,
            stage=stage,
        )
    if stage == "affinity":
        return CoresWithheldError(
            f"The phone does not give us the cores that were asked for ({error}). Wake it and "
            "switch off battery saver, which take cores away, or name others with --cpus.",
            exit_code=exit_code,
            stage=stage,
        )
    if any(word in error.lower() for word in _NO_MEMORY):
        return PhoneMemoryError(
            f"The phone ran out of memory while {doing}: {error}. Close apps or restart it, or use "
            "smaller candidates or a shorter context."
        )
    return RunnerError(
        f"The runner gave up while {doing}, at {stage}: {error}. Try again; if it comes back, send "
        "us this message.",
        exit_code=exit_code,
        stage=stage,
    )


def _not_started(doing: str, version: str | None) -> str:
    return (
        f"The phone does not start our program ({doing}): it is not for its processor, or the "
        "maker forbids programs in /data/local/tmp. A phone with a 64-bit system (arm64-v8a) is "
        "needed; if it is one, send us the output of `phonesearch phone doctor --json`."
    )


def _illegal(doing: str, version: str | None) -> str:
    what = f"The phone's processor met an instruction that it does not have while {doing} (SIGILL)."
    if is_broken_by_sme(version):
        return (
            f"{what} ONNX Runtime {version} does that on chips with SME, as the Snapdragon 8 Elite "
            "Gen 5; set up 1.24.4 or later with `phonesearch phone setup`."
        )
    return (
        f"{what} ONNX Runtime {version or 'of unknown version'} chooses kernels that this phone "
        "cannot run; set up another version with `phonesearch phone setup`."
    )


def _aborted(doing: str, version: str | None) -> str:
    return (
        f"ONNX Runtime gave up while {doing} (SIGABRT), mostly for want of memory. Close apps or "
        "restart the phone, and try again; else set up another version with `phonesearch phone "
        "setup`."
    )


def _killed(doing: str, version: str | None) -> str:
    return (
        f"The phone killed the runner while {doing} (SIGKILL), as Android does when memory runs "
        "out. Close apps or restart the phone, or use smaller candidates."
    )


def _crashed(doing: str, version: str | None) -> str:
    return (
        f"The runner crashed while {doing} (SIGSEGV or SIGBUS), with ONNX Runtime "
        f"{version or 'of unknown version'}. Set up another version with `phonesearch phone "
        "setup`; if it comes back, send us this message."
    )


def _hung(doing: str, version: str | None) -> str:
    return (
        f"The runner did not end in time while {doing} and ended itself (SIGALRM). Wake the phone, "
        "keep it on a charger, and try again; a model that is too slow needs fewer repetitions or "
        "a shorter prompt."
    )


_SIGNALS: Final = {
    126: (RunnerStartError, _not_started),
    127: (RunnerStartError, _not_started),
    132: (IllegalInstructionError, _illegal),
    134: (RunnerAbortedError, _aborted),
    135: (RunnerCrashedError, _crashed),
    137: (RunnerKilledError, _killed),
    139: (RunnerCrashedError, _crashed),
    142: (RunnerHungError, _hung),
}
