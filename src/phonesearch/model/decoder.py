"""The candidate as one torch module, with the parameter names of Hugging Face's Llama.

Shape suffixes: B batch, L new positions, T positions seen (cached and new), D hidden_size,
N num_attention_heads, K num_key_value_heads, H head_dim, F intermediate_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from phonesearch.candidate.config import Activation, Candidate, rope_inverse_frequencies
from phonesearch.model.cache import KVCache

INITIAL_STD: Final = 0.02
"""Standard deviation of fresh weights. Source: `initializer_range` of transformers'
`LlamaConfig`; Radford et al., GPT-2, 2019."""


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "relu2": _relu2,
}


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension with a gain; float32 inside."""

    def __init__(
        self, width: int, eps: float, *, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`x` over its root mean square, times the gain, in the type of `x`."""
        normed = F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps)
        return normed.to(x.dtype)


class _Linear(nn.Linear):
    """A projection whose memory is left as it is: `Decoder` draws every weight from its seed."""

    def reset_parameters(self) -> None:
        """Do nothing."""


class _Embedding(nn.Embedding):
    """A table whose memory is left as it is, for the same reason."""

    def reset_parameters(self) -> None:
        """Do nothing."""


def rotate(x_BNLH: Tensor, cos_LH: Tensor, sin_LH: Tensor) -> Tensor:
    """Rotary embedding that pairs dimension i with i + H/2, as Hugging Face's weights expect."""
    first, second = x_BNLH.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BNLH.float() * cos_LH + turned * sin_LH).to(x_BNLH.dtype)


