"""Speculative decoding from the n-grams of the text."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import DecodeMethod, Decoding, Deployment
from advisor.backends.refusals import not_speculative
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique, acceptance_prior
from advisor.profiles.evidence import Evidence, load_evidence
from advisor.profiles.request import Request, UseCase


@dataclass(frozen=True)
class DecodePromptLookup(Technique):
    """Proposes the tokens that followed the same n-gram earlier in the text, and verifies them in one step.

    Helps when: outputs repeat the prompt (summaries, code edits, retrieval) and batches are small.
    Hurts when: batches are large: verifying rejected draft tokens takes compute from other sequences.
    Source: prompt lookup decoding (github.com/apoorvumang/prompt-lookup-decoding); acceptance from Spec-Bench.
    """

    draft_tokens: int = 3

    name: ClassVar[str] = "decode-prompt-lookup"
    slot: ClassVar[Slot] = Slot.DECODING
    sources: ClassVar[tuple[str, ...]] = ("github.com/apoorvumang/prompt-lookup-decoding", "hemingkx/Spec-Bench")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True, required=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=False, says="--use-case"),
        Case("state-spaces/mamba2-2.7b", (1024, 128, 1), accepted=False, says="rolled back", required=True),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses recurrent states, outputs of one token, and a use case of which nothing is known, unless it is required by name."""
        if request.workload.use_case is UseCase.UNKNOWN and not request.requires(self.name):
            return (
                "It helps only where outputs repeat their prompts, and what requests ask for is not given: set --use-case, "
                "or --require decode-prompt-lookup."
            )
        return not_speculative(request, deployment, "prompt-lookup")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Decoding by prompt lookup, at the acceptance published for the use case."""
        prior = acceptance_prior(load_evidence(), "decode:prompt-lookup", request.workload.use_case)
        decoding = Decoding(DecodeMethod.PROMPT_LOOKUP, self.draft_tokens, prior.middle, (prior.low, prior.high))
        return deployment.with_record(self.slot.record, decoding)

    def change(self, decoding: Decoding, /) -> Decoding:
        """Decoding by prompt lookup."""
        return Decoding(DecodeMethod.PROMPT_LOOKUP, self.draft_tokens)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: the distribution of outputs is the model's own."""
        return LOSSLESS

    def variants(self) -> tuple[Technique, ...]:
        """Few positions for large batches, more for single streams."""
        return tuple(DecodePromptLookup(tokens) for tokens in (2, 3, 4, 6, 8))
