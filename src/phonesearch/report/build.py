"""Writes all results of a run from its trials; the run itself is not needed for it.

```text
trials.csv             one row a candidate
front.json             the front, with everything that its numbers depend on
pareto.html, pareto.png
report.html            the page to read
candidates/TRIAL-ID/   of each front candidate: config.json and graph.onnx (structure only)
```
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from phonesearch import files
from phonesearch.candidate.count import num_parameters
from phonesearch.candidate.huggingface import to_config
from phonesearch.device.known_models import known_models
from phonesearch.errors import RunFolderError
from phonesearch.front.pareto import Front, front
from phonesearch.onnx_export.graph import write_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.proxy.result import PROXY_CAVEAT
from phonesearch.report.data import KnownSpeed, QualityReport, ReportInput
from phonesearch.report.losses import quality_report
from phonesearch.report.write import write_results
from phonesearch.study.folder import RunFolder
from phonesearch.study.measurements import MEASUREMENTS_FILE, read_measurements
from phonesearch.study.meter import HOST
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import ScoreKind
from phonesearch.study.settings import without_serial
from phonesearch.study.stopwatch import Turn, predicted
from phonesearch.study.store import read_records
from phonesearch.units import format_bytes, format_count, format_seconds

_COMPARABLE = 2.0
"""Known models from half to twice the budget are shown."""
_JUDGED_BY: dict[ScoreKind, str] = {
    "prior": "published data alone; nothing was trained",
    "anchors": "published data and short trainings of other architectures",
    "each": "a short training of each",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was written, and the front that it shows."""

    folder: Path
    report: Path
    front: Front
    quality: QualityReport | None


def build(folder: RunFolder) -> Built:
    """Write tables, plots, report and front candidates of a run, over earlier ones.

    Raises:
        RunFolderError: If the run has no finished trial, or the disk is full.
    """
    records = read_records(folder)
    if not records:
        raise RunFolderError(
            f"{folder.path} has no finished trial to report on. Go on with it: "
            f"phonesearch run --resume {folder.path}"
        )
    found = front(records, folder.settings.speed)
    report = ReportInput(
        name=folder.path.resolve().name,
        settings=_settings_rows(folder),
        objective=folder.settings.speed,
        records=records,
        front=found,
        known=_known(folder),
        device_note=_device_note(folder, records),
        loss_note=_loss_note(folder, records),
        warnings=_warnings(folder, records),
        commands=_commands(folder, found),
        quality=quality_report(folder),
    )
    try:
        write_results(folder.path, report)
        _write_candidates(folder.path / "candidates", found)
    except OSError as error:
        raise RunFolderError(
            f"The results in {folder.path} cannot be written: {error.strerror}. No trial is "
            f"lost; free some disk space, then: phonesearch report {folder.path}"
        ) from error
    return Built(
        folder=folder.path,
        report=folder.path / "report.html",
        front=found,
        quality=report.quality,
    )


def _write_candidates(folder: Path, found: Front) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    for member in found.members:
        record = member.record
        target = folder / f"{record.number}-{record.candidate_id}"
        files.write_json(target / "config.json", to_config(record.candidate))
        files.write_json(target / "record.json", asdict(record))
        write_structure(record.candidate, target / "graph.onnx", GraphSettings())


def _known(folder: RunFolder) -> tuple[KnownSpeed, ...]:
    """Predicted speeds of released models of comparable size; none where times are measured."""
    settings = folder.settings
    if folder.profile.measured:
        return ()
    turn = Turn(prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens)
    rows = []
    for model in known_models():
        count = num_parameters(model.candidate, settings.counting)
        if not 1 / _COMPARABLE <= count / settings.budget <= _COMPARABLE:
            continue
        speed = predicted(model.candidate, folder.profile, engine=settings.engine, turn=turn).speed
        value, low, high = speed.tokens_per_s(settings.speed)
        rows.append(
            KnownSpeed(
                name=model.name, num_parameters=count, tokens_per_s=value, low=low, high=high
            )
        )
    return tuple(sorted(rows, key=lambda row: row.tokens_per_s))


def _settings_rows(folder: RunFolder) -> dict[str, str]:
    settings, constraints = folder.settings, folder.settings.constraints
    limits = []
    if constraints.max_ttft_s is not None:
        limits.append(f"TTFT at most {format_seconds(constraints.max_ttft_s)}")
    if constraints.max_memory_bytes is not None:
        limits.append(f"memory at most {format_bytes(constraints.max_memory_bytes)}")
    if constraints.min_speed_tokens_per_s is not None:
        limits.append(f"at least {constraints.min_speed_tokens_per_s:.4g} tokens/s")
    proxy = settings.proxy
    rows = {
        "device": without_serial(settings.device),
        "budget": f"{format_count(settings.budget)} parameters, {settings.counting}",
        "search space": settings.space,
        "objective": f"{settings.speed}, prompt {settings.prompt_tokens}, "
        f"answer {settings.generate_tokens} tokens, batch 1",
        "constraints": ", ".join(limits) or "none",
        "trials": str(settings.trials),
        "sampler": f"{settings.sampler}, seed {settings.seed}, batches of {settings.jobs}",
        "losses judged by": _JUDGED_BY[settings.scored_by],
        "planned pre-training": f"{proxy.horizon_tokens_per_parameter:g} tokens a parameter",
    }
    if settings.scored_by == "anchors":
        rows["anchors"] = str(settings.num_anchors)
    if settings.scored_by != "prior":
        rows["proxy"] = (
            f"{format_count(proxy.parameters)} non-embedding parameters, "
            f"{format_count(proxy.tokens)} tokens"
        )
        rows["proxy data"] = ", ".join(proxy.data) or "sources of the Python standard library"
    if settings.measure_on is not None:
        rows["front measured on"] = without_serial(settings.measure_on)
    return rows | folder.environment


