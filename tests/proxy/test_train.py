from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyError, SettingsError
from phonesearch.files import structure
from phonesearch.model.decoder import Decoder
from phonesearch.proxy import train
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import learning_rate_factor
from phonesearch.proxy.result import ProxyLoss
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.smear import smear_keys
from phonesearch.proxy.train import train_proxy

REFERENCE = 1_350_000_000


@pytest.fixture(scope="module")
def trained(corpus: Corpus, settings: ProxySettings) -> ProxyLoss:
    return train_proxy(_full_size(), corpus, settings, reference_parameters=REFERENCE)


def _full_size() -> Candidate:
    return Candidate(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=128,
    )


def test_training_takes_the_loss_below_that_of_counting_tokens(
    trained: ProxyLoss, corpus: Corpus
) -> None:
    """Unigram entropy of the held-out tokens, in bits over their bytes."""
    tokens = corpus.validation_tokens()
    counts = np.bincount(tokens, minlength=corpus.vocab_size)
    shares = counts[counts > 0] / len(tokens)
    bits_per_token = -(shares * np.log2(shares)).sum()
    bytes_per_token = corpus.validation_text_bytes / len(tokens)
    assert trained.bits_per_byte < bits_per_token / bytes_per_token


def test_the_same_seed_gives_the_same_loss_to_the_last_digit(
    trained: ProxyLoss, corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    again = train_proxy(full_size, corpus, settings, reference_parameters=REFERENCE)
    assert again.bits_per_byte == trained.bits_per_byte
    assert again.curve == trained.curve


def test_another_seed_gives_another_loss(
    trained: ProxyLoss, corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    other = train_proxy(
        full_size, corpus, replace(settings, seed=1), reference_parameters=REFERENCE
    )
    assert other.bits_per_byte != trained.bits_per_byte
    assert other.recipe["seed"] == 1


def test_a_result_holds_what_makes_it_comparable(
    trained: ProxyLoss, corpus: Corpus, settings: ProxySettings
) -> None:
    assert trained.recipe["corpus_fingerprint"] == corpus.fingerprint
    assert trained.recipe["tokens"] == settings.tokens == trained.tokens
    assert trained.recipe["torch"] == torch.__version__
    assert json.loads(json.dumps(trained.recipe)) == trained.recipe
    assert structure(trained.proxy, Candidate, path=Path("proxy")).vocab_size == 320
    assert trained.curve[-1][0] == trained.tokens
    assert trained.curve[-1][1] < trained.curve[0][1]
    assert 0 < trained.standard_error < trained.bits_per_byte


def test_a_proxy_passes_the_guard_exactly_when_its_copy_gap_is_large_enough(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(settings, tokens=1280)
    for threshold, passed in ((-10.0, True), (10.0, False)):
        monkeypatch.setattr(train, "copy_gap_passed_nats", lambda _, least=threshold: least)
        loss = train_proxy(full_size, corpus, short, reference_parameters=REFERENCE)
        assert loss.passed_transition is passed


def test_settings_survive_being_written_and_read(settings: ProxySettings) -> None:
    written = json.loads(json.dumps(asdict(settings)))
    assert structure(written, ProxySettings, path=Path("settings.json")) == settings


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("parameters", 10, "`proxy.parameters` must be at least 5,000, got 10"),
        ("tokens", 100, r"`proxy.tokens` must be at least one batch \(256\), got 100"),
        ("vocab_size", 256, "`proxy.vocab_size` must be from 300 to 65,536, got 256"),
        ("matrix_lr", math.nan, "`proxy.matrix_lr` must be a finite number above 0"),
        ("cooldown_share", 1.5, "`proxy.cooldown_share` must be from 0 to 1"),
        ("precision", "int4", "`proxy.precision` must be auto, float32 or bfloat16"),
        ("device", "tpu", "`proxy.device` must be auto, cpu or cuda"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ProxySettings(**{field: value})  # type: ignore[arg-type]


def test_a_diverging_training_is_an_error_that_says_so(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: Decoder) -> None:
        smear_keys(model)
        with torch.no_grad():
            model.model.embed_tokens.weight.fill_(math.inf)

    monkeypatch.setattr(train, "smear_keys", spoiled)
    with pytest.raises(ProxyError, match="diverged: its loss is not finite by step 1 of 100"):
        train_proxy(full_size, corpus, settings, reference_parameters=REFERENCE)


def test_an_absurd_learning_rate_gives_an_error_or_a_finite_loss(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    absurd = replace(settings, matrix_lr=1e6, other_lr=1e6, tokens=2560)
    with contextlib.suppress(ProxyError):
        loss = train_proxy(full_size, corpus, absurd, reference_parameters=REFERENCE)
        assert math.isfinite(loss.bits_per_byte)


def test_running_out_of_memory_is_an_error_that_says_what_to_do(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: object, **kwargs: object) -> Decoder:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(train, "Decoder", exhausted)
    with pytest.raises(ProxyError, match=r"Memory ran out .* Use fewer --jobs"):
        train_proxy(full_size, corpus, settings, reference_parameters=REFERENCE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    wanted = replace(settings, device="cuda")
    with pytest.raises(ProxyError, match="torch finds no CUDA device"):
        train_proxy(full_size, corpus, wanted, reference_parameters=REFERENCE)


def test_a_training_stops_when_it_is_told_to(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(ProxyError, match="told to stop after"):
        train_proxy(
            full_size,
            corpus,
            settings,
            reference_parameters=REFERENCE,
            progress=lambda tokens, total: seen.append((tokens, total)),
            should_stop=lambda: len(seen) >= 10,
        )
    assert seen[0] == (128, 12_800)
    assert len(seen) < 40


def test_bfloat16_trains_nearly_as_float32_does(
    corpus: Corpus, settings: ProxySettings, full_size: Candidate
) -> None:
    losses = {
        precision: train_proxy(
            full_size,
            corpus,
            replace(settings, precision=precision),
            reference_parameters=REFERENCE,
        )
        for precision in ("float32", "bfloat16")
    }
    low, full = losses["bfloat16"], losses["float32"]
    assert low.bits_per_byte != full.bits_per_byte
    assert low.bits_per_byte == pytest.approx(full.bits_per_byte, rel=0.01)
    assert low.recipe["precision"] == "bfloat16"


def test_the_learning_rate_goes_up_stays_and_goes_down_to_nothing() -> None:
    settings = ProxySettings(
        tokens=100 * 512, warmup_steps=10, cooldown_share=0.2, batch_size=4, context_length=128
    )
    factors = [learning_rate_factor(step, settings) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:80] == [1.0] * 70
    assert factors[90] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.05)


def test_smeared_keys_are_a_mixture_with_the_position_before(tiny: Candidate) -> None:
    model = Decoder(tiny)
    plain = model.model.layers[0].get_submodule("self_attn.k_proj")
    smear_keys(model)
    smeared = model.model.layers[0].get_submodule("self_attn.k_proj")
    x_BLD = torch.randn(2, 5, tiny.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, mixed = plain(x_BLD), smeared(x_BLD)
    share = torch.sigmoid(smeared.get_parameter("mixture")).flatten()
    assert (share[[0, 3, 8, 11]] < 0.2).all()  # heads of 16: pairs 0 to 3 of 8 turn fast
    assert (share[[4, 7, 12, 15]] > 0.8).all()
    torch.testing.assert_close(mixed[:, 0], own[:, 0] * (1 - share))
    torch.testing.assert_close(mixed[:, 1:], own[:, 1:] * (1 - share) + own[:, :-1] * share)


def test_smeared_keys_see_nothing_of_the_future(tiny: Candidate) -> None:
    model = Decoder(tiny)
    smear_keys(model)
    ids = torch.arange(12).reshape(1, 12)
    changed = ids.clone()
    changed[0, 7:] = 200
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :7], model(changed)[:, :7])
