"""Prefix caching."""

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
    """Reuses the cached blocks of earlier requests with the same prefix instead of computing them again.

    Helps when: prompts begin with the same instructions or examples: they are computed and stored once.
    Hurts when: prompts have no common prefix; then nothing is reused.
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
            return "No shared prefix of the prompts is given: set its length with --shared-prefix."
        if lacking := without_attention(deployment) or self._with_states(deployment):
            return lacking
        if kv.layout != KvLayout.PAGED:
            return "Prefixes are shared in blocks, and the cache is contiguous: it needs kv-paged."
        if (window := kv.window or deployment.attention.window) is not None:
            return f"The cache evicts all but the newest {window:,} tokens, and with them the prefix."
        if min(shared, request.workload.prompt_tokens - 1) < kv.block_tokens:
            return f"The {shared} tokens that prompts share do not fill a block of {kv.block_tokens}, or are the whole prompt."
        engine = load_engine(deployment.engine)
        return None if engine.prefix_reuse else f"{engine.name} {engine.versions} has no prefix caching."

    def change(self, kv: KvCache, /) -> KvCache:
        """The cache with shared blocks."""
        return replace(kv, prefix_reuse=True)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def _with_states(self, deployment: Deployment) -> str | None:
        recurrent = len(deployment.model.recurrent_layers)
        return f"{recurrent} layers keep a recurrent state, which is not stored for the middle of a text." if recurrent else None
