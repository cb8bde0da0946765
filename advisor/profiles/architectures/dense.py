"""Readers of dense decoders of Llama's shape: grouped attention with rotary positions, gated MLP, RMS norms.

Families: Llama, Mistral, Qwen 2 and 3 with their VL forms, MiMo, Phi 3 and 4, OLMo 1 to 3, SmolLM 3, Granite, Gemma 1 to 3, Cohere,
GLM 4, EXAONE 4, ERNIE 4.5, Nemotron, StableLM and others of this shape. Keys: `hidden_size`,
`intermediate_size`, `num_attention_heads`, `num_key_value_heads`, `head_dim`, `num_hidden_layers`, `attention_bias`, `mlp_bias`,
`sliding_window`, `layer_types`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix, SelfAttention
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    gated_mlp,
    grouped_attention,
    layer,
    patterned_windows,
    plain_mlp,
    qwen_windows,
    windows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """Reads a family of Llama's shape. The fields are its differences from Llama; defaults are those of the family's code."""

    qkv_bias: bool | None = None
    """Bias of the query, key and value projections; `None` takes `attention_bias`, for the output projection too."""
    out_bias: bool | None = None
    """Bias of the output projection, where it is not that of the others; `None` without `attention_bias` has none."""
    head_dim: int | None = None
    """Where the config has no `head_dim`; `None` is `hidden_size` / `num_attention_heads`."""
    kv_heads: int | None = None
    """Where the config has no `num_key_value_heads`; `None` is `num_attention_heads`."""
    head_norms: bool = False
    """Queries and keys have a norm over each head."""
    wide_norms: bool = False
    """Queries and keys have a norm over all heads together, or one for each head."""
    norms_key: str | None = None
    """The key that says whether queries and keys have norms; `None` always has them."""
    sinks: bool = False
    """Each head has a learned sink logit."""
    norms: int = 2
    """Norms of `hidden_size` in a layer."""
    norm_bias: bool = False
    """Norms have a bias."""
    final_norm: bool = True
    gated: bool = True
    """The MLP has a gate projection."""
    vectors: int = 0
    """Other parameters of a layer, such as those of its activation."""
    windows: Callable[[Fields], list[int | None]] | None = None
    """Reads the window of each layer; `None` ignores `sliding_window`, as the family's own code does."""
    tied: bool = False
    """The head is the embedding where the config has no `tie_word_embeddings`."""
    absent: Mapping[str, int] = field(default_factory=dict)
    """Values of keys that the family's configs leave out."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """The family's own names of keys, by those of Llama."""

    def __call__(self, fields: Fields) -> Blocks:
        """The layers of a config of this family. Raises `AdvisorError` `model-config` naming the key at fault."""
        fields = self.described(fields)
        hidden, bias = fields.count("hidden_size"), fields.flag("mlp_bias", default=False)
        mlp = (gated_mlp if self.gated else plain_mlp)(hidden, fields.count("intermediate_size"), bias=bias)
        return self.blocks(fields, "dense", [self.layer(fields, window, mlp) for window in self.layer_windows(fields)])

    def described(self, fields: Fields) -> Fields:
        """The config under the names and with the defaults of Llama."""
        own = {name: fields.values[key] for name, key in self.keys.items() if key in fields.values}
        return Fields({**self.absent, **fields.values, **own}, fields.where)

    def layer_windows(self, fields: Fields) -> list[int | None]:
        """The window of each layer."""
        return self.windows(fields) if self.windows else [None] * fields.layer_count()

    def layer(self, fields: Fields, window: int | None, *parts: tuple[Matrix, ...], vectors: int = 0) -> Layer:
        """A layer with attention over `window`, the matrices of `parts`, and `vectors` parameters beside its norms."""
        hidden, follow = fields.count("hidden_size"), fields.flag("attention_bias", default=False)
        attention = grouped_attention(fields, head_dim=self.head_dim, kv_heads=self.kv_heads, window=window)
        attention = replace(attention, sinks=self.sinks)
        out_bias = self.out_bias if self.out_bias is not None else (follow if self.qkv_bias is None else False)
        projections = attention_matrices(attention, hidden, qkv_bias=follow if self.qkv_bias is None else self.qkv_bias, out_bias=out_bias)
        vectors += self.norms * hidden * (1 + self.norm_bias) + self._query_key_norms(fields, attention) + self.vectors
        return layer(attention, projections, *parts, vectors=vectors + (attention.q_heads if self.sinks else 0))

    def blocks(self, fields: Fields, family: str, layers: list[Layer]) -> Blocks:
        """The layers with what is outside of them."""
        final = fields.count("hidden_size") * (1 + self.norm_bias) if self.final_norm else 0
        return blocks(fields, family, layers, tied=self.tied, vectors=final)

    def _query_key_norms(self, fields: Fields, attention: SelfAttention) -> int:
        if self.norms_key is not None and not fields.flag(self.norms_key, default=False):
            return 0
        if self.wide_norms:
            return (attention.q_heads + attention.kv_heads) * attention.head_dim
        return 2 * attention.head_dim if self.head_norms else 0


