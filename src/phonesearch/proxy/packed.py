"""The weights of a layer as few matrices, and norms with their way back.

Projections that read the same input are rows of one matrix, so that they are one product; each
parameter stays what it was, as a part of that matrix, and its gradient a part of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix with what several projections of the same input have side by side."""

    weight: Tensor
    grad: Tensor
    bias: Tensor | None
    bias_grad: Tensor | None


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """All weights of one layer."""

    qkv: Product
    out: Product
    inner: Product
    down: Product
    norm: nn.Parameter
    ffn_norm: nn.Parameter
    mixture: nn.Parameter
    q_norm: nn.Parameter | None
    k_norm: nn.Parameter | None


@dataclass(slots=True)
class Normed:
    """What the backward pass of a norm needs."""

    unit: Tensor
    scale: Tensor


def packed_layer(block: nn.Module, *, gated: bool) -> PackedLayer:
    """The weights of a layer with smeared keys, moved into the matrices that are multiplied."""

    def part(name: str) -> nn.Linear:
        module = block.get_submodule(name)
        assert isinstance(module, nn.Linear)
        return module

    def gain(name: str) -> nn.Parameter | None:
        module = block.get_submodule(name)
        return None if isinstance(module, nn.Identity) else module.get_parameter("weight")

    first, second = gain("input_layernorm"), gain("post_attention_layernorm")
    assert first is not None
    assert second is not None
    qkv = [f"self_attn.{name}" for name in ("q_proj", "k_proj.projection", "v_proj")]
    inner = ["mlp.gate_proj", "mlp.up_proj"] if gated else ["mlp.up_proj"]
    return PackedLayer(
        qkv=_side_by_side([part(name) for name in qkv]),
        out=_side_by_side([part("self_attn.o_proj")]),
        inner=_side_by_side([part(name) for name in inner]),
        down=_side_by_side([part("mlp.down_proj")]),
        norm=first,
        ffn_norm=second,
        mixture=block.get_parameter("self_attn.k_proj.mixture"),
        q_norm=gain("self_attn.q_norm"),
        k_norm=gain("self_attn.k_norm"),
    )


def _side_by_side(parts: list[nn.Linear]) -> Product:
    """The projections as one matrix, of which each is a part from now on."""
    weight = torch.cat([part.weight.detach() for part in parts])
    grad = torch.zeros_like(weight)
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    bias = bias_grad = None
    rows = [len(part.weight) for part in parts]
    for part, mine, its in zip(parts, _split(weight, rows), _split(grad, rows), strict=True):
        part.weight.data = mine
        part.weight.grad = its
    if biases:
        with_bias = [part for part in parts if part.bias is not None]
        assert len(with_bias) == len(parts)
        bias = torch.cat(biases)
        bias_grad = torch.zeros_like(bias)
        for part, mine, its in zip(parts, _split(bias, rows), _split(bias_grad, rows), strict=True):
            part.bias.data = mine
            part.bias.grad = its
    return Product(weight, grad, bias, bias_grad)


def _split(x: Tensor, rows: list[int]) -> list[Tensor]:
    return list(torch.split(x, rows))


def norm(x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Normed]:
    """`x` over its root mean square, times the gain, and what the way back needs."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    unit = x * scale
    return unit * gain, Normed(unit, scale)


def norm_back(d: Tensor, gain: nn.Parameter, normed: Normed) -> Tensor:
    """Gradient of the norm's input; that of the gain goes where it belongs."""
    assert gain.grad is not None
    product = (d * normed.unit).view(-1, d.shape[-1])
    torch.sum(product, 0, out=gain.grad)
    mean = (product @ gain).div_(d.shape[-1]).view(*d.shape[:-1], 1)
    return (d * gain).addcmul_(normed.unit, mean, value=-1).mul_(normed.scale)
