"""Readers of dense decoders of Llama's shape: grouped attention with rotary positions, gated MLP, RMS norms.

Families: Llama, Mistral, Qwen 2 and 3, MiMo, Phi 3 and 4, OLMo 2, SmolLM 3, Granite, Gemma 1 to 3. Keys: `hidden_size`,
`intermediate_size`, `num_attention_heads`, `num_key_value_heads`, `head_dim`, `num_hidden_layers`, `attention_bias`, `mlp_bias`,
`sliding_window`, `layer_types`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    gated_mlp,
    grouped_attention,
    layer,
    qwen_windows,
    windows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """Reads a family of Llama's shape. The fields are its differences from Llama; defaults are those of the family's code."""

    qkv_bias: bool | None = None
    """Bias of the query, key and value projections; `None` takes `attention_bias`, for the output projection too."""
    head_dim: int | None = None
    """Where the config has no `head_dim`; `None` is `hidden_size` / `num_attention_heads`."""
    kv_heads: int | None = None
    """Where the config has no `num_key_value_heads`; `None` is `num_attention_heads`."""
    head_norms: bool = False
    """Queries and keys have a norm over each head."""
    wide_norms: bool = False
    """Queries and keys have a norm over all heads together."""
    norms: int = 2
    """Norms of `hidden_size` in a layer."""
    windows: Callable[[Fields], list[int | None]] | None = None
    """Reads the window of each layer; `None` ignores `sliding_window`, as the family's own code does."""
    tied: bool = False
    """The head is the embedding where the config has no `tie_word_embeddings`."""
    absent: Mapping[str, int] = field(default_factory=dict)
    """Values of keys that the family's configs leave out."""

    def __call__(self, fields: Fields) -> Blocks:
        """The layers of a config of this family. Raises `AdvisorError` `model-config` naming the key at fault."""
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
    "qwen2": Llama(qkv_bias=True, kv_heads=32, windows=qwen_windows),
    "qwen3": Llama(head_norms=True, head_dim=128, kv_heads=32, windows=qwen_windows),
    "qwen3_vl_text": Llama(head_norms=True, head_dim=128, kv_heads=32),
    "mimo": Llama(qkv_bias=True, windows=qwen_windows),
    "phi3": Llama(windows=windows),
    "olmo2": Llama(wide_norms=True),
    "smollm3": Llama(kv_heads=4, windows=qwen_windows, tied=True),
    "granite": Llama(),
    "gemma": Llama(head_dim=256, tied=True),
    "gemma2": Llama(head_dim=256, kv_heads=4, norms=4, windows=partial(windows, full_every=2, default=4096), tied=True),
    "gemma3_text": Llama(
        head_dim=256, kv_heads=4, norms=4, head_norms=True, windows=partial(windows, full_every=6, default=4096), tied=True, absent=_GEMMA_3
    ),
}
