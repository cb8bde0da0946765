"""Shapes that kernels are timed on: heads and matrices of public models, batches and contexts; and tiny ones for trials of the flow."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What kernels see of a model."""

    name: str
    heads: int
    kv_heads: int
    width: int
    """Elements of a head."""
    hidden: int
    intermediate: int
    vocabulary: int
    window: int | None = None
    sinks: bool = False
    """Whether a learned sink logit is added to the scores."""

    @property
    def qkv(self) -> int:
        """Outputs of the joined projection of queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.width

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of the matrices of a layer, and of the head."""
        return {
            "qkv": (self.qkv, self.hidden),
            "o": (self.hidden, self.heads * self.width),
            "gate-up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
            "head": (self.vocabulary, self.hidden),
        }


LLAMA_8B = Model(name="llama-8b", heads=32, kv_heads=8, width=128, hidden=4096, intermediate=14336, vocabulary=128256)
LLAMA_70B = Model(name="llama-70b", heads=64, kv_heads=8, width=128, hidden=8192, intermediate=28672, vocabulary=128256)
GEMMA_9B = Model(name="gemma-9b", heads=16, kv_heads=8, width=256, hidden=3584, intermediate=14336, vocabulary=256000)
GPT_OSS = Model(
    name="gpt-oss", heads=64, kv_heads=8, width=64, hidden=2880, intermediate=2880, vocabulary=201088, window=128, sinks=True
)  # fmt: skip
QWEN3_06B = Model(name="qwen3-0.6b", heads=16, kv_heads=8, width=128, hidden=1024, intermediate=3072, vocabulary=151936)
TINY = Model(name="tiny", heads=2, kv_heads=1, width=32, hidden=128, intermediate=128, vocabulary=256)


@dataclass(frozen=True, slots=True)
class Decode:
    """Sequences that attend with one new token each to that number of cached tokens."""

    model: Model
    batch: int
    context: int
    peers: bool = False
    """Whether to compile flex_attention for it, which takes long."""

    @property
    def name(self) -> str:
        """As in the results."""
        return f"{self.model.name}-{self.batch}x{self.context}"

    @property
    def kv_elements(self) -> int:
        """Elements of keys and values."""
        seen = self.context if self.model.window is None else min(self.context, self.model.window)
        return 2 * self.batch * self.model.kv_heads * seen * self.model.width


DECODES = (
    Decode(LLAMA_8B, 32, 4097, peers=True),
    Decode(LLAMA_8B, 32, 16384, peers=True),
    Decode(LLAMA_8B, 8, 32768),
    Decode(LLAMA_8B, 1, 131072, peers=True),
    Decode(LLAMA_8B, 128, 1024),
    Decode(LLAMA_70B, 32, 4097),
    Decode(GEMMA_9B, 8, 32768),
    Decode(QWEN3_06B, 32, 4097),
    Decode(GPT_OSS, 128, 4097),
    Decode(LLAMA_8B, 1, 4097),
    Decode(LLAMA_8B, 1, 32768),
    Decode(LLAMA_8B, 8, 4097),
    Decode(LLAMA_8B, 32, 1024),
    Decode(LLAMA_8B, 32, 128),
    Decode(GPT_OSS, 32, 32768),
    Decode(LLAMA_70B, 8, 32768),
    Decode(GEMMA_9B, 32, 4097),
    Decode(QWEN3_06B, 128, 1024),
    Decode(QWEN3_06B, 1, 32768),
    Decode(LLAMA_8B, 1, 1024),
    Decode(LLAMA_8B, 128, 4097),
)
"""Most telling first. Contexts that are no multiple of a tile are among them on purpose."""
TINY_DECODES = (Decode(TINY, 1, 17),)

LINEARS = (
    *((LLAMA_8B, matrix, rows) for rows in (1, 16) for matrix in ("gate-up", "down", "qkv", "o")),
    *((LLAMA_8B, "gate-up", rows) for rows in (4, 8, 32, 64, 256, 1024, 4096)),
    *((LLAMA_70B, "gate-up", rows) for rows in (1, 16)),
    *((QWEN3_06B, "gate-up", rows) for rows in (1, 16)),
    *((LLAMA_8B, "head", rows) for rows in (1,)),
)
"""Model, matrix, rows of activations."""
TINY_LINEARS = ((TINY, "gate-up", 1),)

ROWS = ((8192, 4096), (32768, 4096), (1, 4096), (32, 4096), (128, 4096), (8192, 8192))
"""Rows and elements of a row of operators that go over each row once."""
TINY_ROWS = ((2, 64),)


@dataclass(frozen=True, slots=True)
class Prefill:
    """A single prompt of that number of tokens."""

    model: Model
    tokens: int
    pattern: str
    """One of `PATTERNS`."""
    peers: bool = False
    """Whether to compile flex_attention for it: for a window alone."""

    @property
    def name(self) -> str:
        """As in the results."""
        return f"{self.model.name}-{self.tokens}-{self.pattern}"


PATTERNS: dict[str, dict[str, object]] = {
    "dense": {},
    "window": {"window": 4096},
    "streaming": {"window": 1024, "first": 64},
    "longformer": {"window": 1024, "global_tokens": tuple(range(32))},
    "bigbird": {"window": 1024, "global_tokens": tuple(range(32)), "random_blocks": 8},
    "tiny": {"window": 32, "first": 8, "block": 32},
}
"""Options of a block pattern: Mistral's window, StreamingLLM, Longformer and BigBird; `tiny` is for trials of the flow."""
PREFILLS = (
    Prefill(LLAMA_8B, 16384, "window", peers=True),
    Prefill(LLAMA_8B, 16384, "bigbird"),
    Prefill(LLAMA_8B, 16384, "longformer"),
    Prefill(LLAMA_8B, 16384, "streaming"),
    Prefill(LLAMA_8B, 4096, "dense"),
    Prefill(LLAMA_8B, 65536, "bigbird"),
    Prefill(GEMMA_9B, 16384, "window"),
)
TINY_PREFILLS = (Prefill(TINY, 96, "tiny"),)