def stablelm(fields: Fields) -> Blocks:
    """StableLM: norms with biases, one for attention and MLP together with `use_parallel_residual`."""
    parallel = fields.flag("use_parallel_residual", default=False)
    bias = fields.flag("use_qkv_bias", default=False)
    return Llama(qkv_bias=bias, norm_bias=True, norms=1 if parallel else 2, wide_norms=True, norms_key="qk_layernorm")(fields)


def seed_oss(fields: Fields) -> Blocks:
    """Seed-OSS: `attention_out_bias` is the bias of the output projection."""
    return Llama(head_dim=128, out_bias=fields.flag("attention_out_bias", default=False), absent={"attention_bias": True})(fields)


def hyperclovax(fields: Fields) -> Blocks:
    """HyperCLOVA X: two more norms in a layer with `use_post_norm`."""
    return Llama(norms=4 if fields.flag("use_post_norm", default=True) else 2)(fields)


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
    "granite_swa": Llama(sinks=True, windows=partial(windows, full_every=4, full_first=True, default=128), tied=True),
    "arcee": Llama(gated=False),
    "apertus": Llama(gated=False, head_norms=True, vectors=2),
    "cohere": Llama(norms=1, wide_norms=True, norms_key="use_qk_norm", tied=True),
    "cohere2": Llama(norms=1, windows=patterned_windows, tied=True),
    "cwm": Llama(qkv_bias=False, head_dim=128, kv_heads=8, windows=partial(windows, full_every=4, full_first=True, default=8192)),
    "ernie4_5": Llama(head_dim=128, kv_heads=2, tied=True, keys={"attention_bias": "use_bias", "mlp_bias": "use_bias"}),
    "exaone4": Llama(head_norms=True, kv_heads=32, windows=patterned_windows),
    "glm": Llama(head_dim=128, kv_heads=2, out_bias=False, absent={"attention_bias": True}),
    "glm4": Llama(head_dim=128, kv_heads=2, norms=4, out_bias=False, absent={"attention_bias": True}),
    "glm4v_text": Llama(kv_heads=2, norms=4, qkv_bias=True),
    "helium": Llama(head_dim=128, kv_heads=20),
    "hunyuan_v1_dense": Llama(head_norms=True),
    "hyperclovax": hyperclovax,
    "internlm2": Llama(keys={"attention_bias": "bias"}),
    "internlm3": Llama(head_dim=128, keys={"attention_bias": "qkv_bias", "mlp_bias": "bias"}),
    "iquestcoder": Llama(head_dim=128),
    "jais2": Llama(gated=False, norm_bias=True, absent={"attention_bias": True, "mlp_bias": True}),
    "ministral": Llama(qkv_bias=False, kv_heads=8, windows=windows),
    "ministral3": Llama(qkv_bias=False, head_dim=128, kv_heads=8, windows=windows),
    "nanochat": Llama(gated=False, norms=0, final_norm=False),
    "nemotron": Llama(gated=False, norm_bias=True),
    "olmo": Llama(norms=0, final_norm=False),
    "olmo3": Llama(wide_norms=True, windows=partial(windows, full_every=4, default=4096)),
    "qwen2_vl": Llama(qkv_bias=True, windows=qwen_windows),
    "qwen2_vl_text": Llama(qkv_bias=True, windows=qwen_windows),
    "qwen2_5_vl": Llama(qkv_bias=True, windows=qwen_windows),
    "qwen2_5_vl_text": Llama(qkv_bias=True, windows=qwen_windows),
    "qwen2_5_omni_text": Llama(qkv_bias=True, windows=qwen_windows),
    "seed_oss": seed_oss,
    "stablelm": stablelm,
    "vaultgemma": Llama(head_dim=256, kv_heads=4, windows=partial(windows, full_every=2, default=4096), tied=True),
    "gemma": Llama(head_dim=256, tied=True),
    "gemma2": Llama(head_dim=256, kv_heads=4, norms=4, windows=partial(windows, full_every=2, default=4096), tied=True),
    "gemma3_text": Llama(
        head_dim=256, kv_heads=4, norms=4, head_norms=True, windows=partial(windows, full_every=6, default=4096), tied=True, absent=_GEMMA_3
    ),
}
