"""Fused attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Attention, AttentionBackend, Deployment
from advisor.backends.refusals import without_attention
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class AttentionSdpa(Technique):
    """Computes attention with torch's fused scaled-dot-product kernel instead of writing the scores to memory.

    Helps when: prompts are long: the scores of n tokens take n² memory when they are written.
    Hurts when: never: it is exact. On short contexts it changes little.
    Source: FlashAttention (arXiv 2205.14135); torch.nn.functional.scaled_dot_product_attention.
    """

    name: ClassVar[str] = "attention-sdpa"
    slot: ClassVar[Slot] = Slot.ATTENTION
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2205.14135",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (4096, 128, 4), accepted=True),
        Case("state-spaces/mamba2-2.7b", (4096, 128, 4), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a model without softmax attention."""
        return without_attention(deployment)

    def change(self, attention: Attention, /) -> Attention:
        """The fused backend."""
        return replace(attention, backend=AttentionBackend.SDPA)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS
