"""Helpers of the readers of all families: projections, MLPs, experts, windows and which layers have experts."""

from dataclasses import dataclass

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix, Mixer, SelfAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Result of a family's reader: the layers, and the sizes outside of layers."""

    family: str
    """`dense`, `moe`, `mla`, `mla-moe`, `mamba`, `rwkv`, `hybrid` or `hybrid-moe`."""
    hidden_size: int
    vocab_size: int
    max_context_tokens: int
    layers: tuple[Layer, ...]
    vector_parameters: int
    """Parameters outside the layers that belong to no matrix of the embedding or head: final norm, learned positions."""
    tied: bool
    head_bias: bool = False
    layers_per_block: int = 1
    """Entries of `layers` for each layer of the config: 2 where a layer has two mixers (Falcon-H1, LongCat-Flash)."""
    lookups: tuple[Matrix, ...] = ()
    """Embeddings beside that of the input, of which a token reads one row (Gemma 3n and 4: `embed_tokens_per_layer`)."""


def blocks(fields: Fields, family: str, layers: list[Layer], *, tied: bool = False, vectors: int | None = None) -> Blocks:
    """Blocks from `hidden_size`, `vocab_size`, `max_position_embeddings` and `tie_word_embeddings`.

    `vectors` are the parameters outside layers and matrices; without it, one norm of `hidden_size`.
    """
    hidden = fields.count("hidden_size")
    return Blocks(
        family=family,
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("max_position_embeddings"),
        layers=shared(layers),
        vector_parameters=hidden if vectors is None else vectors,
        tied=fields.flag("tie_word_embeddings", default=tied),
    )


def shared(layers: list[Layer]) -> tuple[Layer, ...]:
    """The layers in order, equal ones as one object."""
    unique: dict[Layer, Layer] = {}
    return tuple(unique.setdefault(layer, layer) for layer in layers)


def layer(mixer: Mixer | None, *parts: tuple[Matrix, ...], vectors: int) -> Layer:
    """A layer with the matrices of all `parts` and `vectors` other parameters."""
    return Layer(mixer=mixer, matrices=tuple(matrix for part in parts for matrix in part), vector_parameters=vectors)


def grouped_attention(
    fields: Fields, *, head_dim: int | None = None, kv_heads: int | None = None, window: int | None = None
) -> SelfAttention:
    """Attention from `num_attention_heads`, `num_key_value_heads` and `head_dim`; the arguments are defaults for the last two."""
    heads = fields.count("num_attention_heads")
    dim = fields.count("head_dim", default=head_dim or head_size(fields, "hidden_size", "num_attention_heads"))
    groups = fields.count("num_key_value_heads", default=kv_heads or heads)
    if fields.values.get("num_key_value_heads") is not None and heads % groups:
        raise fields.problem(f"`num_key_value_heads` is {groups}; a divisor of `num_attention_heads`, {heads}, is needed")
    return SelfAttention(q_heads=heads, kv_heads=groups, head_dim=dim, value_dim=dim, window=window)


def head_size(fields: Fields, hidden: str, heads: str) -> int:
    """`hidden` / `heads`, both given as names of keys. Raises `AdvisorError` for more heads than elements."""
    size = fields.count(hidden) // fields.count(heads)
    if not size:
        raise fields.problem(f"`{heads}` is {fields.count(heads)}, more than `{hidden}`")
    return size


def attention_matrices(
    attention: SelfAttention, hidden: int, *, qkv_bias: bool = False, out_bias: bool = False, gated: bool = False
) -> tuple[Matrix, ...]:
    """The four projections of self-attention; `gated` doubles the query projection, for an output gate."""
    queries, keys = attention.q_heads * attention.head_dim, attention.kv_heads * attention.head_dim
    values, mixed = attention.kv_heads * attention.value_dim, attention.q_heads * attention.value_dim
    return (
        Matrix(name="q_proj", n=queries * (1 + gated), k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="k_proj", n=keys, k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="v_proj", n=values, k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="o_proj", n=hidden, k=mixed, kind="attention", bias=out_bias),
    )


def gated_mlp(hidden: int, inner: int, *, kind: str = "mlp", bias: bool = False) -> tuple[Matrix, ...]:
    """Gate, up and down projections."""
    return (
        Matrix(name="gate_proj", n=inner, k=hidden, kind=kind, bias=bias),
        Matrix(name="up_proj", n=inner, k=hidden, kind=kind, bias=bias),
        Matrix(name="down_proj", n=hidden, k=inner, kind=kind, bias=bias),
    )