def _device_note(folder: RunFolder, records: tuple[TrialRecord, ...]) -> str:
    if not folder.profile.measured:
        later = _measured_later(folder)
        if not later:
            return f"Speeds are predicted, not measured: {_predicted_note(folder, records)}"
        return f"{later} Their speeds: {_predicted_note(folder, records)}"
    kept = read_measurements(folder.path).values()
    machines = sorted({one.measurement.device for one in kept})
    on_phone = folder.profile.name != HOST
    where = f"the phone {' and '.join(machines)}" if on_phone else "this machine"
    limits = (
        "Started from adb's shell; an app may be slower or faster."
        if on_phone
        else "They say nothing about a phone."
    )
    return (
        f"Speeds were measured on {where} with ONNX Runtime on int4 weights, one process a "
        "candidate; error bars are the 10th to 90th percentile of the repetitions, and "
        f"{MEASUREMENTS_FILE} holds the raw times and how they were taken. {limits}"
    )


def _measured_later(folder: RunFolder) -> str:
    """What was measured after the search, and how that is shown; empty where nothing was."""
    kept = read_measurements(folder.path)
    if folder.settings.measure_on is None or not kept:
        return ""
    machines = " and ".join(sorted({one.measurement.device for one in kept.values()}))
    return (
        f"Those that may be on the front were measured after the search, {len(kept)} of them, on "
        f"{machines}; {MEASUREMENTS_FILE} holds the raw times and how they were taken. Only what "
        "was measured can be on the front; the others are shown at their predicted speed, and "
        "each of them would with 90 % not be on it."
    )


def _predicted_note(folder: RunFolder, records: tuple[TrialRecord, ...]) -> str:
    speed = next((record.predicted for record in records if record.predicted), None)
    coverage = f"{speed.coverage:.0%}" if speed else "most"
    engine = folder.settings.engine or folder.profile.default_engine
    return (
        f"profile {folder.profile.name}, engine {engine}, as "
        "the sum over the nodes of each candidate's exported deployment graph. The intervals are "
        f"meant to hold {coverage} of cases, from the fit's own error on models that it had not "
        f"seen. `phonesearch device show {folder.profile.name}` lists every coefficient with "
        "its source."
    )


def _loss_note(folder: RunFolder, records: tuple[TrialRecord, ...]) -> str:
    settings = folder.settings
    expected = (
        "Loss is that expected after a pre-training on "
        f"{settings.proxy.horizon_tokens_per_parameter:g} tokens a parameter, "
        "from a law fitted to published suites and from published comparisons"
    )
    if settings.scored_by == "prior":
        return (
            f"{expected}. Nothing was trained, so it knows neither your text nor your recipe. Only "
            "differences between candidates of this run mean anything."
        )
    if settings.scored_by == "anchors":
        return (
            f"{expected}, moved by the losses of scaled-down proxies of other architectures on "
            f"{format_count(settings.proxy.tokens)} tokens, the same batches in the same order for "
            f"all. {PROXY_CAVEAT}"
        )
    proxy = next((record.proxy for record in records if record.proxy), None)
    tokens = format_count(proxy.tokens) if proxy else format_count(settings.proxy.tokens)
    return (
        f"{expected} and the loss of a scaled-down proxy of each candidate, trained on {tokens} "
        f"tokens, the same batches in the same order for all. {PROXY_CAVEAT}"
    )


def _warnings(folder: RunFolder, records: tuple[TrialRecord, ...]) -> tuple[str, ...]:
    notes = []
    if len(records) < folder.settings.trials and folder.settings.time_s is None:
        notes.append(
            f"This run is not finished: {len(records)} of {folder.settings.trials} trials. "
            f"Go on with `phonesearch run --resume {folder.path}`."
        )
    if folder.settings.scored_by != "prior" and not folder.settings.proxy.data:
        notes.append(
            "Proxies were trained on Python sources. Code is repetitive and overstates what "
            "attention is worth; for a real decision pass your own text with --data."
        )
    return tuple(notes)


def _commands(folder: RunFolder, found: Front) -> dict[str, str]:
    path = folder.path
    commands = {}
    if found.recommended is not None:
        chosen = f"phonesearch export {path} --trial {found.recommended}"
        commands["Config of the recommended candidate, for your trainer"] = (
            f"{chosen} --to hf --out my-model"
        )
        commands["Its int4 package for onnxruntime-genai"] = (
            f"{chosen} --to onnx --out my-model-onnx"
        )
    more = max(folder.settings.trials * 2, len(found.ranked) + 12)
    commands["More candidates, added to this run"] = (
        f"phonesearch run --resume {path} --trials {more}"
    )
    return commands
