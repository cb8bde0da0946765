"""Shapes of a decoder's layers: matrices, attention and recurrent mixers. Counts of elements; no storage formats, no times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The weight of a linear layer: `n` output features, `k` input features."""

    name: str
    n: int
    k: int
    kind: str
    """`attention`, `mlp`, `expert`, `shared-expert`, `router`, `mixer`, `embedding` or `head`.

    `router` is any small matrix that decides where activations go and stays unquantised: expert routers, gates, residual mixing.
    """
    copies: int = 1
    """Matrices of this shape in the layer: the number of routed experts, else 1."""
    active: int = 1
    """Copies that one token passes through."""
    bias: bool = False
    stored: str | None = None
    """Storage format in the checkpoint where it differs from the model's `weight_format`."""

    @property
    def parameters(self) -> int:
        """Parameters of all copies, biases included."""
        return self.copies * (self.n * self.k + self.n * self.bias)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes through."""
        return self.active * (self.n * self.k + self.n * self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfAttention:
    """Softmax attention with grouped keys and values: MHA, GQA or MQA, over all tokens, a window, chunks or an indexer's selection."""

    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None
    """Tokens that a query attends to at most; `None` is the full context."""
    chunked: bool = False
    """The window is a chunk with fixed borders (Llama 4), not one that slides."""
    sinks: bool = False
    """Each head has a learned sink logit in the softmax (gpt-oss)."""
    index_topk: int | None = None
    """Tokens that an indexer selects for a query (MiniMax M3: blocks times block size); `None` has no indexer."""
    index_heads: int = 0
    index_dim: int = 0
    """Elements of the indexer's key of one token, and of each of its query heads."""
    reuses_cache: bool = False
    """The layer reads the keys and values of an earlier one and caches none itself (Gemma 3n and 4)."""

    @property
    def cache_elements(self) -> int:
        """Cached elements of one token: keys, values and the indexer's key."""
        if self.reuses_cache:
            return 0
        return self.kv_heads * (self.head_dim + self.value_dim) + self.index_dim

    def cached_elements(self, tokens: int) -> int:
        """Cached elements of a sequence of `tokens` tokens."""
        return self.cache_elements * (min(tokens, self.window) if self.window else tokens)

    def attended_tokens(self, tokens: int) -> int:
        """Cached tokens that the query of the last of `tokens` tokens reads, at most."""
        return min(tokens, self.window or tokens, self.index_topk or tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: all heads read one compressed vector per token, possibly of the tokens that an indexer selects.

    DeepSeek V4 caches the vectors of a window and one vector for every `compression` tokens of the whole context; its keys are
    its values (`kv_rank` is the size of a head, `rope_dim` 0).
    """

    heads: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    window: int | None = None
    """Last tokens that are cached uncompressed; `None` caches every token and compresses none."""
    compression: int | None = None
    """Tokens of one compressed entry; `None` has no such entries."""
    sinks: bool = False
    index_topk: int | None = None
    """Compressed entries that an indexer selects for a query; `None` has no indexer."""
    index_heads: int = 0
    """0 with `index_topk` set: this layer reuses the selection of an earlier one."""
    index_dim: int = 0
    rotary_in_rank: int = 0
    """Elements of the latent vector itself that are rotated (DeepSeek V4)."""

    @property
    def layout(self) -> str:
        """How entries are cached: `dense`, `sparse` where an indexer selects some of them, `compressed` beside a window (DeepSeek V4)."""
        if self.window is not None:
            return "compressed"
        return "dense" if self.index_topk is None else "sparse"

    @property
    def rotary_elements(self) -> int:
        """Elements of one entry that are rotated, within the latent vector or beside it."""
        return self.rope_dim + self.rotary_in_rank

    @property
    def cache_elements(self) -> int:
        """Cached elements of one entry: the latent vector, its rotary part and the indexer's key."""
        return self.kv_rank + self.rope_dim + self.index_dim

    def entries(self, tokens: int) -> int:
        """Cached entries of a context of `tokens` tokens, without those of the window."""
        if self.window is None:
            return tokens
        return tokens // self.compression if self.compression else 0

    def cached_elements(self, tokens: int) -> int:
        """Cached elements of a sequence of `tokens` tokens."""
        in_window = min(tokens, self.window or 0) * (self.kv_rank + self.rope_dim)
        return in_window + self.entries(tokens) * self.cache_elements

    def attended_tokens(self, tokens: int) -> int:
        """Cached entries that the query of the last of `tokens` tokens reads."""
        entries = self.entries(tokens)
        return min(tokens, self.window or 0) + min(entries, self.index_topk or entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentMixer:
    """A mixer with a state of fixed size per sequence: Mamba, gated delta rule, linear attention, RWKV."""

    kind: str
    """`mamba`, `mamba2`, `rwkv4`, `gated-delta` or `kimi-delta`."""
    state_elements: int
    """Elements of the recurrent state of one sequence in one layer."""
    state_bytes_per_element: int
    conv_elements: int
    """Elements of the convolution's state of one sequence in one layer, in the model's format."""
    flops_per_token: int
    """Floating-point operations of the recurrence and its convolution, projections excluded."""

    @property
    def state_bytes(self) -> int:
        """Bytes of one sequence's state in one layer, the convolution's at two bytes per element."""
        return self.state_elements * self.state_bytes_per_element + 2 * self.conv_elements


Mixer = SelfAttention | LatentAttention | RecurrentMixer


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A mixer and an MLP or experts, or one of them alone. Equal layers of a model are one shared object."""

    mixer: Mixer | None
    matrices: tuple[Matrix, ...]
    vector_parameters: int
    """Norms, convolution kernels, decay vectors, sinks and biases that belong to no matrix."""

    @property
    def parameters(self) -> int:
        """All parameters of the layer."""
        return sum(matrix.parameters for matrix in self.matrices) + self.vector_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes through."""
        return sum(matrix.active_parameters for matrix in self.matrices) + self.vector_parameters
