"""Readers of decoders of Llama's shape whose MLPs are routed experts, as differences from one description.

Families: OLMoE, FlexOlmo, Phi-3.5-MoE, Granite 3 MoE, ERNIE 4.5 MoE, dots.llm1, AFMoE, K-EXAONE, Hunyuan and Hy, Solar, Mellum 2,
Command A MoE. Keys: those of `moe.py`, with the families' own names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from advisor.profiles.architectures.dense import Llama
from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix
from advisor.profiles.architectures.parts import (
    Blocks,
    experts,
    gated_mlp,
    patterned_windows,
    qwen_windows,
    router,
    sparse_layers,
    windows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Reads a family with routed experts. The fields are names of its keys and its differences; `decoder` has its attention and norms."""

    decoder: Llama = field(default_factory=Llama)
    copies: str = "num_experts"
    """The key of the number of routed experts."""
    active: str = "num_experts_per_tok"
    """The key of the experts of a token; a list holds one number for each layer."""
    inner: str = "moe_intermediate_size"
    shared: Callable[[Fields], int] = lambda fields: 0
    """The width of the shared expert; 0 has none."""
    sparse: Callable[[Fields], list[bool]] = sparse_layers
    """Which layers have experts."""
    expert_vectors: int = 0
    """Parameters of the router for each expert, beside its matrix."""
    absent: tuple[int | None, int | None] = (None, None)
    """Routed experts, and those of a token, where the config leaves them out."""
    attention_gate: bool = False
    """The attention's output has a gate as wide as its queries."""

    def __call__(self, fields: Fields) -> Blocks:
        """The layers of a config of this family. Raises `AdvisorError` `model-config` naming the key at fault."""
        fields, decoder = self.decoder.described(fields), self.decoder
        hidden, moe, copies = fields.count("hidden_size"), self._experts(fields), self._copies(fields)
        bias = fields.flag("mlp_bias", default=False)
        layers = []
        for window, sparse in zip(decoder.layer_windows(fields), self.sparse(fields), strict=True):
            mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"), bias=bias)
            layers.append(self._gated(decoder.layer(fields, window, mlp, vectors=self.expert_vectors * copies * sparse), hidden))
        return decoder.blocks(fields, "moe", layers)

    def _copies(self, fields: Fields) -> int:
        return fields.count(self.copies, "num_experts", "num_local_experts", "n_routed_experts", default=self.absent[0])

    def _experts(self, fields: Fields) -> tuple[Matrix, ...]:
        hidden, inner, copies = fields.count("hidden_size"), fields.count(self.inner), self._copies(fields)
        active = first(fields, self.active).count(self.active, default=self.absent[1])
        if active > copies:
            raise fields.problem(f"`{self.active}` is {active}, more than the {copies} experts")
        shared = self.shared(fields)
        bias = fields.flag("mlp_bias", default=False)
        return (
            *router(hidden, copies),
            *experts(hidden, inner, copies=copies, active=active),
            *(gated_mlp(hidden, shared, kind="shared-expert", bias=bias) if shared else ()),
        )

    def _gated(self, layer: Layer, hidden: int) -> Layer:
        """The layer with the gate of its attention's output."""
        if not self.attention_gate:
            return layer
        width = next(matrix.n for matrix in layer.matrices if matrix.name == "q_proj")
        gate = Matrix(name="attention_gate", n=width, k=hidden, kind="attention")
        return replace(layer, matrices=(*layer.matrices[:4], gate, *layer.matrices[4:]))


def first(fields: Fields, name: str) -> Fields:
    """The config with the first entry of a list under `name` instead of the list."""
    value = fields.values.get(name)
    return Fields({**fields.values, name: value[0]}, fields.where) if isinstance(value, list) and value else fields


def _times(count: str, width: str, absent: int = 0) -> Callable[[Fields], int]:
    """The width of shared experts as one MLP: their number times the width of one."""
    return lambda fields: fields.size(count, absent) * fields.count(width)


def _every_layer(fields: Fields) -> list[bool]:
    return [True] * fields.layer_count()


def _ernie_layers(fields: Fields) -> list[bool]:
    """ERNIE 4.5: every `moe_layer_interval`-th layer from `moe_layer_start_index` to `moe_layer_end_index`; -1 is the last."""
    count, every = fields.layer_count(), fields.count("moe_layer_interval", default=1)
    first, last = fields.size("moe_layer_start_index", 1), fields.values.get("moe_layer_end_index", -1)
    end = count - 1 if last in (None, -1) else fields.size("moe_layer_end_index")
    return [(index + 1) % every == 0 and first <= index <= end for index in range(count)]


