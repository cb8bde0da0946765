"""An fp8 KV cache."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache
from advisor.backends.refusals import not_cacheable
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, quality_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class KvFp8(Technique):
    """Stores keys and values in fp8 (e4m3), in advisor's own runtime with one scale per token and head.

    Helps when: long contexts or many sequences fill the memory, or decoding is bound by reading the cache.
    Hurts when: contexts are short. Its three mantissa bits round more than int8, which takes as many bytes.
    Source: SGLang's fp8 cache (sgl-project/sglang docs/advanced_features/quantized_kv_cache.md).
    """

    name: ClassVar[str] = "kv-fp8"
    slot: ClassVar[Slot] = Slot.KV_FORMAT
    sources: ClassVar[tuple[str, ...]] = ("sgl-project/sglang docs/advanced_features/quantized_kv_cache.md",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (8192, 128, 8), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (8192, 128, 8), accepted=False, says="latent"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses latent caches, models without attention, and engines without the format."""
        return not_cacheable(deployment, "fp8")

    def change(self, kv: KvCache, /) -> KvCache:
        """The same cache in fp8."""
        return replace(kv, format="fp8")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published accuracy with e4m3 keys and values."""
        return quality_prior(evidence, deployment.model, "kv:fp8")