class Attention(nn.Module):
    """Rotary grouped-query attention, causal, with an optional window and q/k norms."""

    def __init__(
        self,
        candidate: Candidate,
        layer: int,
        *,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = candidate.head_dim
        self.grouped = candidate.num_key_value_heads != candidate.num_attention_heads
        hidden = candidate.hidden_size
        query = candidate.num_attention_heads * candidate.head_dim
        key_value = candidate.num_key_value_heads * candidate.head_dim
        bias, out_bias = candidate.attention_bias, candidate.attention_out_bias
        self.q_proj = _Linear(hidden, query, bias=bias, device=device, dtype=dtype)
        self.k_proj = _Linear(hidden, key_value, bias=bias, device=device, dtype=dtype)
        self.v_proj = _Linear(hidden, key_value, bias=bias, device=device, dtype=dtype)
        self.o_proj = _Linear(query, hidden, bias=out_bias, device=device, dtype=dtype)
        eps = candidate.rms_norm_eps
        if candidate.qk_norm:
            self.q_norm: nn.Module = RMSNorm(candidate.head_dim, eps, device=device, dtype=dtype)
            self.k_norm: nn.Module = RMSNorm(candidate.head_dim, eps, device=device, dtype=dtype)
        else:
            self.q_norm = nn.Identity()
            self.k_norm = nn.Identity()

    def forward(
        self,
        x_BLD: Tensor,
        cos_LH: Tensor,
        sin_LH: Tensor,
        mask_LT: Tensor | None,
        causal: bool,
        cache: KVCache | None,
    ) -> Tensor:
        """Attention output, shape (batch, new positions, hidden_size)."""
        q_BLNH = self.q_norm(self.q_proj(x_BLD).unflatten(-1, (-1, self.head_dim)))
        k_BLKH = self.k_norm(self.k_proj(x_BLD).unflatten(-1, (-1, self.head_dim)))
        v_BKLH = self.v_proj(x_BLD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q_BNLH = rotate(q_BLNH.transpose(1, 2), cos_LH, sin_LH)
        k_BKTH = rotate(k_BLKH.transpose(1, 2), cos_LH, sin_LH)
        v_BKTH = v_BKLH
        if cache is not None:
            k_BKTH, v_BKTH = cache.append(self.layer, k_BKTH, v_BKTH)
        out_BNLH = F.scaled_dot_product_attention(
            q_BNLH,
            k_BKTH,
            v_BKTH,
            attn_mask=mask_LT,
            is_causal=causal,
            enable_gqa=self.grouped,
        )
        projected: Tensor = self.o_proj(out_BNLH.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """`down(act(gate(x)) * up(x))` where gated, `down(act(up(x)))` where plain."""

    def __init__(
        self, candidate: Candidate, *, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        hidden, inner, bias = candidate.hidden_size, candidate.intermediate_size, candidate.mlp_bias
        self.activation = _ACTIVATIONS[candidate.hidden_act]
        self.gate_proj: nn.Linear | None = None
        if candidate.ffn_type == "gated":
            self.gate_proj = _Linear(hidden, inner, bias=bias, device=device, dtype=dtype)
        self.up_proj = _Linear(hidden, inner, bias=bias, device=device, dtype=dtype)
        self.down_proj = _Linear(inner, hidden, bias=bias, device=device, dtype=dtype)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Output of the network, shape (batch, new positions, hidden_size)."""
        up_BLF = self.up_proj(x_BLD)
        if self.gate_proj is None:
            inner_BLF = self.activation(up_BLF)
        else:
            inner_BLF = self.activation(self.gate_proj(x_BLD)) * up_BLF
        down_BLD: Tensor = self.down_proj(inner_BLF)
        return down_BLD


class Block(nn.Module):
    """One pre-norm layer: attention and feed-forward network, each added to the stream."""

    def __init__(
        self,
        candidate: Candidate,
        layer: int,
        *,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        hidden, eps = candidate.hidden_size, candidate.rms_norm_eps
        self.input_layernorm = RMSNorm(hidden, eps, device=device, dtype=dtype)
        self.self_attn = Attention(candidate, layer, device=device, dtype=dtype)
        self.post_attention_layernorm = RMSNorm(hidden, eps, device=device, dtype=dtype)
        self.mlp = FeedForward(candidate, device=device, dtype=dtype)

    def forward(
        self,
        x_BLD: Tensor,
        cos_LH: Tensor,
        sin_LH: Tensor,
        mask_LT: Tensor | None,
        causal: bool,
        cache: KVCache | None,
    ) -> Tensor:
        """The residual stream after this layer, shape (batch, new positions, hidden_size)."""
        normed_BLD = self.input_layernorm(x_BLD)
        x_BLD = x_BLD + self.self_attn(normed_BLD, cos_LH, sin_LH, mask_LT, causal, cache)
        out_BLD: Tensor = x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))
        return out_BLD


class Backbone(nn.Module):
    """Embedding table, layers and the last norm: everything but the head."""

    def __init__(
        self, candidate: Candidate, *, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.window = candidate.sliding_window
        self.embed_tokens = _Embedding(
            candidate.vocab_size, candidate.hidden_size, device=device, dtype=dtype
        )
        self.layers = nn.ModuleList(
            Block(candidate, layer, device=device, dtype=dtype)
            for layer in range(candidate.num_hidden_layers)
        )
        self.norm = RMSNorm(
            candidate.hidden_size, candidate.rms_norm_eps, device=device, dtype=dtype
        )
        # A plain attribute, no buffer: a buffer would be rounded by `.to(torch.bfloat16)`.
        self._inverse_frequencies = torch.tensor(
            rope_inverse_frequencies(candidate), dtype=torch.float32, device="cpu"
        )

    def forward(self, input_ids_BL: Tensor, cache: KVCache | None = None) -> Tensor:
        """Normed residual stream before the head, shape (batch, new positions, hidden_size)."""
        past = 0 if cache is None else cache.num_tokens
        length = input_ids_BL.shape[1]
        cos_LH, sin_LH = self._rotation(past, length, input_ids_BL.device)
        mask_LT = self._mask(past, length, input_ids_BL.device)
        causal = mask_LT is None and past == 0
        x_BLD: Tensor = self.embed_tokens(input_ids_BL)
        for block in self.layers:
            x_BLD = block(x_BLD, cos_LH, sin_LH, mask_LT, causal, cache)
        normed_BLD: Tensor = self.norm(x_BLD)
        return normed_BLD

    def _rotation(self, past: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._inverse_frequencies.device != device:
            self._inverse_frequencies = self._inverse_frequencies.to(device)
        positions_L = torch.arange(past, past + length, device=device, dtype=torch.float32)
        angles_LH = torch.outer(positions_L, self._inverse_frequencies).repeat(1, 2)
        return angles_LH.cos(), angles_LH.sin()

    def _mask(self, past: int, length: int, device: torch.device) -> Tensor | None:
        """Which positions each query sees, or None where causality alone, or all, says it."""
        windowed = self.window is not None and past + length > self.window
        if not windowed and (past == 0 or length == 1):
            return None
        query_L1 = torch.arange(past, past + length, device=device).unsqueeze(1)
        key_T = torch.arange(past + length, device=device)
        seen_LT = key_T <= query_L1
        if windowed and self.window is not None:
            seen_LT = seen_LT & (key_T > query_L1 - self.window)
        return seen_LT


class Decoder(nn.Module):
    """A candidate that can be trained and run.

    `state_dict()` has the names and shapes of Hugging Face's `LlamaForCausalLM` (plus `q_norm`
    and `k_norm` as in Qwen3, minus `gate_proj` where the feed-forward network is plain). A tied
    head is not a second parameter: `lm_head.weight` is absent, as it is from a saved checkpoint.

    Args:
        candidate: Architecture to build.
        seed: Of the fresh weights, see `initialise`.
        device: Where the parameters live; `"meta"` for shapes alone.
        dtype: Type of the parameters; None is torch's default.
    """

    def __init__(
        self,
        candidate: Candidate,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.candidate = candidate
        place = torch.get_default_device() if device is None else torch.device(device)
        self.model = Backbone(candidate, device=place, dtype=dtype)
        self.lm_head: nn.Linear | None = None
        if not candidate.tie_word_embeddings:
            self.lm_head = _Linear(
                candidate.hidden_size, candidate.vocab_size, bias=False, device=place, dtype=dtype
            )
        self.initialise(seed)

    def initialise(self, seed: int) -> None:
        """Draw all weights afresh; the same seed gives the same weights on every device.

        Matrices and tables are normal with standard deviation 0.02; the two projections of a
        layer that write to the residual stream have it divided by sqrt(2 x layers); gains are
        one and biases zero. Drawn on the CPU in float32, then rounded to the parameter's type.

        Source: Radford et al., GPT-2, 2019, section 2.3 (scaling of residual layers).
        """
        if self.model.embed_tokens.weight.is_meta:
            return
        drawn = fresh_weights(self.candidate, seed)
        with torch.no_grad():
            for (_, weight), parameter in zip(drawn, self.parameters(), strict=True):
                parameter.copy_(weight)

    def forward(self, input_ids_BL: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the next token after each position.

        Args:
            input_ids_BL: Token ids, int64, shape (batch, new positions). All rows of a batch
                are full: there is no padding mask.
            cache: Keys and values of earlier positions; the new ones are appended to it.

        Returns:
            Logits in the parameters' type, shape (batch, new positions, vocab_size).
        """
        return self.logits(self.model(input_ids_BL, cache))

    def logits(self, x_BLD: Tensor) -> Tensor:
        """The head alone: logits from the backbone's output, shape (..., vocab_size)."""
        table = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(x_BLD, table.weight)


def fresh_weights(candidate: Candidate, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The weights that `Decoder(candidate, seed=seed)` begins with, one at a time.

    In the order of `named_parameters()`, float32 on the CPU; see `Decoder.initialise`. No more
    than one tensor is held here, so that a large candidate can be written on a small machine.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    residual_std = INITIAL_STD / (2 * candidate.num_hidden_layers) ** 0.5
    for name, parameter in Decoder(candidate, device="meta").named_parameters():
        residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        yield (
            name,
            _draw(name, parameter.shape, residual_std if residual else INITIAL_STD, generator),
        )


def _draw(name: str, shape: Sequence[int], std: float, generator: torch.Generator) -> Tensor:
    drawn = torch.empty(tuple(shape), dtype=torch.float32, device="cpu")
    if name.endswith(".bias"):
        return drawn.zero_()
    if drawn.dim() == 1:
        return drawn.fill_(1.0)
    return drawn.normal_(std=std, generator=generator)
