from __future__ import annotations

import pytest
import torch

from phonesearch.proxy.muon import StackedMuon, orthogonalise


@pytest.mark.filterwarnings("ignore")
def test_an_update_is_that_of_torch() -> None:
    """bfloat16 products in another order: equal to about three digits after three steps."""
    shapes = [(24, 16), (16, 24), (24, 16), (20, 20)]
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    theirs = [weight.detach().clone().requires_grad_() for weight in ours]
    muon = StackedMuon(ours, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    before = [weight.detach().clone() for weight in ours]
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            gradient = torch.randn(mine.shape, generator=generator)
            mine.grad, other.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    for start, mine, other in zip(before, ours, theirs, strict=True):
        moved = (other - start).norm()
        assert moved > 0.1
        assert (mine - other).norm() < 0.02 * moved


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    """The iteration aims at 0.7 to 1.2, not at exactly 1."""
    matrices = torch.randn(3, 40, 12, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_zero_grad_drops_every_gradient() -> None:
    weight = torch.ones(4, 4, requires_grad=True)
    muon = StackedMuon([weight], lr=0.1)
    weight.sum().backward()
    muon.zero_grad()
    assert weight.grad is None
