"""The engine-neutral description of one way to run a model: what techniques rewrite and the estimator prices.

A deployment says what, never how long or how much: times and sizes are the estimator's.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from advisor.profiles.architectures.spec import ModelSpec


class AttentionBackend(StrEnum):
    """What computes attention. Values as plan files and profiles write them."""

    EAGER = "eager"
    """Scores written to memory."""
    SDPA = "sdpa"
    """torch's scaled_dot_product_attention."""
    FLEX = "flex"
    """torch's flex_attention, compiled."""
    AUTO = "flash"
    """The fastest exact backend for each shape, by timing them once."""
    UNSHARED = "unshared"
    """Fused; in decoding every query head reads its own keys and values, whether heads are grouped or not."""


class KvLayout(StrEnum):
    """How the KV cache is allocated."""

    CONTIGUOUS = "contiguous"
    """Every slot reserves the longest sequence."""
    PAGED = "paged"
    """Blocks are allocated as sequences grow (PagedAttention, arXiv 2309.06180)."""


class DecodeMethod(StrEnum):
    """How the tokens of a decoding step are proposed."""

    PLAIN = "plain"
    """One token a step."""
    PROMPT_LOOKUP = "prompt-lookup"
    """Speculative, from the n-grams of the text."""
    DRAFT = "draft"
    """Speculative, by a draft model."""


class BatchPolicy(StrEnum):
    """When waiting requests are admitted."""

    STATIC = "static"
    """When all requests of the batch before have finished."""
    CONTINUOUS = "continuous"
    """Whenever a slot and cache blocks are free (Orca, OSDI 2022)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How matrices are stored. `format` is one of the names in `advisor.profiles.formats`."""

    format: str
    group_size: int | None = None
    """Weights per scale along the input dimension; `None` for one scale per output channel or none at all."""
    kept_kinds: frozenset[str] = frozenset({"embedding", "head"})
    """Kinds of matrices that stay in the model's own format."""
    kept_format: str | None = None
    """What those are stored in where it is not the model's own format."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a token sees where it does not see everything: in blocks, so that those in which nobody sees anything are skipped."""

    window: int
    """Newest tokens, itself included."""
    global_tokens: int = 0
    """Tokens at the start that everyone sees."""
    random_blocks: int = 0
    """Blocks that each block of queries sees besides."""
    block_tokens: int = 64

    @property
    def seen_tokens(self) -> int:
        """Tokens that one sees at the most."""
        return self.window + self.global_tokens + self.random_blocks * self.block_tokens


@dataclass(frozen=True, slots=True)
class Attention:
    """What computes attention, and which of the past tokens each token attends to."""

    backend: AttentionBackend = AttentionBackend.EAGER
    window: int | None = None
    """Newest tokens that a token sees, itself included, where that is fewer than the model's own; `None` leaves the model as it is."""
    pattern: Pattern | None = None
    """What a token sees of a cache that keeps everything; `None` for all of it."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """Where keys and values of past tokens live."""

    layout: KvLayout = KvLayout.CONTIGUOUS
    block_tokens: int = 0
    """Tokens per block; 0 for the contiguous layout."""
    format: str = "bf16"
    """`bf16`, `fp8`, `int8` or `int4`; scales per token and head where the format needs them."""
    window: int | None = None
    """Newest tokens that stay, the one being computed included; `None` keeps all that the model may see."""
    sink_tokens: int = 0
    """Tokens from the start of a sequence that stay beside the window, at their places within the cache."""
    prefix_reuse: bool = False
    """Whether requests that begin alike share the full blocks of what they have in common."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next tokens are found."""

    method: DecodeMethod = DecodeMethod.PLAIN
    draft_tokens: int = 0
    """Positions proposed and verified in one step."""
    acceptance: float = 0.0
    """Expected share of proposed positions accepted, each given the one before; 0 without speculation."""
    acceptance_spread: tuple[float, float] = (0.0, 0.0)
    """90 % range of the acceptance."""
    draft_model: ModelSpec | None = None
    draft_folder: str | None = None


@dataclass(frozen=True, slots=True)
class Batching:
    """Which requests share a step."""

    policy: BatchPolicy = BatchPolicy.STATIC
    max_sequences: int = 1
    token_budget: int = 0
    """Most tokens in one step; 0 for the engine's usual number."""
    wait_steps: float = 0.0
    """Decoding steps that a request waits before the scheduler looks at it, on average: polling intervals, held batches."""
    chunked: bool = True
    """Whether continuous batches cut prompts into chunks that fill a step; else a prompt that is too long has a step to itself."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """How a model is spread over devices. The product is the number of devices."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model and one choice for each slot."""

    model: ModelSpec
    weights: Weights
    attention: Attention = field(default_factory=Attention)
    kv: KvCache = field(default_factory=KvCache)
    decoding: Decoding = field(default_factory=Decoding)
    batching: Batching = field(default_factory=Batching)
    parallel: Parallel = field(default_factory=Parallel)
    engine: str = "advisor"

    @property
    def decoding_positions(self) -> int:
        """Tokens of a step in which every slot decodes, drafts included."""
        return self.batching.max_sequences * (self.decoding.draft_tokens + 1)

    def with_record(self, name: str, record: Any) -> "Deployment":
        """The same with another record in the field `name`. A search makes tens of thousands, and `replace` takes twice as long."""
        return Deployment(
            self.model,
            record if name == "weights" else self.weights,
            record if name == "attention" else self.attention,
            record if name == "kv" else self.kv,
            record if name == "decoding" else self.decoding,
            record if name == "batching" else self.batching,
            record if name == "parallel" else self.parallel,
            self.engine,
        )


def baseline(model: ModelSpec, *, max_sequences: int, parallel: Parallel | None = None, engine: str = "advisor") -> Deployment:
    """The unmodified model: its own weight format, eager attention, contiguous cache, static batches, plain decoding."""
    return Deployment(
        model=model,
        weights=Weights(format=model.weight_format),
        kv=KvCache(format="bf16"),
        batching=Batching(max_sequences=max_sequences),
        parallel=parallel or Parallel(),
        engine=engine,
    )


@dataclass(frozen=True, slots=True)
class CacheRetention:
    """The next token sees the `first` tokens and the newest `window`, itself included."""

    window: int
    first: int = 0

    def front_blocks(self, block_tokens: int) -> int:
        """Blocks that hold the first tokens and never leave."""
        return -(-self.first // block_tokens)

    def evicted(self, tokens: int, block_tokens: int) -> int:
        """Tokens, in whole blocks after the front, that the one at place `tokens` and all later ones see no more."""
        unseen = max(tokens - self.window + 1, 0) // block_tokens
        return max(unseen - self.front_blocks(block_tokens), 0) * block_tokens

    def blocks(self, tokens: int, block_tokens: int, new: int = 1) -> int:
        """Most blocks that a sequence of `tokens` tokens holds while `new` of them are written together."""
        span = self.window - 1 + new
        most = self.front_blocks(block_tokens) + (span + block_tokens - 2) // block_tokens + 1
        return min(-(-tokens // block_tokens), most)

    def rerotation(self, place: int) -> int:
        """Places between where a token that reads the cache from `place` stands and its place within the cache (arXiv 2309.17453)."""
        return max(place - (self.first + self.window - 1), 0) if self.first else 0
