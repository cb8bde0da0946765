"""A paged KV cache."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache, KvLayout
from advisor.backends.refusals import without_attention
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class KvPaged(Technique):
    """Allocates the KV cache in small blocks as sequences grow, instead of reserving the longest sequence for each.

    Helps when: requests are shorter than the longest allowed, or of mixed lengths: more of them fit.
    Hurts when: every request is as long as allowed: nothing is saved, and blocks must be gathered.
    Source: PagedAttention (arXiv 2309.06180).
    """

    block_tokens: int = 16

    name: ClassVar[str] = "kv-paged"
    slot: ClassVar[Slot] = Slot.KV_LAYOUT
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2309.06180",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=True),
        Case("state-spaces/mamba-2.8b-hf", (1024, 128, 8), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a model without softmax attention."""
        return without_attention(deployment)

    def change(self, kv: KvCache, /) -> KvCache:
        """The cache in blocks."""
        return replace(kv, layout=KvLayout.PAGED, block_tokens=self.block_tokens)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def variants(self) -> tuple[Technique, ...]:
        """Small blocks waste less, large ones gather faster."""
        return (KvPaged(16), KvPaged(32), KvPaged(64))
