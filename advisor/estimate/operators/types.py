"""The operators of one step as records: counts and shapes only; what they take is the machine's to say."""

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
    """Sequences that take part in a step alike: `q_tokens` new ones each, `kv_tokens` in all once they are written."""

    phase: Phase
    sequences: int
    q_tokens: int
    kv_tokens: int
    sampled: bool = True
    """Whether logits are wanted: of all new tokens when decoding, of the last one when prefilling."""

    @property
    def rows(self) -> int:
        """New tokens of the part."""
        return self.sequences * self.q_tokens

    @property
    def logit_rows(self) -> int:
        """Rows that the head computes."""
        if not self.sampled:
            return 0
        return self.rows if self.phase == Phase.DECODE else self.sequences


@dataclass(frozen=True, slots=True)
class Gemm:
    """`count` products of `m` rows with `n` by `k` weights stored in `format`, or of `groups` experts with `m` rows each."""

    m: int
    n: int
    k: int
    format: str
    count: int
    groups: float = 1.0
    routed: bool = False
    """Tokens choose among the groups."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """Attention of `count` layers over `sequences` sequences; windows are already applied to `kv_tokens`."""

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
    """One compressed vector serves as key and value (MLA)."""
    computed_share: float = 1.0
    """Share of a prompt's scores that are computed, of those that causal attention has."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes moved and operations done outside products and attention, in `count` places."""

    moved_bytes: float
    flops: float
    count: int


@dataclass(frozen=True, slots=True)
class AllReduce:
    """`count` sums of `payload_bytes` over `ranks` devices."""

    payload_bytes: float
    ranks: int
    count: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """`count` times, every device sends `payload_bytes` to the devices that hold its tokens' experts, or gets them back."""

    payload_bytes: float
    ranks: int
    count: int


Operator = Gemm | AttentionCall | Traffic | AllReduce | Exchange
