"""Sliding-window attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Attention, Deployment
from advisor.backends.refusals import not_narrowed, own_window, without_attention
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, forgetting_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request

WINDOWS = (1024, 4096)


@dataclass(frozen=True)
class AttentionSlidingWindow(Technique):
    """Restricts attention to a window of the newest tokens, in prompts too; a paged cache evicts older ones.

    Helps when: prompts are much longer than the window: their attention grows with the length, not with its square.
    Hurts when: the model was not trained with a window: perplexity rises steeply once the first tokens are outside it.
    Source: Mistral 7B (arXiv 2310.06825), trained with it; StreamingLLM (arXiv 2309.17453, table 1) for models that were not.
    """

    window: int = 4096

    name: ClassVar[str] = "attention-sliding-window"
    slot: ClassVar[Slot] = Slot.ARCHITECTURE
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2310.06825", "arxiv:2309.17453")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=True, required=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="--require attention-sliding-window"),
        Case("meta-llama/Meta-Llama-3.1-8B", (2048, 128, 4), accepted=False, says="No sequence is longer than 2,176"),
        Case("state-spaces/mamba-2.8b-hf", (16384, 1024, 8), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses sequences that fit in the window, models with shorter windows of their own, and requests that do not name it."""
        sentence = without_attention(deployment) or not_narrowed(request, deployment, self.name, self.window)
        own = own_window(deployment)
        if sentence is None and own is not None and own <= self.window:
            return f"The model's own layers attend to at most {own:,} tokens."
        return sentence

    def change(self, attention: Attention, /) -> Attention:
        """Attention of every layer within this window, or within its own shorter one."""
        return replace(attention, window=self.window)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published perplexity of a model not trained with a window, once its first tokens are outside."""
        longest = request.workload.longest_tokens
        return forgetting_prior(evidence, deployment.model, "kv:window", reach=self.window, longest=longest)

    def variants(self) -> tuple[Technique, ...]:
        """A short and a long window."""
        return tuple(AttentionSlidingWindow(window) for window in WINDOWS)
