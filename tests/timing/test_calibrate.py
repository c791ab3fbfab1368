"""Probes of single operators, the fit on them, and the profile that comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import onnx
import pytest

from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.device.cost import predict
from phonesearch.device.fitted import profile_content
from phonesearch.device.operators import (
    TERMS,
    OperatorRates,
    operator_run_seconds,
    uncached_share,
    units,
)
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.work import MatMul, graph_work
from phonesearch.errors import PhoneSearchError, TimingError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.timing.calibrate import (
    CheckedTime,
    ProbeTime,
    fit_operators,
    probe_times,
    score,
)
from phonesearch.timing.calibrate_draw import draw_candidates
from phonesearch.timing.calibrate_profile import calibrated_profile
from phonesearch.timing.probe_run import ProbeRecord, run_probes
from phonesearch.timing.probes import (
    Probe,
    build_probe,
    designed_probes,
    feeds,
    probe_units,
    work_of,
)

CACHE_BYTES = 32 * 1024**2
SMALL = (
    Probe(kind="matmul", sizes=(64, 96), copies=3, runs=((1, 0), (4, 0))),
    Probe(kind="attention", sizes=(4, 2, 16), copies=2, runs=((1, 8), (4, 0))),
    Probe(kind="norm", sizes=(64,), copies=2, runs=((1, 0),)),
    Probe(kind="silu", sizes=(64,), copies=2, runs=((1, 0),)),
    Probe(kind="gelu", sizes=(64,), copies=2, runs=((1, 0),)),
    Probe(kind="copy", sizes=(64,), copies=3, runs=((1, 0),)),
)
TRUTH = {
    "call": 1e-6,
    "matvec_byte": 5e-11,
    "matvec_uncached_byte": 5e-11,
    "matmul_operation": 1e-11,
    "step_attention_operation": 1e-10,
    "prompt_attention_operation": 2e-11,
    "norm_byte": 7e-11,
    "silu_byte": 3e-11,
    "gelu_byte": 8e-11,
    "copy_byte": 2e-11,
}


def exact_times() -> list[ProbeTime]:
    """What a machine of the costs `TRUTH` would show, without noise."""
    return [
        ProbeTime(
            probe=probe,
            new_tokens=new,
            past_tokens=past,
            seconds=sum(
                amount * TRUTH.get(term, 0.0)
                for term, amount in probe_units(probe, new, past, cache_bytes=CACHE_BYTES).items()
            ),
            spread=0.0,
        )
        for probe in designed_probes(CACHE_BYTES)
        for new, past in probe.runs
    ]


def record(probe: Probe, number: int, *samples_s: float) -> ProbeRecord:
    return ProbeRecord(
        probe=probe.name,
        round=number,
        num_threads=1,
        device="a machine",
        samples_s=tuple((sample,) for sample in samples_s),
        onnxruntime_version="1.0",
    )


def checked(predicted_s: float, measured_s: float, *, phase: str = "prefill") -> CheckedTime:
    return CheckedTime(
        phase=phase,
        context=0,
        measured_s=measured_s,
        predicted_s=predicted_s,
        repeat_spread=0.01,
    )


def test_a_fit_finds_the_costs_of_an_exact_machine() -> None:
    found = fit_operators(exact_times(), cache_bytes=CACHE_BYTES)

    for term, seconds in TRUTH.items():
        assert found.seconds[term] == pytest.approx(seconds, rel=1e-3), term
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_every_probe_has_a_name_of_its_own() -> None:
    probes = designed_probes(CACHE_BYTES)

    assert len({probe.name for probe in probes}) == len(probes)


def test_the_probes_between_them_show_every_term() -> None:
    shown = {
        term
        for probe in designed_probes(CACHE_BYTES)
        for new, past in probe.runs
        for term, amount in probe_units(probe, new, past, cache_bytes=CACHE_BYTES).items()
        if amount > 0
    }

    assert shown == set(TERMS)


@pytest.mark.parametrize("probe", SMALL, ids=lambda probe: probe.kind)
def test_a_probe_has_as_many_nodes_as_it_is_counted_with(probe: Probe) -> None:
    graph = build_probe(probe).graph

    assert len(graph.node) == len(work_of(probe))
    fed = {name for name, *_ in feeds(probe, *probe.runs[0])}
    assert fed == {value.name for value in graph.input}


def test_weights_of_a_probe_are_counted_as_they_are_stored() -> None:
    model = build_probe(SMALL[0])
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)

    assert isinstance(model, onnx.ModelProto)
    assert stored == sum(
        item.weight_bytes for item in work_of(SMALL[0]) if isinstance(item, MatMul)
    )


def test_probes_run_and_go_on_from_their_record(tmp_path: Path) -> None:
    path = tmp_path / "mine.probes.jsonl"
    told: list[str] = []

    def run(probes: tuple[Probe, ...]) -> list[ProbeRecord]:
        return run_probes(
            probes, path, num_threads=1, rounds=1, repetitions=1, progress=told.append
        )

    first = run(SMALL[:2])
    path.write_text(path.read_text() + '{"probe": "cut')
    told.clear()
    again = run(SMALL[:2])

    assert not told
    assert again == first
    assert [len(line.samples_s) for line in first] == [2, 2]
    assert all(sample > 0 for line in first for run_s in line.samples_s for sample in run_s)


def test_all_kinds_of_element_wise_probe_run(tmp_path: Path) -> None:
    found = run_probes(
        SMALL[2:],
        tmp_path / "r.jsonl",
        num_threads=1,
        rounds=1,
        repetitions=1,
        progress=lambda _: None,
    )

    assert [line.probe.partition("-")[0] for line in found] == ["norm", "silu", "gelu", "copy"]


def test_a_record_of_other_threads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    options = {"rounds": 1, "repetitions": 1}
    run_probes(SMALL[3:4], path, num_threads=1, progress=lambda _: None, **options)

    with pytest.raises(TimingError, match="holds probes of 1 threads"):
        run_probes(SMALL[3:4], path, num_threads=2, progress=lambda _: None, **options)


def test_a_disturbed_round_is_dropped_and_shows() -> None:
    probe = SMALL[2]
    found = probe_times([probe], [record(probe, 0, 0.002), record(probe, 1, 0.003)])

    assert [time.seconds for time in found] == [0.002]
    assert found[0].spread == pytest.approx(0.5)


def test_weights_below_a_quarter_of_the_cache_stay_and_from_three_quarters_on_none_do() -> None:
    assert uncached_share(0.25, 1.0) == 0
    assert uncached_share(0.5, 1.0) == pytest.approx(0.5)
    assert uncached_share(0.75, 1.0) == 1
    assert uncached_share(9.0, 1.0) == 1


def test_no_unit_shrinks_as_a_matrix_a_context_or_a_prompt_grows() -> None:
    matrix = work_of(SMALL[0])[0]
    attention = work_of(SMALL[1])[0]
    assert isinstance(matrix, MatMul)
    wider = replace(matrix, rows=2 * matrix.rows, weight_bytes=2 * matrix.weight_bytes)
    pairs = [
        (
            units(matrix, new_tokens=n, past_tokens=0, uncached=1),
            units(wider, new_tokens=n, past_tokens=0, uncached=1),
        )
        for n in (1, 8)
    ]
    pairs += [
        (
            units(attention, new_tokens=n, past_tokens=8, uncached=1),
            units(attention, new_tokens=n, past_tokens=9, uncached=1),
        )
        for n in (1, 8)
    ]
    for small, large in pairs:
        assert all(large[term] >= small[term] for term in small)
        assert any(large[term] > small[term] for term in small)


def test_a_score_by_hand() -> None:
    """Errors +5 %, -20 %, +10 %: median 10 %, two of three within; order kept throughout."""
    found = score([checked(1.05, 1.0), checked(1.6, 2.0), checked(3.3, 3.0)], "prefill")

    assert found.num_candidates == 3
    assert found.median_error == pytest.approx(0.1)
    assert found.kendall_tau == pytest.approx(1)
    assert found.rms_log_error == pytest.approx(
        math.sqrt((math.log(1.05) ** 2 + math.log(0.8) ** 2 + math.log(1.1) ** 2) / 3)
    )


def test_the_same_seed_draws_the_same_candidates_and_different_ones() -> None:
    first = draw_candidates(2, seed=1)

    assert first == draw_candidates(2, seed=1)
    assert first != draw_candidates(2, seed=2)
    assert len(set(first)) == 2


@pytest.fixture
def profile() -> DeviceProfile:
    times = exact_times()
    return calibrated_profile(
        "mine",
        times=times,
        records=[record(SMALL[2], 0, 1.0)],
        known=fit_operators(times, cache_bytes=CACHE_BYTES),
        checked=[
            checked(1.05 * n, n, phase=phase)
            for phase in ("decode", "prefill")
            for n in (1, 2, 3, 4)
        ],
        today=date(2026, 11, 24),
    )


def test_a_calibrated_profile_is_read_back_and_predicts_the_sum_of_its_operators(
    tmp_path: Path, tiny: Candidate, profile: DeviceProfile
) -> None:
    path = tmp_path / "mine.yaml"
    files.write_yaml(path, profile_content(profile))
    read = read_profile(str(path))
    structure = build_structure(tiny, GraphSettings())
    found = predict(structure, read, engine=None, prompt_tokens=16, generate_tokens=8)
    costs = read.engines["onnxruntime-cpu-int4-1t"].coefficients.operators

    assert costs is not None
    by_hand = sum(
        count * amount * costs.seconds[term].value
        for item, count in graph_work(structure).items
        for term, amount in units(item, new_tokens=16, past_tokens=0, uncached=0).items()
        if term in costs.seconds and term != "call"
    )
    by_hand += graph_work(structure).num_calls * costs.seconds["call"].value
    assert found.speed.ttft.value_s == pytest.approx(by_hand)
    assert found.speed.turn.value_s > found.speed.ttft.value_s
    assert all("2026-11-24" in number.source for number in costs.seconds.values())


def test_a_term_that_does_not_exist_is_refused(tmp_path: Path, profile: DeviceProfile) -> None:
    content = profile_content(profile)
    seconds = content["engines"]["onnxruntime-cpu-int4-1t"]["coefficients"]["operators"]["seconds"]
    seconds["magic"] = seconds["call"]
    path = tmp_path / "mine.yaml"
    files.write_yaml(path, content)

    with pytest.raises(PhoneSearchError, match="no term magic"):
        read_profile(str(path))


def test_rates_without_a_term_charge_nothing_for_it(tiny: Candidate) -> None:
    known = OperatorRates(cache_bytes=CACHE_BYTES, seconds={"gelu_byte": 1.0})
    work = graph_work(build_structure(tiny, GraphSettings()))

    assert sum(operator_run_seconds(work, known, new_tokens=1, past_tokens=4).values()) == 0
