"""Loss and gradients of a proxy on a CPU, written out, without autograd.

At widths of about 100 and a few hundred tokens a step, half of an ordinary training step is not
matrix products: it is operations that are started one by one, recorded, and undone one by one.
Written out, projections that read the same input are one product, gradients land where the
optimisers read them, and attention is products over blocks of queries that leave out the keys
after them and keep their scores in memory that is reused, which at heads of 16 beats the fused
kernel. Products with weights may be in bfloat16, with weights cast once a step and everything else,
attention included, in float32; the fused kernel's backward in bfloat16 is what makes autocast slow
on CPUs. `benchmarks/proxy_throughput.py` has the figures. A test holds gradients against those of
autograd for every kind of proxy.

Shape suffixes: M tokens of a step (B x L), D hidden_size, N query heads, K key/value heads, G query
heads a key/value head, H head_dim, Q (N + 2 K) H, Z B x K, R L x G rows of queries of one
key/value head, T positions seen, F intermediate_size, I F or 2 F, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from phonesearch.candidate.config import Activation, rope_inverse_frequencies
from phonesearch.model.decoder import Decoder
from phonesearch.proxy.packed import PackedLayer, Product, norm, norm_back, packed_layer

_MOST_SCORES: Final = 2**25
"""Attention scores of all layers that are kept for the backward pass; if there are more, they are
computed again."""

_QUERIES_AT_ONCE: Final = 64
_KEPT_BY_ALLOCATOR_BYTES: Final = 31 * 1024**2

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries that are treated at once, with the positions up to the last of them."""

    rows: slice
    seen: int
    mask: Tensor
    """Shape (R, T)."""
    scratch: Tensor
    """Shape (Z, R, T)."""
    shares: list[Tensor]
    """Of every layer, shape (Z, R, T); one for all where they are not kept."""


def _activation(name: Activation) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """The function, and its gradient from (gradient of the output, input)."""
    if name == "silu":
        return torch.nn.functional.silu, aten.silu_backward
    if name == "gelu":
        return torch.nn.functional.gelu, aten.gelu_backward
    if name == "relu":
        return torch.relu, lambda grad, x: aten.threshold_backward(grad, x, 0)
    return lambda x: torch.relu(x).square_(), lambda grad, x: torch.relu(x).mul_(grad).mul_(2)


