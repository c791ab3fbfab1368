"""Measures an exported graph with ONNX Runtime on the machine that this runs on."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from phonesearch.errors import TimingError
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.exchange import Stretch, WorkerRequest, WorkerResult
from phonesearch.timing.turn import check_settings, inspect_graph, turn_stretches
from phonesearch.units import MIB

if TYPE_CHECKING:
    from phonesearch.timing.probes import Probe

_STDERR_LINES: Final = 8
_DEFAULT_CACHE_BYTES: Final = 32 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBackend:
    """Runs each measurement in a process of its own, with ONNX Runtime's CPU provider.

    Timed are the runs of the session alone, with the cache in place and the inputs bound;
    left out are loading, tokenisation and sampling. Logits are looked at after the clock has
    stopped: one that is not finite makes the measurement an error.
    """

    timeout_s: float = 1800.0
    """Wall time after which a measurement is given up, loading included."""

    @property
    def fingerprint(self) -> str:
        """The machine in words."""
        return fingerprint()

    def time(self, model_path: Path, settings: TimingSettings) -> Measurement:
        """Time the graph at `model_path`, its weights beside it.

        Args:
            model_path: `model.onnx` of a deployment export.
            settings: Lengths, threads and repetitions.

        Raises:
            TimingError: If a setting is out of range, the graph cannot be loaded or run, the
                process dies or takes too long, or the logits are not finite.
        """
        check_settings(settings)
        weight_width = inspect_graph(model_path, settings)
        num_threads = settings.num_threads or num_physical_cores()
        result = self.sample(
            model_path,
            turn_stretches(settings),
            num_threads=num_threads,
            warmup_rounds=settings.warmup_runs,
            rounds=settings.repetitions,
        )
        if not result.outputs_finite:
            raise TimingError(
                f"{model_path} gave logits that are not finite numbers, so its times say nothing "
                "about a working model. Check the weights, or export it again with random ones."
            )
        return Measurement(
            prompt_tokens=settings.prompt_tokens,
            generate_tokens=settings.generate_tokens,
            prefill_samples_s=tuple(result.samples_s[0]),
            decode_samples_s=tuple(result.samples_s[1]),
            warmup_runs=settings.warmup_runs,
            num_threads=num_threads,
            device=fingerprint(),
            engine=f"onnxruntime {result.onnxruntime_version} {weight_width}",
            peak_memory_bytes=result.peak_memory_bytes,
        )

    def sample(
        self,
        model_path: Path,
        stretches: Sequence[Stretch],
        *,
        num_threads: int,
        warmup_rounds: int,
        rounds: int,
    ) -> WorkerResult:
        """Time stretches of runs of any graph that the worker can feed, in a process of its own.

        Args:
            model_path: `model.onnx`, its weights beside it.
            stretches: What to time; each round runs all of them.
            num_threads: Threads inside an operator.
            warmup_rounds: Rounds before the clock counts.
            rounds: Rounds that count.

        Raises:
            TimingError: If the graph cannot be loaded or run, or the process dies or takes too
                long.
        """
        return self._run(
            WorkerRequest(
                model_path=str(model_path),
                num_threads=num_threads,
                warmup_rounds=warmup_rounds,
                rounds=rounds,
                stretches=tuple(stretches),
            )
        )

    def sample_probe(
        self, probe: Probe, *, num_threads: int, warmup_rounds: int, rounds: int
    ) -> WorkerResult:
        """As `sample`, of a probe, which is written to a temporary folder.

        Raises:
            TimingError: As `sample`.
            ExportError: If there is no room for it.
        """
        with tempfile.TemporaryDirectory(prefix=".probe-") as folder:
            return self.sample(
                probe.write(Path(folder)),
                probe.stretches,
                num_threads=num_threads,
                warmup_rounds=warmup_rounds,
                rounds=rounds,
            )

    def _run(self, request: WorkerRequest) -> WorkerResult:
        process = subprocess.Popen(
            [sys.executable, "-m", "phonesearch.timing.host_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # ONNX Runtime keeps telemetry in ~/.cache/Microsoft unless told not to.
            env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
        )
        with process:
            try:
                output, errors = process.communicate(
                    json.dumps(asdict(request)), timeout=self.timeout_s
                )
            except subprocess.TimeoutExpired as error:
                raise TimingError(
                    f"Timing {request.model_path} took longer than {self.timeout_s:.0f} s and was "
                    "given up. Use fewer repetitions, a shorter prompt or a smaller model."
                ) from error
            finally:
                process.kill()  # also when this process is interrupted; no effect on a dead one
        if process.returncode:
            raise TimingError(_failure(request.model_path, process.returncode, errors))
        try:
            return WorkerResult(**json.loads(output.strip().rpartition("\n")[2]))
        except (json.JSONDecodeError, TypeError) as error:
            raise TimingError(
                f"Timing {request.model_path} ended without a result; its output ends with "
                f"{output[-200:]!r}."
            ) from error


def _failure(model_path: str, returncode: int, errors: str) -> str:
    """What to tell of a worker that died."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        how = f"was killed by {name}{hint}"
    else:
        how = f"failed with exit code {returncode}"
    tail = "\n".join(errors.strip().splitlines()[-_STDERR_LINES:])
    said = f" It said:\n{tail}" if tail else ""
    return f"The process timing {model_path} {how}.{said}"


def num_physical_cores() -> int:
    """Physical cores that this process may use, at least 1.

    Linux is asked for siblings, the allowed set and the quota of a container; elsewhere these
    are logical cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return num_logical_cores()
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text(encoding="ascii").strip() if siblings.is_file() else cpu)
    return min(len(cores), quota_cores(Path("/sys/fs/cgroup/cpu.max")) or len(cores))


def num_logical_cores() -> int:
    """Logical cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota_cores(cpu_max: Path) -> int | None:
    """Whole cores that a container's quota allows, at least 1; None where there is none.

    Args:
        cpu_max: The control group's file, `QUOTA PERIOD` in microseconds or `max PERIOD`.
    """
    if not cpu_max.is_file():
        return None
    quota, period = cpu_max.read_text(encoding="ascii").split()
    return None if quota == "max" else max(int(quota) // int(period), 1)


def last_cache_bytes() -> int:
    """Size of the last cache of the first core; 32 MiB where the system does not tell."""
    sizes = [
        int(text[:-1]) * 1024
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        if (text := path.read_text(encoding="ascii").strip()).endswith("K")
    ]
    return max(sizes, default=_DEFAULT_CACHE_BYTES)


def fingerprint() -> str:
    """The machine in words: processor, usable logical cores, architecture, system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() in ("model name", "Hardware"):
                model = value.strip()
                break
    return (
        f"{model}, {num_logical_cores()} logical cores, {platform.machine()}, {platform.system()}"
    )