def plain_mlp(hidden: int, inner: int, *, kind: str = "mlp", bias: bool = False) -> tuple[Matrix, ...]:
    """Up and down projections."""
    return gated_mlp(hidden, inner, kind=kind, bias=bias)[1:]


def router(hidden: int, experts: int, *, bias: bool = False) -> tuple[Matrix, ...]:
    """The matrix that scores the experts."""
    return (Matrix(name="gate", n=experts, k=hidden, kind="router", bias=bias),)


def experts(hidden: int, inner: int, *, copies: int, active: int, gated: bool = True, bias: bool = False) -> tuple[Matrix, ...]:
    """Routed experts: `copies` MLPs of which a token passes through `active`."""
    shapes = (("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner))
    return tuple(
        Matrix(name=name, n=n, k=k, kind="expert", copies=copies, active=active, bias=bias) for name, n, k in shapes[0 if gated else 1 :]
    )


def windows(fields: Fields, *, full_every: int | None = None, full_first: bool = False, default: int | None = None) -> list[int | None]:
    """The sliding window of each layer; `None` is the full context.

    Without `layer_types` every `full_every`-th layer attends to the full context, the first among them with `full_first`, or none if
    that is not set; without `sliding_window` the window is `default`.
    """
    count, window = fields.layer_count(), fields.size("sliding_window", default or 0) or None
    types = kinds(fields, "layer_types", count, {"full_attention", "sliding_attention"})
    if types is None:
        position = 0 if full_first else 1
        return [None if full_every and (index + position) % full_every == 0 else window for index in range(count)]
    return [fields.count("sliding_window", default=default) if kind == "sliding_attention" else None for kind in types]


def patterned_windows(fields: Fields) -> list[int | None]:
    """The window of each layer where `sliding_window_pattern` names every how many layers one attends to the full context, 4 if unset.

    A text such as `LLLG` names the layers of a period: its length counts.
    """
    pattern = fields.values.get("sliding_window_pattern")
    every = len(pattern) if isinstance(pattern, str) else fields.size("sliding_window_pattern", 4)
    if "sliding_window" in fields.values and not fields.size("sliding_window"):
        return [None] * fields.layer_count()
    return windows(fields, full_every=every or 1, default=4096)


def qwen_windows(fields: Fields) -> list[int | None]:
    """The window of each layer as Qwen sets it: only with `use_sliding_window`, from layer `max_window_layers` on."""
    count = fields.layer_count()
    if not fields.flag("use_sliding_window", default=False):
        return [None] * count
    if fields.items("layer_types") is not None:
        return windows(fields)
    window, first = fields.count("sliding_window", default=4096), fields.size("max_window_layers", 28)
    return [window if index >= first else None for index in range(count)]


def kinds(fields: Fields, name: str, count: int, allowed: set[str]) -> list[str] | None:
    """The type of each of `count` layers under `name`; `None` if unset. Raises `AdvisorError` if too short or not among `allowed`."""
    types = fields.items(name)
    if types is None:
        return None
    if len(types) < count:
        raise fields.problem(f"`{name}` has {len(types)} entries for {count} layers")
    for kind in types[:count]:
        if not isinstance(kind, str) or kind not in allowed:
            raise fields.problem(f"`{name}` holds {kind!r}", "known layer types: " + ", ".join(sorted(allowed)))
    return types[:count]


def sparse_layers(fields: Fields, first_dense: int = 0) -> list[bool]:
    """Which layers have experts: from `mlp_layer_types`, `moe_layer_freq`, `first_k_dense_replace` or the family's `first_dense`."""
    count = fields.layer_count()
    types = kinds(fields, "mlp_layer_types", count, {"dense", "sparse"})
    if types is not None:
        return [kind == "sparse" for kind in types]
    frequency = fields.values.get("moe_layer_freq")
    if isinstance(frequency, list):
        if len(frequency) < count:
            raise fields.problem(f"`moe_layer_freq` has {len(frequency)} entries for {count} layers")
        return [bool(entry) for entry in frequency[:count]]
    dense = fields.size("first_k_dense_replace", first_dense)
    return [index >= dense for index in range(count)]