class DirectGradients:
    """Computes the loss of a batch and leaves the gradients in `grad` of every parameter.

    The weights of the model are moved into the matrices that are multiplied, so they must be
    changed in place only; `grad` is written over by the next call and must not be dropped.

    Args:
        model: With smeared keys, in float32 on a CPU.
        batch_size: Windows of every batch.
        context_length: Tokens of every window.
        precision: Of the matrix products.
    """

    def __init__(
        self, model: Decoder, *, batch_size: int, context_length: int, precision: torch.dtype
    ) -> None:
        _keep_freed_memory()
        candidate = model.candidate
        assert candidate.sliding_window is None  # proxies have none
        self.candidate = candidate
        self.batch, self.length = batch_size, context_length
        self.tokens = batch_size * context_length
        self.low = precision
        self.heads, self.shared = candidate.num_attention_heads, candidate.num_key_value_heads
        self.gated = candidate.ffn_type == "gated"
        self.act, self.act_grad = _activation(candidate.hidden_act)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.table = model.model.embed_tokens.weight
        self.head = self.table if model.lm_head is None else model.lm_head.weight
        self.last_norm: nn.Parameter = model.model.norm.weight
        self.layers = [packed_layer(block, gated=self.gated) for block in model.model.layers]
        self._tables()

    def _tables(self) -> None:
        """Rotations, with the scale of the scores in those of queries, and causal masks."""
        half = torch.tensor(rope_inverse_frequencies(self.candidate), dtype=torch.float32)
        angles_L1h = torch.outer(torch.arange(self.length, dtype=torch.float32), half)[:, None]
        scale = self.candidate.head_dim**-0.5
        self.rotations = {
            "q": (angles_L1h.cos() * scale, angles_L1h.sin() * scale),
            "k": (angles_L1h.cos(), angles_L1h.sin()),
        }
        group, pairs = self.heads // self.shared, self.batch * self.shared
        mask = torch.full((self.length, self.length), -torch.inf).triu_(1)
        mask = mask.repeat_interleave(group, 0)
        scores = self.batch * self.heads * self.length**2 * len(self.layers)
        self.kept = scores <= _MOST_SCORES
        self.blocks = []
        for first in range(0, self.length, _QUERIES_AT_ONCE):
            end = min(first + _QUERIES_AT_ONCE, self.length)
            rows = slice(first * group, end * group)
            shape = (pairs, (end - first) * group, end)
            shares = [torch.empty(shape) for _ in self.layers[: None if self.kept else 1]]
            self.blocks.append(
                _Block(
                    rows=rows,
                    seen=end,
                    mask=mask[rows, :end].contiguous(),
                    scratch=torch.empty(shape),
                    shares=shares if self.kept else shares * len(self.layers),
                )
            )

    @torch.no_grad()
    def __call__(self, ids_BL: Tensor) -> Tensor:
        """Mean cross-entropy of a batch, nats a token.

        Args:
            ids_BL: Token ids, shape (batch_size, context_length + 1).
        """
        inputs_M, targets_M = ids_BL[:, :-1].reshape(-1), ids_BL[:, 1:].reshape(-1)
        x_MD = self.table[inputs_M]
        undo = []
        for number, layer in enumerate(self.layers):
            x_MD, back_attention = self._attention(layer, number, x_MD)
            x_MD, back_ffn = self._ffn(layer, x_MD)
            undo += [back_attention, back_ffn]
        y_MD, normed = norm(x_MD, self.last_norm, self.candidate.rms_norm_eps)
        y_MD = self._cast(y_MD)
        head_VD = self._cast(self.head)
        share_MV = torch.softmax((y_MD @ head_VD.T).float(), dim=1)
        picked_M1 = share_MV.gather(1, targets_M[:, None])
        loss = picked_M1.clamp_(min=1e-37).log_().mean().neg_()
        share_MV.scatter_add_(1, targets_M[:, None], share_MV.new_full((self.tokens, 1), -1.0))
        d_MV = self._cast(share_MV.mul_(1 / self.tokens))
        assert self.head.grad is not None
        assert self.table.grad is not None
        self.head.grad.copy_(d_MV.T @ y_MD)
        d_MD = norm_back((d_MV @ head_VD).float(), self.last_norm, normed)
        for back in reversed(undo):
            d_MD = back(d_MD)
        if self.head is not self.table:
            self.table.grad.zero_()
        self.table.grad.index_add_(0, inputs_M, d_MD)
        return loss

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.low)

    def _forward(self, product: Product, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product in float32, and the weight as it was multiplied."""
        weight = self._cast(product.weight)
        y = (x @ weight.T).float()
        if product.bias is not None:
            y += product.bias
        return y, weight

    def _backward(self, product: Product, weight: Tensor, x: Tensor, d: Tensor) -> Tensor:
        """Gradient of the input, in float32; those of weight and bias go where they belong."""
        if product.bias_grad is not None:
            torch.sum(d, 0, out=product.bias_grad)
        d = self._cast(d)
        if self.low == torch.float32:
            torch.mm(d.T, x, out=product.grad)
        else:
            product.grad.copy_(d.T @ x)
        return (d @ weight).float()

    def _attention(
        self, layer: PackedLayer, number: int, x_MD: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        eps = self.candidate.rms_norm_eps
        y_MD, normed = norm(x_MD, layer.norm, eps)
        y_MD = self._cast(y_MD)
        qkv_MQ, w_qkv = self._forward(layer.qkv, y_MD)
        q_BLNH, own_BLKH, v_BLKH = self._split(qkv_MQ)
        share_KH = torch.sigmoid(layer.mixture)
        step_BLKH = own_BLKH.neg()
        step_BLKH[:, 1:] += own_BLKH[:, :-1]
        k_BLKH = torch.addcmul(own_BLKH, step_BLKH, share_KH)
        q_normed = k_normed = None
        if layer.q_norm is not None and layer.k_norm is not None:
            q_BLNH, q_normed = norm(q_BLNH, layer.q_norm, eps)
            k_BLKH, k_normed = norm(k_BLKH, layer.k_norm, eps)
        q_ZRH = self._rows(_rotate(q_BLNH, *self.rotations["q"]))
        k_ZTH = self._rows(_rotate(k_BLKH, *self.rotations["k"]))
        v_ZTH = self._rows(v_BLKH)
        o_ZRH = torch.empty_like(q_ZRH)
        self._mix(number, q_ZRH, k_ZTH, v_ZTH, o_ZRH)
        o_MA = self._cast(self._positions(o_ZRH).reshape(self.tokens, -1))
        out_MD, w_out = self._forward(layer.out, o_MA)
        out_MD += x_MD

        def back(d_MD: Tensor) -> Tensor:
            d_MA = self._backward(layer.out, w_out, o_MA, d_MD)
            d_ZRH = self._rows(d_MA.view(q_BLNH.shape))
            d_q, d_k, d_v = self._mix_back(number, q_ZRH, k_ZTH, v_ZTH, o_ZRH, d_ZRH)
            d_qkv_MQ = torch.empty_like(qkv_MQ)
            d_q_BLNH, d_own_BLKH, d_v_BLKH = self._split(d_qkv_MQ)
            d_v_BLKH.copy_(self._positions(d_v))
            d_q = _rotate(self._positions(d_q), *self.rotations["q"], back=True)
            d_k = _rotate(self._positions(d_k), *self.rotations["k"], back=True)
            if q_normed is not None and k_normed is not None:
                assert layer.q_norm is not None
                assert layer.k_norm is not None
                d_q = norm_back(d_q, layer.q_norm, q_normed)
                d_k = norm_back(d_k, layer.k_norm, k_normed)
            d_q_BLNH.copy_(d_q)
            assert layer.mixture.grad is not None
            d_share_KH = (d_k * step_BLKH).sum((0, 1))
            layer.mixture.grad.copy_(d_share_KH.mul_(share_KH).mul_(1 - share_KH))
            torch.mul(d_k, 1 - share_KH, out=d_own_BLKH)
            d_own_BLKH[:, :-1].addcmul_(d_k[:, 1:], share_KH)
            d_y_MD = self._backward(layer.qkv, w_qkv, y_MD, d_qkv_MQ)
            return norm_back(d_y_MD, layer.norm, normed).add_(d_MD)

        return out_MD, back

    def _mix(self, number: int, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """Values by the share of each position, into `out`; all of shape (Z, rows, H)."""
        for block in self.blocks:
            share = self._shares(block, number, q, k)
            torch.bmm(share, v[:, : block.seen], out=out[:, block.rows])

    def _shares(self, block: _Block, number: int, q: Tensor, k: Tensor) -> Tensor:
        keys = k[:, : block.seen]
        torch.baddbmm(block.mask, q[:, block.rows], keys.mT, out=block.scratch)
        torch.softmax(block.scratch, 2, out=block.shares[number])
        return block.shares[number]

    def _mix_back(
        self, number: int, q: Tensor, k: Tensor, v: Tensor, out: Tensor, d: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values, from that of `out`.

        Source of the short form of the softmax's: Dao et al., arXiv 2205.14135, appendix B.2.
        """
        d_q, d_k, d_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        mean_ZR1 = (d * out).sum(2, keepdim=True).neg_()
        for block in reversed(self.blocks):  # the last one sees all positions
            rows, seen = block.rows, block.seen
            share = block.shares[number] if self.kept else self._shares(block, number, q, k)
            keep = 0 if block is self.blocks[-1] else 1
            d_v[:, :seen].baddbmm_(share.mT, d[:, rows], beta=keep)
            scores = block.scratch
            torch.baddbmm(mean_ZR1[:, rows], d[:, rows], v[:, :seen].mT, out=scores)
            scores.mul_(share)
            torch.bmm(scores, k[:, :seen], out=d_q[:, rows])
            d_k[:, :seen].baddbmm_(scores.mT, q[:, rows], beta=keep)
        return d_q, d_k, d_v

    def _ffn(self, layer: PackedLayer, x_MD: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        y_MD, normed = norm(x_MD, layer.ffn_norm, self.candidate.rms_norm_eps)
        y_MD = self._cast(y_MD)
        inner_MI, w_inner = self._forward(layer.inner, y_MD)
        gate_MF, up_MF = inner_MI.chunk(2, dim=1) if self.gated else (inner_MI, None)
        act_MF = self.act(gate_MF)
        h_MF = self._cast(act_MF if up_MF is None else act_MF * up_MF)
        out_MD, w_down = self._forward(layer.down, h_MF)
        out_MD += x_MD

        def back(d_MD: Tensor) -> Tensor:
            d_MF = self._backward(layer.down, w_down, h_MF, d_MD)
            if up_MF is None:
                d_inner_MI = self.act_grad(d_MF, gate_MF)
            else:
                d_inner_MI = torch.empty_like(inner_MI)
                d_gate_MF, d_up_MF = d_inner_MI.chunk(2, dim=1)
                torch.mul(d_MF, act_MF, out=d_up_MF)
                d_gate_MF.copy_(self.act_grad(d_MF.mul_(up_MF), gate_MF))
            d_y_MD = self._backward(layer.inner, w_inner, y_MD, d_inner_MI)
            return norm_back(d_y_MD, layer.ffn_norm, normed).add_(d_MD)

        return out_MD, back

    def _split(self, qkv_MQ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of queries, keys and values, shape (batch, length, heads, head_dim)."""
        heads_BLXH = qkv_MQ.view(self.batch, self.length, -1, self.candidate.head_dim)
        return (
            heads_BLXH[:, :, : self.heads],
            heads_BLXH[:, :, self.heads : -self.shared],
            heads_BLXH[:, :, -self.shared :],
        )

    def _rows(self, x_BLXH: Tensor) -> Tensor:
        """The heads of one key/value head as rows, position by position: shape (Z, rows, H)."""
        head_dim = self.candidate.head_dim
        by_head = x_BLXH.view(self.batch, self.length, self.shared, -1, head_dim).transpose(1, 2)
        return by_head.reshape(self.batch * self.shared, -1, head_dim)

    def _positions(self, x_ZRH: Tensor) -> Tensor:
        """The inverse of `_rows`, shape (batch, length, heads, H)."""
        head_dim = self.candidate.head_dim
        by_head = x_ZRH.view(self.batch, self.shared, self.length, -1, head_dim).transpose(1, 2)
        return by_head.flatten(2, 3)


def _keep_freed_memory() -> None:
    """Let the allocator reuse a step's memory in the next one.

    glibc gives large blocks back to the system when they are freed, and getting them anew, page by
    page, took a quarter of a step of 1M parameters (105 ms against 80). Once a block of up to 32
    MiB was freed, it keeps those that are smaller: see M_MMAP_THRESHOLD in mallopt(3).
    """
    torch.empty(_KEPT_BY_ALLOCATOR_BYTES, dtype=torch.uint8)


def _rotate(x_BLXH: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Rotated by its position, or back by it."""
    out = torch.empty(x_BLXH.shape)
    first, second = x_BLXH.chunk(2, dim=3)
    one, two = out.chunk(2, dim=3)
    sign = 1 if back else -1
    torch.mul(first, cos, out=one).addcmul_(second, sin, value=sign)
    torch.mul(second, cos, out=two).addcmul_(first, sin, value=-sign)
    return out
