"""Layers of decoders with self-attention and a dense MLP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.architectures.parts import (
    Blocks,
    asked_windows,
    attention_matrices,
    blocks,
    gated_mlp,
    grouped_attention,
    layer,
    windows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """A family of Llama's shape: grouped attention, gated MLP, norms without bias. The fields are how it differs from Llama."""

    qkv_bias: bool | None = None
    """`None` follows `attention_bias`, for the output projection too."""
    head_dim: int | None = None
    kv_heads: int | None = None
    head_norms: bool = False
    """Queries and keys have a norm over each head."""
    wide_norms: bool = False
    """Queries and keys have a norm over all heads together."""
    norms: int = 2
    windows: Callable[[Fields], list[int | None]] | None = None
    """How layers get windows; `None` ignores `sliding_window`, as the family's own code does."""
    tied: bool = False
    absent: Mapping[str, int] = field(default_factory=dict)
    """What the family's code takes for fields that its configs leave out."""

    def __call__(self, fields: Fields) -> Blocks:
        """The blocks of a config of this family."""
        fields = Fields({**self.absent, **fields.values}, fields.where)
        hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
        follow, mlp_bias = fields.flag("attention_bias", default=False), fields.flag("mlp_bias", default=False)
        layers = []
        for window in self.windows(fields) if self.windows else [None] * fields.layer_count():
            attention = grouped_attention(fields, head_dim=self.head_dim, kv_heads=self.kv_heads, window=window)
            projections = attention_matrices(
                attention,
                hidden,
                qkv_bias=follow if self.qkv_bias is None else self.qkv_bias,
                out_bias=follow if self.qkv_bias is None else False,
            )
            vectors = self.norms * hidden + self._query_key_norms(attention)
            layers.append(layer(attention, projections, gated_mlp(hidden, inner, bias=mlp_bias), vectors=vectors))
        return blocks(fields, "dense", layers, tied=self.tied)

    def _query_key_norms(self, attention: SelfAttention) -> int:
        if self.wide_norms:
            return (attention.q_heads + attention.kv_heads) * attention.head_dim
        return 2 * attention.head_dim if self.head_norms else 0


_GEMMA_3 = {
    "vocab_size": 262208, "num_attention_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip

DENSE_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "llama": Llama(),
    "mistral": Llama(qkv_bias=False, kv_heads=8, windows=windows),
    "qwen2": Llama(qkv_bias=True, kv_heads=32, windows=asked_windows),
    "qwen3": Llama(head_norms=True, head_dim=128, kv_heads=32, windows=asked_windows),
    "qwen3_vl_text": Llama(head_norms=True, head_dim=128, kv_heads=32),
    "mimo": Llama(qkv_bias=True, windows=asked_windows),
    "phi3": Llama(windows=windows),
    "olmo2": Llama(wide_norms=True),
    "smollm3": Llama(kv_heads=4, windows=asked_windows, tied=True),
    "granite": Llama(),
    "gemma": Llama(head_dim=256, tied=True),
    "gemma2": Llama(head_dim=256, kv_heads=4, norms=4, windows=partial(windows, full_every=2, usual=4096), tied=True),
    "gemma3_text": Llama(
        head_dim=256, kv_heads=4, norms=4, head_norms=True, windows=partial(windows, full_every=6, usual=4096), tied=True, absent=_GEMMA_3
    ),
}
