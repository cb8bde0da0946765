"""The engine-neutral description of one way to run a model: techniques change it, the estimator prices it.

It holds choices only, no times and no sizes: those are the estimator's.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import DTYPES


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
    """How weight matrices are stored."""

    format: str
    """A name in `advisor.profiles.formats`."""
    group_size: int | None = None
    """Weights per scale along the input dimension; `None` for one scale per output channel or none at all."""
    unquantised_kinds: frozenset[str] = frozenset({"embedding", "head"})
    """Kinds of matrices that are stored in `dtype` instead of `format`."""
    dtype: str | None = None
    """Type of activations and of matrices that are not quantised (vLLM: `--dtype`); `None` for the checkpoint's own."""
    plain_format: str | None = None
    """Format of the matrices that the checkpoint has in 16 bits, where the engine's files convert them; `None` for the checkpoint's."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A block-sparse attention mask (Longformer, arXiv 2004.05150; BigBird, arXiv 2007.14062). Fully masked blocks are not computed."""

    window: int
    """Newest tokens that each token attends to, itself included."""
    global_tokens: int = 0
    """First tokens of the sequence, to which all later ones attend."""
    random_blocks: int = 0
    """Further blocks for each block of queries, drawn at random."""
    block_tokens: int = 64

    @property
    def seen_tokens(self) -> int:
        """Most tokens that a token attends to."""
        return self.window + self.global_tokens + self.random_blocks * self.block_tokens


@dataclass(frozen=True, slots=True)
class Attention:
    """What computes attention, and which of the past tokens each token attends to."""

    backend: AttentionBackend = AttentionBackend.EAGER
    window: int | None = None
    """Newest tokens that each token attends to, itself included; `None` for the model's own mask. Shorter windows of layers stay."""
    pattern: Pattern | None = None
    """Block-sparse mask over a cache that evicts nothing; `None` for dense attention."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """How keys and values of past tokens are stored."""

    layout: KvLayout = KvLayout.CONTIGUOUS
    block_tokens: int = 0
    """Tokens per block; 0 for the contiguous layout."""
    format: str = "bf16"
    """`bf16`, `fp8`, `int8` or `int4`; scales per token and head where the format needs them."""
    window: int | None = None
    """Newest tokens that are retained, the current one included; `None` to evict nothing that the model attends to."""
    sink_tokens: int = 0
    """First tokens of a sequence that are retained in addition to the window (StreamingLLM, arXiv 2309.17453)."""
    prefix_reuse: bool = False
    """Whether requests with a common prefix share its full blocks."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How output tokens are decoded."""

    method: DecodeMethod = DecodeMethod.PLAIN
    draft_tokens: int = 0
    """Draft tokens proposed and verified in one step."""
    acceptance: float = 0.0
    """Expected probability that a draft token is accepted, given that the one before was; 0 without speculation."""
    acceptance_spread: tuple[float, float] = (0.0, 0.0)
    """90 % range of the acceptance."""
    draft_model: ModelSpec | None = None
    """Architecture of the draft model."""
    draft_folder: str | None = None
    """Folder with its weights."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are scheduled into steps."""

    policy: BatchPolicy = BatchPolicy.STATIC
    max_sequences: int = 1
    """Most sequences in one step (vLLM: `max_num_seqs`)."""
    token_budget: int = 0
    """Most tokens in one step (vLLM: `max_num_batched_tokens`); 0 for the engine's default."""
    wait_steps: float = 0.0
    """Mean delay, in decoding steps, until the scheduler sees a new request: polling intervals, delayed batches."""
    chunked: bool = True
    """Whether continuous batching splits prompts into chunks that fill the step; else a prompt over the budget gets a step of its own."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Degrees of parallelism. Their product is the number of devices."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    @property
    def words(self) -> str:
        """The layout in words.

        >>> Parallel(tensor=4, data=2).words, Parallel().words
        ('tensor parallel 4 × data parallel 2', 'one device')
        """
        degrees = {"tensor": self.tensor, "pipeline": self.pipeline, "data": self.data, "expert": self.expert}
        return " × ".join(f"{kind} parallel {degree}" for kind, degree in degrees.items() if degree > 1) or "one device"

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return self.tensor * self.pipeline * self.data

    def idle_devices(self, requests: int | None) -> int:
        """Devices of the replicas that have nothing to do with `requests` in flight; 0 where their number is not known."""
        return 0 if requests is None else max(self.data - requests, 0) * self.tensor * self.pipeline


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model and one record of choices for each aspect of running it."""

    model: ModelSpec
    weights: Weights
    attention: Attention = field(default_factory=Attention)
    kv: KvCache = field(default_factory=KvCache)
    decoding: Decoding = field(default_factory=Decoding)
    batching: Batching = field(default_factory=Batching)
    parallel: Parallel = field(default_factory=Parallel)
    engine: str = "advisor"
    device_dtypes: tuple[str, ...] = ()
    """Types of activations worth choosing from on the device, the fastest first; empty where no device is known."""

    @property
    def decoding_positions(self) -> int:
        """Tokens of a step in which every slot decodes, draft tokens included."""
        return self.batching.max_sequences * (self.decoding.draft_tokens + 1)

    def with_record(self, name: str, record: Any) -> "Deployment":
        """A copy with `record` in the field `name`. Faster than `dataclasses.replace`: a search makes tens of thousands of copies."""
        return Deployment(
            self.model,
            record if name == "weights" else self.weights,
            record if name == "attention" else self.attention,
            record if name == "kv" else self.kv,
            record if name == "decoding" else self.decoding,
            record if name == "batching" else self.batching,
            record if name == "parallel" else self.parallel,
            self.engine,
            self.device_dtypes,
        )

    @property
    def dtype(self) -> str:
        """Type of activations: that of the weights' record, or the checkpoint's own; bf16 where the checkpoint is quantised."""
        own = self.model.weight_format
        return self.weights.dtype or (own if own in DTYPES else "bf16")

    @property
    def element_bytes(self) -> float:
        """Bytes of an activation, a norm's weight or a bias."""
        return 4.0 if self.dtype == "fp32" else 2.0

    def in_dtype(self, dtype: str) -> "Deployment":
        """A copy with activations, matrices that are not quantised and a cache that is not quantised in `dtype`."""
        unquantised = self.weights.format in DTYPES
        weights = replace(self.weights, dtype=dtype, format=dtype if unquantised else self.weights.format)
        kv = replace(self.kv, format=dtype) if self.kv.format in DTYPES else self.kv
        return replace(self, weights=weights, kv=kv)