def _after_dense(fields: Fields) -> list[bool]:
    """AFMoE and LFM 2: dense layers first, `num_dense_layers` of them."""
    dense = fields.size("num_dense_layers", 1)
    return [index >= dense for index in range(fields.layer_count())]


def _after_first(fields: Fields) -> list[bool]:
    return sparse_layers(fields, first_dense=1)


def _dots_windows(fields: Fields) -> list[int | None]:
    """dots.llm1: windows from `max_window_layers` on, wherever `sliding_window` is set."""
    set_window = fields.size("sliding_window") > 0
    described = {"max_window_layers": 62, **fields.values, "use_sliding_window": set_window}
    return qwen_windows(Fields(described, fields.where))


def _afmoe_windows(fields: Fields) -> list[int | None]:
    return windows(fields, full_every=fields.count("global_attn_every_n_layers", default=4), default=1024)


def phimoe(fields: Fields) -> Blocks:
    """Phi-3.5-MoE: norms with biases, a head with a bias where `lm_head_bias` is set."""
    reader = Routed(
        decoder=Llama(norm_bias=True, kv_heads=8),
        copies="num_local_experts",
        inner="intermediate_size",
        sparse=_every_layer,
        absent=(16, 2),
    )
    return replace(reader(fields), head_bias=fields.flag("lm_head_bias", default=False))


_OLMOE = Routed(decoder=Llama(wide_norms=True), inner="intermediate_size", sparse=_every_layer, absent=(64, 8))
_GRANITE = Routed(
    copies="num_local_experts",
    inner="intermediate_size",
    sparse=_every_layer,
    absent=(8, 2),
    shared=lambda fields: fields.size("shared_intermediate_size"),
)
ROUTED_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "olmoe": _OLMOE,
    "flex_olmo": replace(_OLMOE, absent=(7, 5)),
    "phimoe": phimoe,
    "granitemoe": replace(_GRANITE, shared=lambda fields: 0),
    "granitemoeshared": _GRANITE,
    "ernie4_5_moe": Routed(
        decoder=Llama(kv_heads=4, tied=True, keys={"attention_bias": "use_bias", "mlp_bias": "use_bias"}),
        copies="moe_num_experts",
        active="moe_k",
        shared=_times("moe_num_shared_experts", "moe_intermediate_size", 2),
        sparse=_ernie_layers,
        expert_vectors=1,
        absent=(64, 6),
    ),
    "dots1": Routed(
        decoder=Llama(head_norms=True, windows=_dots_windows),
        copies="n_routed_experts",
        shared=_times("n_shared_experts", "moe_intermediate_size"),
    ),
    "afmoe": Routed(
        decoder=Llama(head_norms=True, head_dim=128, norms=4, windows=_afmoe_windows),
        shared=_times("num_shared_experts", "moe_intermediate_size", 2),
        sparse=_after_dense,
        expert_vectors=1,
        attention_gate=True,
        absent=(64, 6),
    ),
    "exaone_moe": Routed(
        decoder=Llama(head_norms=True, kv_heads=32, windows=patterned_windows),
        shared=_times("num_shared_experts", "moe_intermediate_size", 1),
        sparse=_after_first,
        absent=(64, 8),
    ),
    "hunyuan_v1_moe": Routed(
        decoder=Llama(head_norms=True),
        active="moe_topk",
        inner="intermediate_size",
        shared=lambda fields: fields.count("intermediate_size"),
        sparse=_every_layer,
        absent=(1, 1),
    ),
    "hy_v3": Routed(
        decoder=Llama(head_norms=True, head_dim=128, kv_heads=8),
        shared=_times("num_shared_experts", "moe_intermediate_size", 1),
        sparse=_after_first,
        absent=(192, 8),
    ),
    "solar_open": Routed(
        decoder=Llama(head_dim=128, kv_heads=8),
        copies="n_routed_experts",
        shared=_times("n_shared_experts", "moe_intermediate_size", 1),
        sparse=_every_layer,
        absent=(128, 8),
    ),
    "mellum": Routed(decoder=Llama(head_norms=True, head_dim=128, kv_heads=4, windows=windows), absent=(64, 8)),
    "cohere2_moe": Routed(
        decoder=Llama(norms=1, head_dim=128, windows=patterned_windows, tied=True),
        inner="intermediate_size",
        shared=_times("num_shared_experts", "intermediate_size"),
        absent=(8, 2),
    ),
}
