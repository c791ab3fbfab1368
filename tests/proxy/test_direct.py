from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from phonesearch.candidate.config import Candidate
from phonesearch.model.decoder import Decoder
from phonesearch.proxy import direct
from phonesearch.proxy.direct import DirectGradients
from phonesearch.proxy.smear import smear_keys

PLAIN = Candidate(
    vocab_size=97,
    hidden_size=24,
    intermediate_size=39,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
)
KINDS = {
    "gated silu": PLAIN,
    "gated relu": replace(PLAIN, hidden_act="relu"),
    "plain gelu": replace(PLAIN, ffn_type="plain", hidden_act="gelu"),
    "plain relu2": replace(PLAIN, ffn_type="plain", hidden_act="relu2"),
    "gated relu2": replace(PLAIN, hidden_act="relu2"),
    "one key/value head": replace(PLAIN, num_key_value_heads=1),
    "one head": replace(PLAIN, num_attention_heads=1, num_key_value_heads=1),
    "no groups": replace(PLAIN, num_key_value_heads=4),
    "untied": replace(PLAIN, tie_word_embeddings=False),
    "biases": replace(PLAIN, attention_bias=True, attention_out_bias=True, mlp_bias=True),
    "biases of queries, keys and values": replace(PLAIN, attention_bias=True),
    "q/k norms": replace(PLAIN, qk_norm=True),
}


def models(candidate: Candidate) -> tuple[Decoder, Decoder]:
    """The same weights twice, all of them away from their first values."""
    draw = torch.Generator().manual_seed(1)
    one, two = (Decoder(candidate, seed=0, dtype=torch.float32) for _ in range(2))
    smear_keys(one)
    smear_keys(two)
    with torch.no_grad():
        for weight in one.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.2)
    two.load_state_dict(one.state_dict())
    return one, two


def batch() -> torch.Tensor:
    return torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(2))


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    found = {}
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        found[name] = weight.grad.clone()
    return found


@pytest.mark.parametrize("candidate", KINDS.values(), ids=KINDS)
def test_loss_and_gradients_are_those_of_autograd(candidate: Candidate) -> None:
    plain, other = models(candidate)
    ids = batch()
    loss = F.cross_entropy(plain(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    compute = DirectGradients(other, batch_size=3, context_length=11, precision=torch.float32)
    compute(torch.zeros_like(ids))  # leaves nothing behind
    torch.testing.assert_close(compute(ids), loss.detach())
    found = gradients(other)
    for name, wanted in gradients(plain).items():
        torch.testing.assert_close(found[name], wanted, atol=2e-6, rtol=2e-4, msg=name)


@pytest.mark.parametrize("candidate", KINDS.values(), ids=KINDS)
def test_in_bfloat16_they_are_nearly_the_same(candidate: Candidate) -> None:
    plain, other = models(candidate)
    ids = batch()
    loss = F.cross_entropy(plain(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    compute = DirectGradients(other, batch_size=3, context_length=11, precision=torch.bfloat16)
    assert float(compute(ids)) == pytest.approx(float(loss.detach()), rel=0.01)
    found = gradients(other)
    for name, wanted in gradients(plain).items():
        assert F.cosine_similarity(found[name].flatten(), wanted.flatten(), dim=0) > 0.98, name


def test_the_model_computes_the_same_after_its_weights_were_packed() -> None:
    plain, other = models(PLAIN)
    DirectGradients(other, batch_size=3, context_length=11, precision=torch.float32)
    ids = batch()
    with torch.no_grad():
        torch.testing.assert_close(plain(ids), other(ids))
    assert plain.state_dict().keys() == other.state_dict().keys()


def test_weights_that_are_loaded_later_are_those_that_are_multiplied() -> None:
    plain, other = models(PLAIN)
    compute = DirectGradients(other, batch_size=3, context_length=11, precision=torch.float32)
    before = float(compute(batch()))
    with torch.no_grad():
        for weight in plain.parameters():
            weight.mul_(0.5)
    other.load_state_dict(plain.state_dict())
    ids = batch()
    after = F.cross_entropy(plain(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert float(compute(ids)) == pytest.approx(float(after.detach()), rel=1e-5)
    assert float(compute(ids)) != pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "computed again"])
def test_attention_over_several_blocks_is_that_of_autograd(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve positions in blocks of five, the last one short."""
    monkeypatch.setattr(direct, "_QUERIES_AT_ONCE", 5)
    if not kept:
        monkeypatch.setattr(direct, "_MOST_SCORES", 0)
    test_loss_and_gradients_are_those_of_autograd(PLAIN)
