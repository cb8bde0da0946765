"""The operators of one step as records of counts and shapes. How long each takes depends on the machine: `machines/machine.py`."""

from dataclasses import dataclass
from enum import StrEnum

from advisor.backends.deployment import AttentionBackend, KvLayout

EXACT = (AttentionBackend.SDPA, AttentionBackend.EAGER)
"""Backends that compute the same values; `AttentionBackend.AUTO` is priced as the faster of them."""


class Phase(StrEnum):
    """What a step computes for a sequence."""

    PREFILL = "prefill"
    """Tokens of its prompt."""
    DECODE = "decode"
    """The next output token, and draft tokens to verify."""


@dataclass(frozen=True, slots=True)
class StepPart:
    """Sequences of one shape in a step: each has `q_tokens` new tokens, and `kv_tokens` in the cache once those are written."""

    phase: Phase
    sequences: int
    q_tokens: int
    kv_tokens: int
    sampled: bool = True
    """Whether logits are computed: of every new token when decoding, of the last one when prefilling."""

    @property
    def rows(self) -> int:
        """New tokens of all sequences: rows of the matrix products."""
        return self.sequences * self.q_tokens

    @property
    def logit_rows(self) -> int:
        """Rows of the product with the language-model head."""
        if not self.sampled:
            return 0
        return self.rows if self.phase == Phase.DECODE else self.sequences


@dataclass(frozen=True, slots=True)
class Gemm:
    """`count` matrix products of `[m, k]` activations with `[k, n]` weights stored in `format`, each for `groups` experts."""

    m: int
    n: int
    k: int
    format: str
    count: int
    groups: float = 1.0
    """Experts that are computed, each with `m` rows; 1 for a dense layer."""
    routed: bool = False
    """Whether a router sends each token to some of the experts."""
    dtype: str = "bf16"
    """Type of the activations."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """Attention in `count` layers, each over `sequences` sequences; `kv_tokens` are those inside the layer's window."""

    phase: Phase
    sequences: int
    q_tokens: int
    kv_tokens: int
    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    backend: AttentionBackend
    layout: KvLayout
    kv_format: str
    count: int
    latent: bool = False
    """Whether one compressed vector is both key and value (multi-head latent attention, DeepSeek-V2)."""
    computed_share: float = 1.0
    """Share of a prompt's causal scores that are computed; below 1 with a window or a block pattern."""
    dtype: str = "bf16"
    """Type of queries and of the computation."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """`count` operators that are neither matrix products nor attention, each by the bytes it moves and the operations it does."""

    moved_bytes: float
    flops: float
    count: int


@dataclass(frozen=True, slots=True)
class AllReduce:
    """`count` all-reduces of `payload_bytes` over `ranks` devices."""

    payload_bytes: float
    ranks: int
    count: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """`count` all-to-alls in which each of `ranks` devices sends `payload_bytes`: tokens to their experts, or outputs back."""

    payload_bytes: float
    ranks: int
    count: int


Operator = Gemm | AttentionCall | Traffic | AllReduce | Exchange
