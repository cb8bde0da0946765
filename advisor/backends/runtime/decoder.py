"""A decoder of the usual kind, walked by ourselves: fewer and larger operators than the model's own code, the same numbers.

Letters: T rows of a step, R of them wanted, C hidden width, H query heads, K key-value heads, D head width, F feed-forward width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.backends.runtime.attention import Attends, Options
from advisor.backends.runtime.linears import Product


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square normalisation, rounded to the input's type before the weight multiplies."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return functional.rms_norm(x, x.shape[-1:], None, self.eps).mul_(self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's parts. A `feed_forward` that is not the usual one is the model's own module."""

    before_attention: Norm
    qkv: Product
    heads: int
    kv_heads: int
    head_norm: Norm | None
    """Of the heads of queries and keys: weight [H + K, D]."""
    attention_output: Product
    options: Options
    before_feed_forward: Norm
    feed_forward: "GatedProducts | nn.Module"


@dataclass(frozen=True, slots=True)
class GatedProducts:
    """activation(gate) times up, then down."""

    gate_up: Product
    activation: nn.Module
    down: Product

    def __call__(self, x: Tensor) -> Tensor:
        """[T, C] to [T, C]."""
        both = self.gate_up(x)
        half = both.shape[-1] // 2
        return self.down(self.activation(both[:, :half]).mul_(both[:, half:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Embedding, layers, norm and head."""

    embedding: Tensor
    rotary: nn.Module
    """The model's own: it gives cosines and sines for positions."""
    layers: Sequence[Layer]
    norm: Norm
    head: Product

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """Logits [R, V] of `rows`, or of all, of tokens `ids` [T] at `positions` [T]."""
        hidden = functional.embedding(ids, self.embedding)
        rope = self._rope(hidden, positions)
        normed = self.layers[0].before_attention(hidden)
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            attended = self._attend(layer, index, step, normed, rope)
            if index == last and rows is not None:
                attended, hidden = attended.index_select(0, rows), hidden.index_select(0, rows)
            hidden = hidden + layer.attention_output(attended)
            hidden = hidden + _fed_forward(layer, layer.before_feed_forward(hidden))
            normed = (self.norm if index == last else self.layers[index + 1].before_attention)(hidden)
        return self.head(normed)

    def _rope(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, 1, D'], the sines of the first half negative, as `_rotated` takes them."""
        cos, sin = self.rotary(hidden.unsqueeze(0), positions.unsqueeze(0))
        half = sin.shape[-1] // 2
        return cos[0].unsqueeze(1), torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1).unsqueeze(1)

    def _attend(self, layer: Layer, index: int, step: Attends, normed: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """[T, C] to [T, H·E]."""
        rows, both = normed.shape[0], layer.heads + layer.kv_heads
        projected = layer.qkv(normed).view(rows, both + layer.kv_heads, -1)
        queries_keys = projected[:, :both]
        if layer.head_norm is not None:
            queries_keys = layer.head_norm(queries_keys)
        turned = _rotated(queries_keys, *rope)
        out = step.attend_rows(index, turned[:, : layer.heads], turned[:, layer.heads :], projected[:, both:], layer.options)
        return out.reshape(rows, -1)


def _fed_forward(layer: Layer, x: Tensor) -> Tensor:
    if isinstance(layer.feed_forward, GatedProducts):
        return layer.feed_forward(x)
    out = layer.feed_forward(x.unsqueeze(0))
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first.view(x.shape)


def _rotated(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary embedding of [T, H, D] on its first D' elements, halves paired; rounded step by step as `transformers` does."""
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat((_rotated(x[..., :width], cos, signed_sin), x[..., width:]), -1)
    return (x * cos).add_(x.roll(width // 2, -1).mul_(signed_sin))