def baseline(
    model: ModelSpec, *, max_sequences: int, parallel: Parallel | None = None, engine: str = "advisor", dtypes: tuple[str, ...] = ()
) -> Deployment:
    """The unmodified model: its own weight format, eager attention, a contiguous cache, static batching, plain decoding.

    It computes in the first of `dtypes`, those of the device; in the checkpoint's own type where none are given.
    """
    deployment = Deployment(
        model=model,
        weights=Weights(format=model.weight_format, plain_format=load_engine(engine).loading.plain_formats.get(model.weight_format)),
        kv=KvCache(format="bf16"),
        batching=Batching(max_sequences=max_sequences),
        parallel=parallel or Parallel(),
        engine=engine,
        device_dtypes=dtypes,
    )
    return deployment.in_dtype(dtypes[0]) if dtypes and dtypes[0] != model.weight_format else deployment


@dataclass(frozen=True, slots=True)
class CacheRetention:
    """Which tokens a cache retains: the `first` ones and the newest `window`, the current one included."""

    window: int
    first: int = 0

    def front_blocks(self, block_tokens: int) -> int:
        """Blocks of the first tokens, which are never evicted."""
        return -(-self.first // block_tokens)

    def evicted(self, tokens: int, block_tokens: int) -> int:
        """Tokens, in whole blocks after the front ones, that the token at position `tokens` and later ones no longer attend to."""
        unseen = max(tokens - self.window + 1, 0) // block_tokens
        return max(unseen - self.front_blocks(block_tokens), 0) * block_tokens

    def blocks(self, tokens: int, block_tokens: int, new: int = 1) -> int:
        """Most blocks of a sequence of `tokens` tokens while the last `new` of them are written in one step."""
        span = self.window - 1 + new
        most = self.front_blocks(block_tokens) + (span + block_tokens - 2) // block_tokens + 1
        return min(-(-tokens // block_tokens), most)

    def rerotation(self, position: int) -> int:
        """How far the rotary position of a query at `position` moves back when positions are those within the cache.

        StreamingLLM (arXiv 2309.17453), section 3.2; 0 for a cache without first tokens.
        """
        return max(position - (self.first + self.window - 1), 0) if self.first else 0
