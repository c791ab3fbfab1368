"""What a measurement on a phone was made under, as JSON: all that is needed to doubt it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from phonesearch.phone.device import PhoneReport
from phonesearch.phone.hazards import hazards
from phonesearch.phone.judge import ReferenceTime, drift, spread
from phonesearch.phone.logits import Agreement
from phonesearch.phone.pushed import RunRequest
from phonesearch.phone.runner_output import RunReport
from phonesearch.phone.session import Session


@dataclass(kw_only=True)
class Tried:
    """What had to be done anew."""

    of: Tried | None = None
    """The measurement that this, of the reference, belongs to."""
    number: int = 1
    """Which try this is."""
    throttled: int = 0
    """Runs in which the phone slowed down."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep a remark."""
        if self.of is not None:
            self.of.note(f"reference: {text}")
        else:
            self.notes.append(text)


def conditions(
    session: Session,
    *,
    request: RunRequest,
    report: RunReport,
    before: PhoneReport,
    after: PhoneReport,
    tried: Tried,
    agreement: Agreement | None,
    reference_agreement: Agreement | None,
    references: Sequence[ReferenceTime],
    reference: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything about one measurement; nothing that tells of the owner.

    Args:
        session: The phone, and what runs on it.
        request: What was run.
        report: What came of it.
        before: The phone before it.
        after: The phone right after it.
        tried: What had to be done anew.
        agreement: Of the model's logits with the host's; None if they were not compared.
        reference_agreement: Likewise, of the reference.
        references: Times of the reference: the session's first, before, and after.
        reference: The reference.
    """
    first, earlier, later = references
    identity = before.identity
    return {
        "phone": {
            "maker": identity.maker,
            "model": identity.model,
            "soc": identity.soc,
            "android": identity.android,
            "fingerprint": identity.fingerprint,
            "kernel": identity.kernel,
            "features": list(before.kernel_features),
        },
        "library": {
            "version": report.onnxruntime_version,
            "sha256": session.library.sha256,
            "source": session.library.source,
            "is_checked": session.library.is_checked,
        },
        "runner_sha256": session.runner_sha256,
        "cpus_asked": list(request.cpus),
        "cpus_granted": list(report.cpus_granted),
        "num_threads": report.num_threads,
        "warmup_rounds": request.warmup_rounds,
        "rounds": request.rounds,
        "arithmetic": "int8" if report.has_dot_product else "float32",
        "clocks_hz": [list(clocks) for clocks in report.clocks_hz],
        "before": _state(before),
        "after": _state(after),
        "busy_share": before.busy.share,
        "hazards": [one.name for one in hazards(before, push_bytes=0)],
        "is_networked": before.is_networked,
        "cable_losses": session.link.losses,
        "tries": tried.number,
        "throttled": tried.throttled,
        "notes": list(tried.notes),
        "spread": [spread(rounds) for rounds in report.samples_s],
        "drift": drift(report.all_samples_s(len(report.samples_s) - 1)),
        "load_s": report.load_s,
        "reference": {
            "candidate": dict(reference),
            "first": asdict(first),
            "before": asdict(earlier),
            "after": asdict(later),
            "logits": None if reference_agreement is None else asdict(reference_agreement),
        },
        "logits": None if agreement is None else asdict(agreement),
    }


def _state(report: PhoneReport) -> dict[str, Any]:
    return {
        "thermal_status": report.heat.status,
        "skin_c": report.heat.skin_c,
        "battery_c": report.battery.temperature_c,
        "battery_level": report.battery.level,
        "battery_status": report.battery.status,
        "powered_by": list(report.battery.powered_by),
        "screen": report.wakefulness,
        "doze": report.doze,
        "is_low_power": report.is_low_power,
        "available_memory_bytes": report.memory.available_bytes,
        "cores": [
            {
                "number": core.number,
                "is_online": core.is_online,
                "clock_hz": core.clock_hz,
                "allowed_clock_hz": core.allowed_clock_hz,
                "governor": core.governor,
            }
            for core in report.cores
        ],
    }
