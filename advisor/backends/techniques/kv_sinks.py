"""A KV cache of attention sinks and the newest tokens."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache
from advisor.backends.refusals import not_evictable, not_narrowed, without_attention
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, forgetting_prior
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request

WINDOWS = (1020, 4092)


@dataclass(frozen=True)
class KvSinks(Technique):
    """Retains the first and the newest tokens in the cache, with positions counted within it, and evicts all others.

    Helps when: sequences are much longer than the window: perplexity stays low while the window bounds the memory.
    Hurts when: outputs depend on evicted tokens, which the perplexity of running text does not show.
    Source: StreamingLLM (arXiv 2309.17453).
    """

    first_tokens: int = field(default=4, metadata={"least": 0})
    window: int = 4092

    name: ClassVar[str] = "kv-sinks"
    slot: ClassVar[Slot] = Slot.KV_EVICTION
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2309.17453",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=True, after=("kv-paged",), required=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="--require kv-sinks", after=("kv-paged",)),
        Case("meta-llama/Meta-Llama-3.1-8B", (2048, 128, 4), accepted=False, says="No sequence is longer than 2,176"),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="blocks", required=True),
        Case("EleutherAI/gpt-j-6b", (16384, 1024, 8), accepted=False, says="neighbouring pairs", after=("kv-paged",), required=True),
        Case("mosaicml/mpt-7b", (16384, 1024, 8), accepted=False, says="are linear", after=("kv-paged",), required=True),
        Case("openai/gpt-oss-20b", (16384, 1024, 8), accepted=False, says="windows of their own", after=("kv-paged",), required=True),
        Case("state-spaces/mamba-2.8b-hf", (16384, 1024, 8), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses what kv-window refuses, and models whose keys cannot be re-rotated to positions within the cache."""
        retained = self.first_tokens + self.window
        sentence = without_attention(deployment) or not_narrowed(request, deployment, self.name, retained) or not_evictable(deployment)
        if sentence is not None:
            return sentence
        if deployment.model.positions != "rotary":
            return f"Positions within the cache need rotary positions of the half-split kind; the model's are {deployment.model.positions}."
        mixers = [layer.mixer for layer in deployment.model.attention_layers]
        own = sum(not isinstance(mixer, SelfAttention) or mixer.window is not None for mixer in mixers)
        return f"{own} layers have windows of their own or compressed keys, which leave out first tokens." if own else None

    def change(self, kv: KvCache, /) -> KvCache:
        """The cache with a window and first tokens."""
        return replace(kv, window=self.window, sink_tokens=self.first_tokens)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published scores on long prompts of which a quarter or half was retained."""
        longest, reach = request.workload.longest_tokens, self.first_tokens + self.window
        return forgetting_prior(evidence, deployment.model, "kv:sinks", reach=reach, longest=longest)

    def variants(self) -> tuple[Technique, ...]:
        """A short and a long window."""
        return tuple(KvSinks(window=window) for window in WINDOWS)
