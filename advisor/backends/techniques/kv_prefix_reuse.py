"""Blocks of a cache that requests share."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache, KvLayout
from advisor.backends.refusals import without_attention
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class KvPrefixReuse(Technique):
    """Lets a request take over the cached blocks of an earlier one that begins alike, instead of computing them again.

    Helps when: prompts begin with the same instructions or examples: only the first request pays for them, and they are held once.
    Hurts when: prompts begin differently; then nothing is found.
    Source: RadixAttention in SGLang (arXiv 2312.07104); blocks found by their tokens as in vLLM (docs.vllm.ai, automatic prefix caching).
    """

    name: ClassVar[str] = "kv-prefix-reuse"
    slot: ClassVar[Slot] = Slot.KV_REUSE
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2312.07104", "https://docs.vllm.ai/en/stable/design/prefix_caching.html")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=True, after=("kv-paged",), shared_prefix_tokens=800),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=False, says="--shared-prefix", after=("kv-paged",)),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=False, says="contiguous", shared_prefix_tokens=800),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=False, says="block", after=("kv-paged",), shared_prefix_tokens=9),
        Case("state-spaces/mamba2-2.7b", (1024, 128, 8), accepted=False, says="no softmax attention", shared_prefix_tokens=800),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses prompts that share nothing, or less than a block, and caches whose blocks cannot be shared."""
        shared, kv = request.workload.shared_prefix_tokens, deployment.kv
        if shared is None:
            return "Nothing is known to be shared by the prompts: say how many tokens with --shared-prefix."
        if lacking := without_attention(deployment) or self._beside_states(deployment):
            return lacking
        if kv.layout != KvLayout.PAGED:
            return "Prefixes are shared in blocks, and the cache is contiguous: it takes kv-paged."
        if (window := kv.window or deployment.attention.window) is not None:
            return f"The cache gives back what stands {window:,} tokens behind: a prefix would not stay whole."
        if min(shared, request.workload.prompt_tokens - 1) < kv.block_tokens:
            return f"The {shared} tokens that prompts share fill no block of {kv.block_tokens}, or leave nothing to compute."
        engine = load_engine(deployment.engine)
        return None if engine.prefix_reuse else f"{engine.name} {engine.versions} shares no prefixes."

    def change(self, kv: KvCache, /) -> KvCache:
        """The same cache, its blocks shared."""
        return replace(kv, prefix_reuse=True)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Exact."""
        return LOSSLESS

    def _beside_states(self, deployment: Deployment) -> str | None:
        recurrent = len(deployment.model.recurrent_layers)
        return f"{recurrent} layers keep a recurrent state, which is not kept for the middle of a text." if recurrent else None
