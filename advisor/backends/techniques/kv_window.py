"""A KV cache of the newest tokens."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache
from advisor.backends.refusals import not_evictable, not_narrowed, own_window, without_attention
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, forgetting_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request

WINDOWS = (1024, 4096)


@dataclass(frozen=True)
class KvWindow(Technique):
    """Retains the newest tokens of each sequence in the cache and evicts older blocks as it grows.

    Helps when: outputs depend on recent tokens only, and the cache must not grow with the sequence.
    Hurts when: evicted tokens matter; most models also need their first tokens, which kv-sinks retains.
    Source: window attention as in StreamingLLM's comparison (arXiv 2309.17453, table 1).
    """

    window: int = 4096

    name: ClassVar[str] = "kv-window"
    slot: ClassVar[Slot] = Slot.KV_EVICTION
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2309.17453",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=True, after=("kv-paged",), required=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="--require kv-window", after=("kv-paged",)),
        Case("meta-llama/Meta-Llama-3.1-8B", (2048, 128, 4), accepted=False, says="No sequence is longer than 2,176"),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="blocks", required=True),
        Case("state-spaces/mamba-2.8b-hf", (16384, 1024, 8), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses short sequences, caches without blocks, models with shorter windows, and requests that do not name it."""
        narrowed = not_narrowed(request, deployment, self.name, self.window)
        sentence = without_attention(deployment) or narrowed or not_evictable(deployment)
        if sentence is not None:
            return sentence
        own = own_window(deployment)
        return f"The model's own layers attend to at most {own:,} tokens." if own is not None and own <= self.window else None

    def change(self, kv: KvCache, /) -> KvCache:
        """The cache with a window."""
        return replace(kv, window=self.window)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published perplexity once the first tokens are evicted."""
        longest = request.workload.longest_tokens
        return forgetting_prior(evidence, deployment.model, "kv:window", reach=self.window, longest=longest)

    def variants(self) -> tuple[Technique, ...]:
        """A short and a long window."""
        return tuple(KvWindow(window) for window in WINDOWS)
