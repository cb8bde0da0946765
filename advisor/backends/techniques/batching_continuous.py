"""Continuous batching."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Batching, BatchPolicy, Deployment
from advisor.backends.refusals import nothing_to_batch
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class BatchingContinuous(Technique):
    """Admits a request as soon as a slot is free; its whole prompt joins a step in which the others decode.

    Helps when: several requests are in flight: a new one does not wait until the longest of a batch has finished.
    Hurts when: prompts are long and TPOT is tight: all decoding sequences wait for the whole prompt; `batching-chunked-prefill` helps.
    Source: Orca (OSDI 2022), iteration-level scheduling.
    """

    step_tokens: int = 2048
    """Most tokens of a step that several prompts share; a longer prompt has a step without others."""

    name: ClassVar[str] = "batching-continuous"
    slot: ClassVar[Slot] = Slot.BATCHING
    sources: ClassVar[tuple[str, ...]] = ("usenix:osdi22-yu",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=False, says="one request"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a single request at a time, and steps that the decoding sequences alone fill."""
        return nothing_to_batch(request, deployment, self.step_tokens)

    def change(self, batching: Batching, /) -> Batching:
        """Continuous batches of whole prompts."""
        return Batching(BatchPolicy.CONTINUOUS, batching.max_sequences, self.step_tokens, chunked=False)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def variants(self) -> tuple[Technique, ...]:
        """Few prompts at a time for TPOT, many for the TTFT of a burst."""
        return (BatchingContinuous(2048), BatchingContinuous(8192))
