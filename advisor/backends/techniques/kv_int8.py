"""An int8 KV cache."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache
from advisor.backends.refusals import not_cacheable
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, quality_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class KvInt8(Technique):
    """Stores keys and values in int8 with one scale per token and head.

    Helps when: long contexts or many sequences fill the memory, or decoding is bound by reading the cache.
    Hurts when: contexts are short: conversion takes time and saves little memory.
    Source: LMDeploy's KV quantisation (InternLM/lmdeploy docs/en/quantization/kv_quant.md).
    """

    name: ClassVar[str] = "kv-int8"
    slot: ClassVar[Slot] = Slot.KV_FORMAT
    sources: ClassVar[tuple[str, ...]] = ("InternLM/lmdeploy docs/en/quantization/kv_quant.md",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (8192, 128, 8), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (8192, 128, 8), accepted=False, says="latent"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses latent caches, models without attention, and engines without the format."""
        return not_cacheable(deployment, "int8")

    def change(self, kv: KvCache, /) -> KvCache:
        """The same cache in int8."""
        return replace(kv, format="int8")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published accuracy with int8 keys and values."""
        return quality_prior(evidence, deployment.model, "kv:int8")
