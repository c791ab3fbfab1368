"""What `benchmarks/phone_faults.py` disturbs: a tiny model that is timed on one phone.

All of it is what ships: runner and library pushed by hash, weights written on the phone from a
recipe, logits held against this computer's, then the timed run. Only patience is shorter, and the
whole backend takes any time of the emulator for a steady one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakephone_library import arm_library
from in_use import runtime_library

from phonesearch.candidate.config import Candidate
from phonesearch.errors import WrongLogitsError
from phonesearch.onnx_export.recipe import Parts, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone import session as sessions
from phonesearch.phone.adb import Adb
from phonesearch.phone.backend import PhoneBackend, PhoneSettings
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.judge import Limits
from phonesearch.phone.protocol import Reference
from phonesearch.phone.pushed import PhoneModel, RunRequest
from phonesearch.phone.session import Session
from phonesearch.timing.base import Measurement, TimingSettings
from phonesearch.timing.exchange import Stretch

PATIENCE_S = 3.0
GRACE_S = 3.0
PLAIN = RunRequest(
    stretches=(
        Stretch(new_tokens=16, past_tokens=0),
        Stretch(new_tokens=1, past_tokens=16, steps=4, settling_steps=2),
    ),
    num_threads=2,
    cpus=(4, 5, 6, 7),
    is_plain=True,
    max_seconds=6,
)
TIMED = replace(PLAIN, is_plain=False, warmup_rounds=1, rounds=40)
TINY = Candidate(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
)


LEVELS = ("session", "backend")
"""What is disturbed: a session that places and runs one model, or all of `PhoneBackend.time`."""


@contextmanager
def measurement(level: str = "session") -> Iterator[Callable[[str], Measurement]]:
    """The callable, and the model that it times."""
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_GRACE_S", GRACE_S)
        patch.setattr(sessions, "_WEIGHTS_LEAST_S", PLAIN.max_seconds)
        yield (_session if level == "session" else _backend)(Path(made))


def _session(folder: Path) -> Callable[[str], Measurement]:
    library = runtime_library(arm_library())
    recipe = write_recipe(
        TINY, folder / "model", GraphSettings(), parts=Parts(folder / "parts"), seed=2
    )
    twin = export(TINY, folder / "twin", GraphSettings(), seed=2)
    expected = expected_output(twin.path, PLAIN.stretches, capacity=PLAIN.capacity)
    model = PhoneModel.of_recipe(recipe)

    def measure(serial: str) -> Measurement:
        adb = Adb.find().choose(serial)
        with (
            Session(adb, library, patience_s=PATIENCE_S) as session,
            session.placed(model, capacity=PLAIN.capacity) as place,
        ):
            session.run(place, PLAIN, dump=folder / "logits")
            logits = np.fromfile(folder / "logits", dtype=np.float32)
            if logits.shape != expected.shape or np.abs(logits - expected).max() > 1e-4:
                raise WrongLogitsError("The phone computed other numbers than this computer.")
            report = session.run(place, TIMED)
            told = session.link.ask("getprop ro.build.fingerprint").stdout.strip()
        return Measurement(
            prompt_tokens=16,
            generate_tokens=4,
            prefill_samples_s=report.all_samples_s(0),
            decode_samples_s=report.all_samples_s(1),
            warmup_runs=TIMED.warmup_rounds,
            num_threads=report.num_threads,
            device=told,
            engine=report.onnxruntime_version,
            peak_memory_bytes=report.peak_memory_bytes,
        )

    return measure


def emulated(*, cpus: tuple[int, ...] | None, num_threads: int | None) -> PhoneSettings:
    """Settings with little patience, for a phone whose times say nothing: none of them is too far
    from another."""
    return PhoneSettings(
        cpus=cpus,
        num_threads=num_threads,
        patience_s=PATIENCE_S,
        max_seconds=PLAIN.max_seconds,
        reference=Reference(candidate=TINY, stretches=PLAIN.stretches, rounds=2, warmup_rounds=1),
        limits=Limits(drift=math.inf, spread=math.inf, reference=math.inf, cool_patience_s=2.0),
    )


def _backend(folder: Path) -> Callable[[str], Measurement]:
    library = runtime_library(arm_library())
    settings = emulated(cpus=None, num_threads=2)
    asked = TimingSettings(
        prompt_tokens=16, generate_tokens=8, repetitions=5, decode_steps=4, settling_steps=2
    )

    def measure(serial: str) -> Measurement:
        adb = Adb.find().choose(serial)
        with PhoneBackend(adb, library, settings) as backend:
            return backend.time(TINY, asked)

    return measure
