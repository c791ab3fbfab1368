"""Probes of operators and small decoders, the fit on them, and the profile that comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import pytest

from phonesearch import files
from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.device.cost import predict, rates
from phonesearch.device.fitted import profile_content
from phonesearch.device.operators import (
    STEP_TERMS,
    TERMS,
    Rates,
    Run,
    run_seconds,
    run_units,
    threads_of,
    uncached_share,
    units,
)
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.device.work import Attention, ElementWise, MatMul, graph_work
from phonesearch.errors import PhoneSearchError, TimingError
from phonesearch.onnx_export.graph import build_structure
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.timing.calibrate import (
    CheckedTime,
    Phase,
    ProbeTime,
    check,
    fit_operators,
    probe_times,
    score,
)
from phonesearch.timing.calibrate_profile import calibrated_profile
from phonesearch.timing.exchange import Stretch, WorkerResult
from phonesearch.timing.host import HostBackend
from phonesearch.timing.probe_run import ProbeRecord, run_probes
from phonesearch.timing.probes import (
    BUDGETS,
    DecoderProbe,
    OperatorProbe,
    Probe,
    decoder_probes,
    operator_probes,
    unseen_probes,
)

CACHE_BYTES = 32 * 1024**2
STEP = Stretch(new_tokens=1, past_tokens=8, steps=3)
PROMPT = Stretch(new_tokens=4, past_tokens=0)
SMALL: tuple[Probe, ...] = (
    OperatorProbe(kind="matmul", sizes=(64, 96), copies=3, stretches=(STEP, PROMPT)),
    OperatorProbe(kind="attention", sizes=(4, 2, 16), copies=2, stretches=(STEP, PROMPT)),
    OperatorProbe(kind="norm", sizes=(64,), copies=2, stretches=(PROMPT,)),
    OperatorProbe(kind="silu", sizes=(64,), copies=2, stretches=(PROMPT,)),
    OperatorProbe(kind="gelu", sizes=(64,), copies=2, stretches=(PROMPT,)),
    OperatorProbe(kind="copy", sizes=(64,), copies=3, stretches=(PROMPT,)),
    DecoderProbe(
        candidate=Candidate(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
        ),
        stretches=(STEP, PROMPT),
    ),
)
DESIGNED: tuple[Probe, ...] = (*operator_probes(CACHE_BYTES), *decoder_probes())
TRUTH = Rates(
    num_threads=2,
    cache_bytes=CACHE_BYTES / 2,
    far_bytes=CACHE_BYTES * 1.5,
    seconds={
        "step_run": 3e-5,
        "step_uncached_call": 2e-6,
        "matvec_byte": 2e-11,
        "matvec_uncached_byte": 3e-11,
        "matvec_ragged_output": 5e-9,
        "matvec_call": 4e-6,
        "step_attention_head": 1e-6,
        "step_attention_operation": 4e-11,
        "step_norm_byte": 7e-10,
        "step_silu_byte": 3e-10,
        "step_gelu_byte": 8e-10,
        "step_copy_byte": 2e-10,
        "prompt_run": 1e-4,
        "prompt_silu_byte": 2e-11,
        "prompt_copy_byte": 2e-11,
        "matmul_operation": 4e-12,
        "matmul_output": 7e-10,
        "matmul_call": 1e-5,
        "prompt_attention_operation": 8e-12,
        "prompt_norm_byte": 3e-11,
        "prompt_gelu_byte": 9e-11,
    },
)


def exact_times(known: Rates = TRUTH, *, noise: float = 0.0) -> list[ProbeTime]:
    """What a machine of those costs would show; with noise, a few times far too slow."""
    generator = np.random.default_rng(0)
    found = []
    for probe in DESIGNED:
        work = graph_work(probe.structure())
        for stretch in probe.stretches:
            past = stretch.past_tokens + stretch.steps // 2
            seconds = math.fsum(
                run_seconds(work, known, new_tokens=stretch.new_tokens, past_tokens=past).values()
            )
            seconds *= math.exp(noise * generator.standard_normal())
            if noise and generator.random() < 0.05:
                seconds *= 1.5
            found.append(
                ProbeTime(
                    probe=probe.name,
                    work=work,
                    new_tokens=stretch.new_tokens,
                    past_tokens=past,
                    seconds=seconds,
                    spread=0.0,
                )
            )
    return found


def record(probe: Probe, number: int, *samples_s: float) -> ProbeRecord:
    return ProbeRecord(
        probe=probe.name,
        round=number,
        num_threads=1,
        device="a machine",
        samples_s=tuple((sample,) for sample in samples_s),
        onnxruntime_version="1.0",
    )


def checked(
    predicted_s: float, measured_s: float, *, phase: Phase = "prefill", probe: str = ""
) -> CheckedTime:
    return CheckedTime(
        probe=probe or str(measured_s),
        phase=phase,
        context=0,
        measured_s=measured_s,
        predicted_s=predicted_s,
        repeat_spread=0.01,
    )


def test_a_fit_finds_the_costs_of_an_exact_machine() -> None:
    found = fit_operators(exact_times(), num_threads=2, last_cache_bytes=CACHE_BYTES)

    assert found.cache_bytes == TRUTH.cache_bytes
    for term, seconds in TRUTH.seconds.items():
        assert found.seconds[term] == pytest.approx(seconds, rel=0.02), term


def test_a_fit_on_noise_and_disturbances_predicts_unseen_candidates() -> None:
    """A spread of 3 % and one time of twenty half as slow again."""
    found = fit_operators(exact_times(noise=0.03), num_threads=2, last_cache_bytes=CACHE_BYTES)
    unseen = [
        ProbeTime(
            probe=probe.name,
            work=work,
            new_tokens=new,
            past_tokens=past,
            seconds=math.fsum(run_seconds(work, TRUTH, new_tokens=new, past_tokens=past).values()),
            spread=0.0,
        )
        for probe in unseen_probes(16, seed=5)
        for work in [graph_work(probe.structure())]
        for new, past in ((128, 0), (1, 128), (1, 1024))
    ]
    errors = sorted(abs(one.error) for one in check(unseen, found))

    assert errors[len(errors) // 2] < 0.02
    assert errors[len(errors) * 9 // 10] < 0.06


def test_every_probe_has_a_name_of_its_own() -> None:
    assert len({probe.name for probe in DESIGNED}) == len(DESIGNED)


def test_the_probes_between_them_show_every_term() -> None:
    shown = {
        term for time in exact_times() for term, amount in time.units(TRUTH).items() if amount > 0
    }

    assert shown == set(TERMS)


@pytest.mark.parametrize("probe", SMALL, ids=lambda probe: probe.name)
def test_a_probe_is_counted_the_same_with_and_without_its_weights(
    probe: Probe, tmp_path: Path
) -> None:
    written = onnx.load(probe.write(tmp_path), load_external_data=False)
    assert graph_work(written) == graph_work(probe.structure())


def test_operators_alone_are_counted_as_the_nodes_that_they_are() -> None:
    kinds = {"matmul": MatMul, "attention": Attention}
    for probe in SMALL[:-1]:
        assert isinstance(probe, OperatorProbe)
        work = graph_work(probe.structure())
        assert sum(count for _, count in work.items) == probe.copies
        assert {type(item) for item, _ in work.items} == {kinds.get(probe.kind, ElementWise)}


def test_probes_run_and_go_on_from_their_record(tmp_path: Path) -> None:
    path = tmp_path / "mine.probes.jsonl"

    def run(timer: HostBackend) -> list[ProbeRecord]:
        return run_probes(
            SMALL,
            path,
            timer=timer,
            num_threads=1,
            rounds=1,
            progress=lambda *_: None,
        )

    first = run(HostBackend())
    path.write_text(path.read_text() + '{"probe": "cut')
    again = run(HostBackend(timeout_s=0.0))  # which would fail if it ran anything

    assert again == first
    assert [len(line.samples_s) for line in first] == [len(p.stretches) for p in SMALL]
    assert all(sample > 0 for line in first for samples in line.samples_s for sample in samples)


class Recorder:
    """A timer that remembers in which order it was asked."""

    fingerprint = "a machine"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def sample_probe(
        self, probe: Probe, *, num_threads: int, warmup_rounds: int, rounds: int
    ) -> WorkerResult:
        self.asked.append(probe.structure().graph.node[0].op_type)
        return WorkerResult(
            samples_s=[[1.0] for _ in probe.stretches],
            peak_memory_bytes=None,
            onnxruntime_version="1.0",
            outputs_finite=True,
        )


def run_recorded(timer: Recorder, path: Path) -> list[ProbeRecord]:
    return run_probes(
        SMALL[:4],
        path,
        timer=timer,
        num_threads=1,
        rounds=2,
        progress=lambda *_: None,
    )


def test_rounds_come_back_to_a_probe_after_all_others_in_another_order(tmp_path: Path) -> None:
    timer = Recorder()
    found = run_recorded(timer, tmp_path / "r.jsonl")

    first, second = timer.asked[:4], timer.asked[4:]
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 4
    assert first != second
    assert [line.round for line in found] == 4 * [0, 1]


def test_a_record_of_other_threads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    def run(num_threads: int) -> None:
        run_probes(
            SMALL[2:3],
            path,
            timer=Recorder(),
            num_threads=num_threads,
            rounds=1,
            progress=lambda *_: None,
        )

    run(1)
    with pytest.raises(TimingError, match="holds probes of 1 threads"):
        run(2)


def test_the_round_in_the_middle_counts_and_its_scatter_shows() -> None:
    probe = SMALL[2]
    rounds = [record(probe, number, time) for number, time in enumerate((0.0021, 0.004, 0.002))]
    found = probe_times([probe], rounds)

    assert [time.seconds for time in found] == [0.0021]
    assert found[0].spread == pytest.approx(0.0001 / 0.0021)
    assert probe_times([probe], rounds[:2])[0].seconds == 0.0021


def test_what_fits_the_cache_stays_there_and_of_much_more_nothing_does() -> None:
    shares = [uncached_share(size, 1.0) for size in (0.5, 0.79, 1.0, 1.5, 2.0, 4.0, 9.0)]

    assert shares[:2] == [0.0, 0.0]
    assert shares == sorted(shares)
    assert shares[-1] > 0.99
    # The mean over caches of 0.8, 1 and 1.25: of 2 / 0.8 all but 10.7 %, and so on.
    assert shares[4] == pytest.approx((0.8926 + 0.7968 + 0.6420) / 3, abs=1e-3)


def test_no_unit_shrinks_as_a_matrix_a_context_or_a_prompt_grows() -> None:
    matrix = MatMul(
        category="ffn",
        rows=96,
        columns=128,
        weight_bits=4,
        weight_bytes=7680,
        scale_bytes=1536,
        last_token_only=False,
    )
    attention = Attention(
        num_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        local_window_size=-1,
        cache_bytes_per_position=256,
    )
    step = Run(new_tokens=1, past_tokens=8, num_threads=2, uncached=1.0, far=1.0)
    prompt = replace(step, new_tokens=8)
    wider = replace(matrix, rows=192, weight_bytes=15360)
    pairs = [
        (units(matrix, run), units(larger, run))
        for larger in (wider, replace(matrix, columns=256, weight_bytes=15360))
        for run in (step, prompt)
    ]
    pairs += [
        (units(attention, run), units(attention, replace(run, past_tokens=9)))
        for run in (step, prompt)
    ]
    pairs += [
        (units(attention, run), units(replace(attention, num_heads=8), run))
        for run in (step, prompt)
    ]
    for small, large in pairs:
        assert all(large[term] >= small[term] for term in small)
        assert any(large[term] > small[term] for term in small)


def test_heads_are_dealt_out_to_threads_whole() -> None:
    attention = Attention(
        num_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        local_window_size=-1,
        cache_bytes_per_position=128,
    )
    heads = [
        units(
            attention,
            Run(new_tokens=1, past_tokens=8, num_threads=threads, uncached=0.0, far=0.0),
        )["step_attention_head"]
        for threads in (1, 2, 3, 4)
    ]

    assert heads == [3, 2, 1, 1]


def test_a_rest_of_blocks_costs_a_prompt_always_and_a_step_in_long_rows() -> None:
    def ragged(columns: int, tokens: int) -> float:
        matrix = MatMul(
            category="ffn",
            rows=10,
            columns=columns,
            weight_bits=4,
            weight_bytes=columns * 6,
            scale_bytes=columns,
            last_token_only=False,
        )
        run = Run(new_tokens=tokens, past_tokens=0, num_threads=1, uncached=0.0, far=0.0)
        return next(n for term, n in units(matrix, run).items() if "ragged" in term)

    assert [ragged(columns, 1) for columns in (832, 896, 960, 1024, 1088)] == [0, 0, 10, 0, 10]
    assert [ragged(columns, 2) for columns in (832, 896, 960, 1024, 1088)] == [20, 0, 20, 0, 20]


def test_a_small_product_stays_on_one_thread() -> None:
    assert [threads_of(256, columns, 1, 2) for columns in (192, 256)] == [1, 2]
    assert threads_of(256, 192, 128, 2) == 2
    assert threads_of(4096, 4096, 1, 1) == 1


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
    first = [probe.candidate for probe in unseen_probes(9, seed=1)]

    assert first == [probe.candidate for probe in unseen_probes(9, seed=1)]
    assert first != [probe.candidate for probe in unseen_probes(9, seed=2)]
    assert len(set(first)) == 9
    for candidate, budget in zip(first, (*BUDGETS, BUDGETS[0]), strict=True):
        assert total_parameters(candidate) == pytest.approx(budget, rel=0.1)


def test_no_candidate_that_is_checked_is_one_that_was_fitted() -> None:
    fitted = {probe.candidate for probe in decoder_probes()}

    assert not fitted & {probe.candidate for probe in unseen_probes(30, seed=0)}


@pytest.fixture
def profile() -> DeviceProfile:
    times = exact_times()
    return calibrated_profile(
        "mine",
        times=times,
        records=[record(SMALL[2], 0, 1.0)],
        known=fit_operators(times, num_threads=2, last_cache_bytes=CACHE_BYTES),
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
    costs = read.engines["onnxruntime-cpu-int4-2t"].operators

    assert costs is not None
    assert costs.num_threads == 2
    by_hand = sum(
        amount * costs.seconds[term].value
        for own in run_units(
            graph_work(structure),
            rates(read.engines[found.engine]),
            new_tokens=16,
            past_tokens=0,
        ).values()
        for term, amount in own.items()
        if term in costs.seconds
    )
    assert found.speed.ttft.value_s == pytest.approx(by_hand)
    assert found.speed.turn.value_s > found.speed.ttft.value_s
    assert all("2026-11-24" in number.source for number in costs.seconds.values())


def test_a_term_that_does_not_exist_is_refused(tmp_path: Path, profile: DeviceProfile) -> None:
    content = profile_content(profile)
    seconds = content["engines"]["onnxruntime-cpu-int4-2t"]["operators"]["seconds"]
    seconds["magic"] = seconds["step_run"]
    path = tmp_path / "mine.yaml"
    files.write_yaml(path, content)

    with pytest.raises(PhoneSearchError, match="no term magic"):
        read_profile(str(path))


def test_rates_without_a_term_charge_nothing_for_it(tiny: Candidate) -> None:
    known = replace(TRUTH, seconds={"step_gelu_byte": 1.0})
    work = graph_work(build_structure(tiny, GraphSettings()))

    assert sum(run_seconds(work, known, new_tokens=1, past_tokens=4).values()) == 0


def test_terms_of_steps_and_prompts_are_all_and_none_twice() -> None:
    assert len(set(TERMS)) == len(TERMS)
    assert set(STEP_TERMS) < set(TERMS)
