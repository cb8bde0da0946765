"""The runtime's own forward pass of a Llama-like decoder: fewer and larger operators than the model's code, equal results.

Letters: T rows of a step, R rows with logits, C hidden width, H query heads, K key-value heads, D head width, F feed-forward width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.backends.model.quantised_linear import Product
from advisor.backends.runtime.model.attention_hook import Attends, AttendsUnrotated, Options, Rope
from advisor.backends.runtime.model.row_operators import Norm, RowOperators


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLayer:
    """Parts of one layer. `feed_forward` is the model's own module where it is no gated MLP."""

    before_attention: Norm
    qkv: Product
    heads: int
    kv_heads: int
    head_norm: Norm | None
    """Norm of query and key heads: weight [H + K, D]."""
    attention_output: Product
    options: Options
    before_feed_forward: Norm
    feed_forward: "GatedProducts | nn.Module"


@dataclass(frozen=True, slots=True)
class GatedProducts:
    """A gated MLP: activation(gate) times up, then down."""

    gate_up: Product
    activation: nn.Module
    down: Product

    def run(self, x: Tensor, operators: RowOperators) -> Tensor:
        """[T, C] to [T, C]."""
        return self.down(operators.gate(self.gate_up(x), self.activation))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Embedding, layers, norm and head."""

    embedding: Tensor
    rotary: nn.Module
    """The model's own module, which returns cosines and sines of positions."""
    layers: Sequence[DecoderLayer]
    norm: Norm
    head: Product
    operators: RowOperators

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """Logits [R, V] of `rows` (default: all) of tokens `ids` [T] at `positions` [T]."""
        hidden = functional.embedding(ids, self.embedding)
        cos, sin = self.rotary(hidden.unsqueeze(0), positions.unsqueeze(0))
        attend = _rotary_attention(step, cos[0], sin[0])
        normed = self.layers[0].before_attention(hidden)
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            attended = _self_attention(layer, index, attend, normed)
            if index == last and rows is not None:
                attended, hidden = attended.index_select(0, rows), hidden.index_select(0, rows)
            normed, hidden = self.operators.add_norm(layer.attention_output(attended), hidden, layer.before_feed_forward)
            following = self.norm if index == last else self.layers[index + 1].before_attention
            normed, hidden = self.operators.add_norm(_mlp(layer, normed, self.operators), hidden, following)
        return self.head(normed)


Attend = Callable[[int, Tensor, Tensor, Options], Tensor]
"""Attention of a layer: queries and keys [T, H + K, D] before the rotary embedding and values [T, K, D] to [T, H, D]."""


def _rotary_attention(step: Attends, cos: Tensor, sin: Tensor) -> Attend:
    """Attention by `step` with the rotary embedding of cosines and sines [T, D'], which the step applies itself if it can."""
    if isinstance(step, AttendsUnrotated):
        rope = Rope(cos.contiguous(), sin.contiguous())

        def attend(index: int, queries_keys: Tensor, values: Tensor, options: Options) -> Tensor:
            heads = queries_keys.shape[1] - values.shape[1]
            return step.attend_unrotated(index, queries_keys[:, :heads], queries_keys[:, heads:], values, rope, options)

        return attend
    half = sin.shape[-1] // 2
    wide_cos, signed_sin = cos.unsqueeze(1), torch.cat((-sin[:, :half], sin[:, half:]), -1).unsqueeze(1)

    def attend_rotated(index: int, queries_keys: Tensor, values: Tensor, options: Options) -> Tensor:
        heads, rotated = queries_keys.shape[1] - values.shape[1], _rotated(queries_keys, wide_cos, signed_sin)
        return step.attend_rows(index, rotated[:, :heads], rotated[:, heads:], values, options)

    return attend_rotated


def _self_attention(layer: DecoderLayer, index: int, attend: Attend, normed: Tensor) -> Tensor:
    """[T, C] to [T, H·D]."""
    rows, both = normed.shape[0], layer.heads + layer.kv_heads
    projected = layer.qkv(normed).view(rows, both + layer.kv_heads, -1)
    queries_keys = projected[:, :both]
    if layer.head_norm is not None:
        queries_keys = layer.head_norm(queries_keys)
    return attend(index, queries_keys, projected[:, both:], layer.options).reshape(rows, -1)


def _mlp(layer: DecoderLayer, x: Tensor, operators: RowOperators) -> Tensor:
    if isinstance(layer.feed_forward, GatedProducts):
        return layer.feed_forward.run(x, operators)
    out = layer.feed_forward(x.unsqueeze(0))
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first.view(x.shape)


def _rotated(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary embedding of [T, H, D] on its first D' elements, half-split convention; rounded where transformers rounds.

    `cos` and `signed_sin` are [T, 1, D'], the sines of the first half negative.
    """
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat((_rotated(x[..., :width], cos, signed_sin), x[..., width:]), -1)
    return (x * cos).add_(x.roll(width // 2, -1).mul_(signed_sin))
