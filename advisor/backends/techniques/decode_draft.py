"""Speculative decoding with a draft model."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from advisor.backends.deployment import DecodeMethod, Decoding, Deployment
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import not_speculative
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique, acceptance_prior
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.evidence import Evidence, load_evidence
from advisor.profiles.model_store import SAME_SHAPE, find_model
from advisor.profiles.request import Request


@dataclass(frozen=True)
class DecodeDraft(Technique):
    """Proposes several tokens with a small model of the same vocabulary, and verifies them in one step of the large one.

    Helps when: decoding is bound by reading weights (small batches), and the draft model has a tenth of the size or less.
    Hurts when: batches are large, or the draft model is not much faster than the model: serving is then 1.4 to 1.8 times slower.
    Source: speculative decoding (arXiv 2211.17192); acceptance from Spec-Bench.
    """

    draft_tokens: int = 3

    name: ClassVar[str] = "decode-draft"
    slot: ClassVar[Slot] = Slot.DECODING
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2211.17192", "hemingkx/Spec-Bench")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("meta-llama/Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("mosaicml/mpt-7b", (1024, 128, 1), accepted=False, says="No draft model"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses models without a known draft model, recurrent states, and outputs of one token."""
        if _draft_of(deployment.model.id) is None:
            return f"No draft model that shares the tokenizer of {deployment.model.id} is known."
        return not_speculative(request, deployment, "draft")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Decoding with the draft model, at the published acceptance."""
        draft = _draft_of(deployment.model.id)
        assert draft is not None, "sketch is called only where refuse returned None"
        prior = acceptance_prior(load_evidence(), "decode:draft", request.workload.use_case)
        decoding = Decoding(DecodeMethod.DRAFT, self.draft_tokens, prior.middle, (prior.low, prior.high), draft, draft.folder)
        return replace(deployment, decoding=decoding)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: the distribution of outputs is the model's own."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Load the draft model onto the same device. Raises `AdvisorError` as `load_draft` does."""
        from advisor.backends.model.load import load_draft

        return replace(session, decoding=Decoding(DecodeMethod.DRAFT, self.draft_tokens), draft_model=load_draft(session))

    def variants(self) -> tuple[Technique, ...]:
        """Few positions for large batches, more for single streams."""
        return tuple(DecodeDraft(tokens) for tokens in (2, 3, 4, 6))


@lru_cache(maxsize=64)
def _draft_of(model: str) -> ModelSpec | None:
    draft = load_evidence().draft_for(SAME_SHAPE.get(model, model))
    return find_model(draft) if draft else None
