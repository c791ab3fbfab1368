"""Candidates to time on the fake phone, and what is asked of times that mean nothing."""

from __future__ import annotations

from collections.abc import Callable

from fakephone_rig import FakePhone

from phonesearch.candidate.config import Candidate
from phonesearch.phone.adb import REMOTE_FOLDER
from phonesearch.phone.backend import PhoneBackend, Protocol
from phonesearch.timing.base import TimingSettings

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
SETTINGS = TimingSettings(
    prompt_tokens=16,
    generate_tokens=8,
    warmup_runs=1,
    repetitions=2,
    decode_steps=4,
    settling_steps=1,
)
ANYTHING_GOES = Protocol(
    reference=TINY, reference_tokens=8, reference_drift=1e9, step_drift=1e9, max_seconds=30
)

Start = Callable[..., PhoneBackend]


def left(phone: FakePhone) -> set[str]:
    """Kinds of what lies in our folder on the phone."""
    folder = phone.place(REMOTE_FOLDER)
    return {path.relative_to(folder).parts[0].split("-")[0] for path in folder.rglob("*")}
